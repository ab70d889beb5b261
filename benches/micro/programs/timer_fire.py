"""Ten thousand timers fall due while the loop is held up; the clock runs while it fires them.

Scheduling and the wait until they are due are not measured.
"""

import asyncio
import random
import time

BATCH = 10_000
AHEAD = 0.04
WITHIN = 0.005


class Fired:
    """Counts callbacks and notes when the last one ran."""

    def __init__(self, future):
        self.left = BATCH
        self.future = future
        self.at = 0.0

    def callback(self):
        self.left -= 1
        if not self.left:
            self.at = time.perf_counter()
            self.future.set_result(None)


async def main(operations):
    loop = asyncio.get_running_loop()
    chance = random.Random(1)
    offsets = [chance.uniform(0, WITHIN) for _ in range(BATCH)]
    took = 0.0
    for _ in range(operations // BATCH):
        await asyncio.sleep(0)
        fired = Fired(loop.create_future())
        # bound once: the row is about timers, not about making methods
        callback = fired.callback
        begin, due = loop.time() + AHEAD, time.perf_counter() + AHEAD + WITHIN
        for offset in offsets:
            loop.call_at(begin + offset, callback)
        # some milliseconds more, as some loops round timers up to whole ones; and by another
        # clock, as loop.time() may count from anywhere and stand still while the loop is held up
        time.sleep(max(0.0, due + 0.003 - time.perf_counter()))
        started = time.perf_counter()
        # something ready, as uvloop otherwise sleeps by the clock it read before the hold-up
        await asyncio.sleep(0)
        await fired.future
        took += fired.at - started
    return took
