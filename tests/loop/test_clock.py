"""A clock in the place of `time.monotonic`, as freezegun puts one there: it is the loop's, from then
on and until it is taken away."""

import asyncio
import sys
import time
from unittest import mock

import pytest

REAL = time.monotonic

told_at_once = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before 3.12 a loop looks when it is made and when it runs"
)


class Frozen:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, for everything."""
    standing = Frozen(500.0)
    monkeypatch.setattr(time, "monotonic", standing)
    return standing


def turn(loop):
    for _ in range(2):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_the_loop_asks_it(clock, loop):
    assert loop.time() == 500.0
    clock.now = 501.5
    assert loop.time() == 501.5
    clock.now = "no number"
    assert loop.time() == "no number"
    clock.now = 0.0


def test_timers_wait_for_it(clock, loop):
    seen = []
    handle = loop.call_later(10, seen.append, "due")
    assert handle.when() == 510.0
    turn(loop)
    assert seen == []
    clock.now = 511.0
    turn(loop)
    assert seen == ["due"]


def test_what_sleeps_wakes_by_it(clock, loop, aio):
    async def main():
        task = asyncio.ensure_future(aio.sleep(3600, "slept"))
        with pytest.raises(asyncio.TimeoutError):
            waiting = asyncio.ensure_future(aio.wait_for(aio.Event().wait(), 1800))
            await aio.sleep(0)
            clock.now += 1801
            await waiting
        assert not task.done()
        clock.now += 1801
        return await task

    assert loop.run_until_complete(main()) == "slept"


@told_at_once
def test_it_comes_and_goes_while_the_loop_runs(run, aio):
    async def main():
        loop = asyncio.get_running_loop()
        before = loop.time()
        seen = []
        with mock.patch("time.monotonic", Frozen(before + 1000)) as clock:
            assert loop.time() == before + 1000
            loop.call_later(5, seen.append, "due")
            await aio.sleep(0)
            assert seen == []
            clock.now += 6
            while not seen:
                await aio.sleep(0)
            with mock.patch("time.monotonic", Frozen(7.0)):
                assert loop.time() == 7.0
            assert loop.time() == clock.now
        assert before <= loop.time() < before + 900
        loop.call_later(0.001, seen.append, "by the real one")
        while len(seen) < 2:
            await aio.sleep(0.001)

    run(main)


def test_a_time_of_the_loops_own_comes_first(clock, loop):
    loop.time = lambda: 3.0
    assert loop.call_later(1, print).when() == 4.0
    assert loop.time() == 3.0


def test_it_is_there_before_the_loop_and_gone_after(aio, loop_factory):
    with mock.patch("time.monotonic", Frozen(9.0)):
        loop = loop_factory()
        assert loop.call_later(1, print).when() == 10.0
    loop.run_until_complete(aio.sleep(0.001))
    assert abs(loop.time() - REAL()) < 60
    loop.close()


@told_at_once
def test_what_it_raises_is_raised(loop, monkeypatch):
    def broken():
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", broken)
        with pytest.raises(ZeroDivisionError):
            loop.time()
        with pytest.raises(ZeroDivisionError):
            loop.call_later(1, print)
    loop.run_until_complete(asyncio.sleep(0))


def test_other_names_of_the_module_do_not_matter(loop, monkeypatch):
    monkeypatch.setattr(time, "time", Frozen(1.0))
    monkeypatch.setattr(time, "of_the_program", 1, raising=False)
    assert abs(loop.time() - REAL()) < 60
