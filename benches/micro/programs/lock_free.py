"""One task enters and leaves a lock that nobody else wants."""

import asyncio
import time

BATCH = 1000


async def main(operations: int) -> float:
    lock = asyncio.Lock()
    started = time.perf_counter()
    for _ in range(operations):
        async with lock:
            pass
    return time.perf_counter() - started
