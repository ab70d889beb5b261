"""A thousand tasks give way with sleep(0) in turn."""

import asyncio
import time

TASKS = 1000
BATCH = 20 * TASKS


async def sleeper(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def main(operations: int) -> float:
    tasks = [asyncio.create_task(sleeper(operations // TASKS)) for _ in range(TASKS)]
    started = time.perf_counter()
    for task in tasks:
        await task
    return time.perf_counter() - started
