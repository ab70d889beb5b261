"""Schedule 200,000 callbacks whose handles are kept; that they run is not counted."""

import asyncio
import time

BATCH = 200_000


def callback() -> None:
    pass


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    took = 0.0
    for _ in range(operations // BATCH):
        started = time.perf_counter()
        handles = [loop.call_soon(callback) for _ in range(BATCH)]
        took += time.perf_counter() - started
        await asyncio.sleep(0)
        del handles
    return took
