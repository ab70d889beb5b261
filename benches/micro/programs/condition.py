"""Two tasks notify each other through a condition; one operation is there and back."""

import asyncio
import time

BATCH = 1000


async def side(condition: asyncio.Condition, times: int) -> None:
    async with condition:
        for _ in range(times):
            condition.notify()
            await condition.wait()
        condition.notify()


async def main(operations: int) -> float:
    condition = asyncio.Condition()
    sides = [asyncio.create_task(side(condition, operations)) for _ in range(2)]
    started = time.perf_counter()
    for task in sides:
        await task
    return time.perf_counter() - started
