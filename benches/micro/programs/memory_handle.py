"""Resident memory of 300,000 handles that wait for the next iteration."""

import asyncio

from .parts.resident import resident

BATCH = 300_000
BYTES = True


def callback() -> None:
    pass


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    # made before, because its memory is not a handle's
    handles: list[asyncio.Handle | None] = [None] * operations
    before = resident()
    for place in range(operations):
        handles[place] = loop.call_soon(callback)
    return resident() - before
