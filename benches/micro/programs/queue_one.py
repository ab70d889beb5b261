"""One task puts items into a queue of ten places, another gets them; one operation is one item."""

import asyncio
import time

BATCH = 1000


async def put(queue: asyncio.Queue[int], times: int) -> None:
    for number in range(times):
        await queue.put(number)


async def main(operations: int) -> float:
    queue: asyncio.Queue[int] = asyncio.Queue(10)
    producer = asyncio.create_task(put(queue, operations))
    started = time.perf_counter()
    for _ in range(operations):
        await queue.get()
    took = time.perf_counter() - started
    await producer
    return took
