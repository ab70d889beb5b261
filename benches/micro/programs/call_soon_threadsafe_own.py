"""Schedule a thousand callbacks by call_soon_threadsafe from the loop's own thread, let the loop
run them, again and again."""

import asyncio
import time

BATCH = 1000


def callback() -> None:
    pass


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for _ in range(operations // BATCH):
        done = loop.create_future()
        for _ in range(BATCH - 1):
            loop.call_soon_threadsafe(callback)
        loop.call_soon_threadsafe(done.set_result, None)
        await done
    return time.perf_counter() - started
