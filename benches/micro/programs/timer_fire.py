"""Ten thousand timers fall due while the loop is held up; the clock runs while it fires them.

Scheduling and the wait until they are due are not measured.
"""

from .parts.timers import fire

BATCH = 10_000
AHEAD = 0.04


async def main(operations: int) -> float:
    took = 0.0
    for _ in range(operations // BATCH):
        took += await fire(BATCH, AHEAD)
    return took
