"""A hundred thousand timers fall due while the loop is held up; the clock runs while it fires them.

Scheduling and the wait until they are due are not measured.
"""

from .parts.timers import fire

BATCH = 100_000
ONCE = True
AHEAD = 1.0


async def main(operations: int) -> float:
    return await fire(operations, AHEAD)
