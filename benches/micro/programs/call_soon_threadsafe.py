"""Another thread schedules a thousand callbacks and waits until the loop has run them."""

import asyncio
import threading
import time

BATCH = 1000


def callback():
    pass


def submit(loop, batches, done):
    for _ in range(batches):
        ran = threading.Event()
        for _ in range(BATCH - 1):
            loop.call_soon_threadsafe(callback)
        loop.call_soon_threadsafe(ran.set)
        ran.wait()
    loop.call_soon_threadsafe(done.set_result, None)


async def main(operations):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    started = time.perf_counter()
    thread = threading.Thread(target=submit, args=(loop, operations // BATCH, done))
    thread.start()
    await done
    took = time.perf_counter() - started
    thread.join()
    return took
