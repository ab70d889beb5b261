"""Schedule 200,000 timers in no order of time, cancel them all, give the loop one iteration."""

import asyncio
import random
import time

BATCH = 200_000
ONCE = True


def callback() -> None:
    pass


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    chance = random.Random(1)
    delays = [chance.uniform(10, 100) for _ in range(operations)]
    started = time.perf_counter()
    handles = [loop.call_later(delay, callback) for delay in delays]
    for handle in handles:
        handle.cancel()
    await asyncio.sleep(0)
    return time.perf_counter() - started
