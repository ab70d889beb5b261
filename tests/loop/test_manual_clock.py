"""Loops on a clock that jumps from deadline to deadline."""

import asyncio
import socket
import threading
import time

import pytest

aioxide = pytest.importorskip("aioxide")
from aioxide import _aioxide  # noqa: E402

HOUR = 3600.0


def run(main, start=0.0):
    loop = _aioxide._on_manual_clock(start, aioxide.new_event_loop)
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def in_real_time(limit=60.0):
    began = time.monotonic()
    return lambda: time.monotonic() - began < limit


def test_sleeps_take_their_time_on_the_clock_alone():
    async def main():
        loop = asyncio.get_running_loop()
        assert loop.time() == 5.0
        for _ in range(10):
            await asyncio.sleep(0.1 * HOUR)
        return loop.time()

    is_soon = in_real_time()
    assert run(main, start=5.0) == 5.0 + HOUR
    assert is_soon()


def test_clock_stands_while_callbacks_run():
    async def main():
        loop = asyncio.get_running_loop()
        time.sleep(0.01)
        for _ in range(2000):
            await asyncio.sleep(0)
        return loop.time()

    assert run(main, start=1.0) == 1.0


def test_timers_run_in_the_order_of_their_times():
    async def main():
        loop = asyncio.get_running_loop()
        ran = []
        done = loop.create_future()
        for delay in (3, 1, 2, 1):
            loop.call_later(delay * HOUR, lambda delay=delay: ran.append((delay, loop.time())))
        loop.call_at(4 * HOUR, done.set_result, None)
        await done
        return ran

    assert run(main) == [(delay, delay * HOUR) for delay in (1, 1, 2, 3)]


def test_timeout_ends_a_wait():
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 48 * HOUR)
        return asyncio.get_running_loop().time()

    assert run(main) == 48 * HOUR


def test_descriptors_come_before_the_next_deadline():
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            loop.call_later(HOUR, right.send, b"late")
            assert await loop.sock_recv(left, 100) == b"late"
            assert loop.time() == HOUR
            right.send(b"now")
            timer = loop.call_later(HOUR, right.close)
            assert await loop.sock_recv(left, 100) == b"now"
            timer.cancel()
        return loop.time()

    assert run(main) == HOUR


def test_without_a_deadline_the_loop_waits_for_other_threads():
    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        threading.Timer(0.02, loop.call_soon_threadsafe, (done.set_result, "woken")).start()
        return await done, loop.time()

    assert run(main) == ("woken", 0.0)


def test_other_loops_keep_the_systems_clock():
    loops = []

    def make():
        inner = _aioxide._on_manual_clock(7.0, aioxide.new_event_loop)
        loops.extend([inner, aioxide.new_event_loop()])
        raise ValueError("no loop is returned")

    with pytest.raises(ValueError, match="no loop is returned"):
        _aioxide._on_manual_clock(3.0, make)
    loops.append(aioxide.new_event_loop())
    times = [loop.time() for loop in loops]
    for loop in loops:
        loop.close()
    assert times[:2] == [7.0, 3.0]
    assert abs(times[2] - time.monotonic()) < 60


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError):
        _aioxide._on_manual_clock(1.0)
    with pytest.raises(TypeError):
        _aioxide._on_manual_clock("now", aioxide.new_event_loop)
