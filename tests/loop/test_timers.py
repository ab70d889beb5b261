"""call_later and call_at: order, clock, cancellation."""

import asyncio
import gc
import math
import random
import sys
import time

import pytest


def test_timers_fire_in_the_order_of_their_deadlines(loop):
    numbers = list(range(10_000))
    order = numbers[:]
    random.Random(2).shuffle(order)
    start = loop.time()
    seen = []
    for number in order:
        loop.call_at(start + number * 1e-6, seen.append, number)
    loop.call_at(start + 0.02, loop.stop)
    loop.run_forever()
    assert seen == numbers


def test_equal_deadlines_keep_the_order_of_scheduling(loop):
    """asyncio's heap does not promise this; aioxide does, and asyncio does it for few."""
    when = loop.time() + 0.01
    seen = []
    count = 2 if type(loop).__module__.startswith("asyncio") else 1000
    for number in range(count):
        loop.call_at(when, seen.append, number)
    loop.call_at(when + 0.001, loop.stop)
    loop.run_forever()
    assert seen == list(range(count))


def test_no_timer_fires_early(loop):
    early = []

    def fired(when):
        # asyncio itself rounds by its clock's resolution
        if loop.time() + time.get_clock_info("monotonic").resolution < when:
            early.append(when - loop.time())

    generator = random.Random(3)
    for _ in range(1000):
        when = loop.time() + generator.random() * 0.05
        loop.call_at(when, fired, when)
    loop.call_later(0.06, loop.stop)
    loop.run_forever()
    assert early == []


def test_the_resolution_is_finer_than_a_millisecond(loop):
    """A hundred timers, each 50 microseconds after the one before, need not take 100 ms."""

    async def main():
        shortest = 1.0
        for _ in range(100):
            start = time.perf_counter()
            future = loop.create_future()
            loop.call_later(0.00005, future.set_result, None)
            await future
            shortest = min(shortest, time.perf_counter() - start)
        return shortest

    shortest = loop.run_until_complete(main())
    assert shortest >= 0.00005
    if not type(loop).__module__.startswith("asyncio"):
        assert shortest < 0.001  # asyncio rounds up to the selector's millisecond


def test_delays_at_the_edges(agree, debug):
    def scenario(case):
        loop = case.loop
        for delay in (0, 0.0, -1, -1e9, False, 0.001):
            handle = loop.call_later(delay, case.record, "fired", delay)
            case.record(isinstance(handle, asyncio.TimerHandle), handle.cancelled())
        far = [loop.call_later(delay, case.record, "never") for delay in (1e6, 1e12, math.inf)]
        case.record([handle.when() > loop.time() for handle in far])
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        for handle in far:
            handle.cancel()

    record = agree(scenario, debug)
    assert [entry[1] for entry in record if entry[0] == "fired"] == [-1e9, -1, 0, 0, 0, 0.001]


def test_a_delay_that_is_no_number(agree):
    """NaN compares false with everything: asyncio never lets it block another timer for good."""

    def scenario(case):
        loop = case.loop
        for call in loop.call_later, loop.call_at:
            handle = call(math.nan, case.record, "NaN fired")
            case.record(isinstance(handle, asyncio.TimerHandle), math.isnan(handle.when()))
            handle.cancel()
        loop.call_soon(case.record, "callback")
        loop.call_soon(loop.stop)
        loop.run_forever()

    assert ("callback",) in agree(scenario)


def test_a_timer_of_zero_runs_after_what_is_ready(agree):
    def scenario(case):
        loop = case.loop
        loop.call_later(0, case.record, "timer")
        loop.call_soon(case.record, "callback")
        loop.call_later(-1, case.record, "past")
        loop.call_at(0, case.record, "long past")
        loop.call_later(0.005, loop.stop)
        loop.run_forever()

    assert agree(scenario) == [("callback",), ("long past",), ("past",), ("timer",)]


