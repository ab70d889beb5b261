"""Timers that fall due while the loop is held up."""

import asyncio
import random
import time

# In seconds: the span of time within which they fall due.
WITHIN = 0.005


class Fired:
    """Counts callbacks and notes when the last one ran."""

    def __init__(self, count: int, future: asyncio.Future[None]) -> None:
        self.left = count
        self.future = future
        self.at = 0.0

    def callback(self) -> None:
        self.left -= 1
        if not self.left:
            self.at = time.perf_counter()
            self.future.set_result(None)


async def fire(count: int, ahead: float) -> float:
    """Seconds in which the loop runs `count` timers that are due.

    Scheduling them, `ahead` seconds before, and the wait until they are due are not counted.
    """
    loop = asyncio.get_running_loop()
    chance = random.Random(1)
    offsets = [chance.uniform(0, WITHIN) for _ in range(count)]
    await asyncio.sleep(0)
    fired = Fired(count, loop.create_future())
    # bound once, because the row measures timers, not the making of methods
    callback = fired.callback
    begin, due = loop.time() + ahead, time.perf_counter() + ahead + WITHIN
    for offset in offsets:
        loop.call_at(begin + offset, callback)
    # A few milliseconds more, because some loops round timers up to whole ones. And by another
    # clock, because loop.time() may have any origin and stand still while the loop is held up.
    time.sleep(max(0.0, due + 0.003 - time.perf_counter()))
    started = time.perf_counter()
    # another entry is ready: uvloop would otherwise sleep by the clock that it read before the
    # hold-up
    await asyncio.sleep(0)
    await fired.future
    return fired.at - started
