"""Resident memory of a hundred thousand tasks, each suspended on a future of its own."""

import asyncio

from .parts.resident import resident

BATCH = 100_000
BYTES = True


async def suspended(loop: asyncio.AbstractEventLoop) -> None:
    await loop.create_future()


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    before = resident()
    tasks = [asyncio.create_task(suspended(loop)) for _ in range(operations)]
    await asyncio.sleep(0)
    used = resident() - before
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return used