def test_timers_scheduled_by_timers(agree):
    def scenario(case):
        loop = case.loop

        def again(left):
            case.record(left)
            if left:
                loop.call_later(0, again, left - 1)
            else:
                loop.stop()

        loop.call_later(0, again, 50)
        loop.run_forever()

    assert len(agree(scenario)) == 51


def test_timer_handles(agree):
    def scenario(case):
        loop = case.loop
        first = loop.call_at(loop.time() + 100, print, "first")
        same = loop.call_at(first.when(), print, "first")
        later = loop.call_at(first.when() + 1, print, "later")
        case.record(first < later, first <= later, later > first, later >= first, first == first)
        case.record(first == same, first == later, first != later, hash(first) == hash(first.when()))
        with case.catch(text=False):
            first < 12
        case.record(first.__eq__(12), first.cancelled(), repr(first))
        for handle in first, same, later, first:
            handle.cancel()
            case.record(handle.cancelled(), repr(handle))

    record = agree(scenario)
    assert record[0] == (True, True, True, True, True)


def test_a_cancelled_timer_does_not_fire(loop):
    seen = []
    handles = [loop.call_later(0.001 * (number % 7), seen.append, number) for number in range(100)]
    for number, handle in enumerate(handles):
        if number % 3:
            handle.cancel()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert sorted(seen) == list(range(0, 100, 3))


def test_a_timer_cancelled_by_a_timer_of_the_same_iteration(loop):
    seen = []
    when = loop.time() + 0.001
    loop.call_at(when, lambda: second.cancel())
    second = loop.call_at(when + 1e-7, seen.append, "second")
    loop.call_at(when + 0.002, loop.stop)
    time.sleep(0.005)
    loop.run_forever()
    assert seen == []


def test_a_timer_cancelled_after_it_fired(loop):
    seen = []
    handle = loop.call_later(0, seen.append, "fired")
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    handle.cancel()
    handle.cancel()
    assert seen == ["fired"]


@pytest.mark.parametrize("fires", [False, True])
def test_many_timers_cancelled_do_not_grow_memory(loop, fires):
    def round_of_timers():
        for _ in range(20):
            handles = [loop.call_later(100 + number, print) for number in range(500)]
            for handle in handles:
                handle.cancel()
            if fires:
                loop.call_soon(loop.stop)
                loop.run_forever()

    round_of_timers()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(3):
        round_of_timers()
    loop.call_soon(loop.stop)
    loop.run_forever()
    gc.collect()
    assert sys.getallocatedblocks() - before < 2000


def test_the_clock_is_monotonic_and_the_standard_one(loop):
    before = time.monotonic()
    now = loop.time()
    assert isinstance(now, float)
    assert before <= now <= time.monotonic()


def test_a_blocked_loop_catches_up_in_order(agree):
    def scenario(case):
        loop = case.loop
        now = loop.time()
        loop.call_at(now + 0.003, case.record, "c")
        loop.call_at(now + 0.001, case.record, "a")
        loop.call_soon(time.sleep, 0.01)
        loop.call_at(now + 0.002, case.record, "b")
        loop.call_at(now + 0.02, loop.stop)
        loop.run_forever()

    assert agree(scenario) == [("a",), ("b",), ("c",)]


def test_timer_that_has_fired_is_not_scheduled(loop, debug):
    loop.set_debug(debug)
    handle = loop.call_later(0.001, loop.stop)
    assert handle._scheduled
    loop.run_forever()
    assert not handle._scheduled


def test_what_a_replaced_call_at_is_given(agree):
    class Handle:
        def __init__(self):
            self._source_traceback = ["the program", "call_later"]

    async def scenario(case):
        def call_at(*args, **options):
            case.record(len(args), options)
            return Handle()

        case.loop.call_at = call_at
        for _ in range(2):
            handle = case.loop.call_later(1, print, "x")
            case.record(handle._source_traceback)
        with case.catch():
            case.loop.call_at = lambda *args, **options: None
            case.loop.call_later(1, print)
        del case.loop.call_at

    agree(scenario)
