"""wait for a hundred tasks that return at once; one operation is one task."""

import asyncio
import time

BATCH = 100


async def nothing() -> None:
    pass


async def main(operations: int) -> float:
    started = time.perf_counter()
    for _ in range(operations // BATCH):
        await asyncio.wait([asyncio.create_task(nothing()) for _ in range(BATCH)])
    return time.perf_counter() - started
