"""Resident memory of 300,000 timers that wait for their time."""

import asyncio
import random

from .parts.resident import resident

BATCH = 300_000
BYTES = True


def callback() -> None:
    pass


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    chance = random.Random(1)
    # made before, because its memory is not a timer's
    handles: list[asyncio.TimerHandle | None] = [None] * operations
    before = resident()
    for place in range(operations):
        handles[place] = loop.call_later(chance.uniform(100, 1000), callback)
    return resident() - before
