"""Run a function that does nothing by to_thread() and await its result."""

import asyncio
import time

BATCH = 100


def nothing() -> None:
    pass


async def main(operations: int) -> float:
    started = time.perf_counter()
    for _ in range(operations):
        await asyncio.to_thread(nothing)
    return time.perf_counter() - started
