"""Run a function that does nothing in the default executor and await its result."""

import asyncio
import time

BATCH = 100


def nothing() -> None:
    pass


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for _ in range(operations):
        await loop.run_in_executor(None, nothing)
    return time.perf_counter() - started
