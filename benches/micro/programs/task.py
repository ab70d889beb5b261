"""Create a task that returns at once and await it."""

import asyncio
import time

BATCH = 1000


async def nothing() -> None:
    pass


async def main(operations: int) -> float:
    started = time.perf_counter()
    for _ in range(operations):
        await asyncio.create_task(nothing())
    return time.perf_counter() - started
