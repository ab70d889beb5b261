"""Resident memory of a hundred thousand tasks, each suspended on a future of its own."""

import asyncio
import gc
import os

BATCH = 100_000


def resident() -> int:
    """Bytes of resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def suspended(loop: asyncio.AbstractEventLoop) -> None:
    await loop.create_future()


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    gc.collect()
    before = resident()
    tasks = [asyncio.create_task(suspended(loop)) for _ in range(operations)]
    await asyncio.sleep(0)
    gc.collect()
    used = resident() - before
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return used
