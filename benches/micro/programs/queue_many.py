"""Ten tasks put items into a queue of five places, ten others get them; one operation is one of
the items."""

import asyncio
import time

TASKS = 10
BATCH = 100 * TASKS


async def put(queue: asyncio.Queue[int], times: int) -> None:
    for number in range(times):
        await queue.put(number)


async def get(queue: asyncio.Queue[int], times: int) -> None:
    for _ in range(times):
        await queue.get()
        queue.task_done()


async def main(operations: int) -> float:
    queue: asyncio.Queue[int] = asyncio.Queue(5)
    times = operations // TASKS
    tasks = [asyncio.create_task(work(queue, times)) for work in (put, get) for _ in range(TASKS)]
    started = time.perf_counter()
    for task in tasks:
        await task
    await queue.join()
    return time.perf_counter() - started
