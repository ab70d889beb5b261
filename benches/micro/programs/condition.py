"""Two tasks pass a turn to each other through a condition; one operation is there and back."""

import asyncio
import time

BATCH = 1000


async def side(condition, table, mine, times):
    for _ in range(times):
        async with condition:
            while table["turn"] != mine:
                await condition.wait()
            table["turn"] = 1 - mine
            condition.notify()


async def main(operations):
    condition = asyncio.Condition()
    table = {"turn": 0}
    sides = [asyncio.create_task(side(condition, table, mine, operations)) for mine in (0, 1)]
    started = time.perf_counter()
    for task in sides:
        await task
    return time.perf_counter() - started
