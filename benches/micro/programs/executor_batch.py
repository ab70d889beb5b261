"""Run a function that does nothing a thousand times at once in the default executor."""

import asyncio
import time

BATCH = 1000


def nothing() -> None:
    pass


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for _ in range(operations // BATCH):
        await asyncio.gather(*[loop.run_in_executor(None, nothing) for _ in range(BATCH)])
    return time.perf_counter() - started
