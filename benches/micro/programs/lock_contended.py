"""Ten tasks want the same lock, and give way while they have it; one operation is one turn."""

import asyncio
import time

TASKS = 10
BATCH = 100 * TASKS


async def turns(lock: asyncio.Lock, times: int) -> None:
    for _ in range(times):
        async with lock:
            await asyncio.sleep(0)


async def main(operations: int) -> float:
    lock = asyncio.Lock()
    tasks = [asyncio.create_task(turns(lock, operations // TASKS)) for _ in range(TASKS)]
    started = time.perf_counter()
    for task in tasks:
        await task
    return time.perf_counter() - started
