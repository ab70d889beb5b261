"""A TaskGroup of a hundred tasks that return at once; one operation is one task."""

import asyncio
import time

BATCH = 100


async def nothing() -> None:
    pass


async def main(operations: int) -> float:
    started = time.perf_counter()
    for _ in range(operations // BATCH):
        async with asyncio.TaskGroup() as group:
            for _ in range(BATCH):
                group.create_task(nothing())
    return time.perf_counter() - started
