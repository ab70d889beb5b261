"""as_completed of a hundred coroutines that return at once; one operation is one of them."""

import asyncio
import time

BATCH = 100


async def nothing() -> None:
    pass


async def main(operations: int) -> float:
    started = time.perf_counter()
    for _ in range(operations // BATCH):
        for step in asyncio.as_completed([nothing() for _ in range(BATCH)]):
            await step
    return time.perf_counter() - started
