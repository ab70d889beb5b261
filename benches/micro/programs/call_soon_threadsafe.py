"""Another thread schedules a thousand callbacks and waits until the loop has run them."""

import asyncio
import threading
import time

BATCH = 1000


def callback() -> None:
    pass


def submit(loop: asyncio.AbstractEventLoop, batches: int, done: asyncio.Future[None]) -> None:
    for _ in range(batches):
        ran = threading.Event()
        for _ in range(BATCH - 1):
            loop.call_soon_threadsafe(callback)
        loop.call_soon_threadsafe(ran.set)
        ran.wait()
    loop.call_soon_threadsafe(done.set_result, None)


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    started = time.perf_counter()
    thread = threading.Thread(target=submit, args=(loop, operations // BATCH, done))
    thread.start()
    await done
    took = time.perf_counter() - started
    thread.join()
    return took
