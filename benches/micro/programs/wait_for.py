"""wait_for a coroutine that lets others run once, in time."""

import asyncio
import time

BATCH = 1000


async def main(operations: int) -> float:
    started = time.perf_counter()
    for _ in range(operations):
        await asyncio.wait_for(asyncio.sleep(0), 10)
    return time.perf_counter() - started
