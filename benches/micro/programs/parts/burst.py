"""Bursts of callbacks, each of which the loop runs in one iteration."""

import asyncio
import time


def nothing() -> None:
    pass


async def bursts(size: int, operations: int) -> float:
    """Seconds of `operations` callbacks, `size` of which are scheduled at once."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = operations // size

    # The last callback of a burst schedules the next one, so that no task has a part in it.
    def burst() -> None:
        nonlocal left
        if not left:
            done.set_result(None)
            return
        left -= 1
        for _ in range(size - 1):
            loop.call_soon(nothing)
        loop.call_soon(burst)

    started = time.perf_counter()
    burst()
    await done
    return time.perf_counter() - started
