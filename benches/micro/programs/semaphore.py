"""Twenty tasks share a semaphore of five, and give way while they have it; one operation is
one turn."""

import asyncio
import time

TASKS = 20
PLACES = 5
BATCH = 50 * TASKS


async def turns(semaphore: asyncio.Semaphore, times: int) -> None:
    for _ in range(times):
        async with semaphore:
            await asyncio.sleep(0)


async def main(operations: int) -> float:
    semaphore = asyncio.Semaphore(PLACES)
    tasks = [asyncio.create_task(turns(semaphore, operations // TASKS)) for _ in range(TASKS)]
    started = time.perf_counter()
    for task in tasks:
        await task
    return time.perf_counter() - started
