"""run_in_threads(): a loop for each of several threads."""

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import time

import pytest

import aioxide
from peers import until

# Long enough that a main which is not cancelled makes its test hang.
LONG = 1000


@pytest.fixture
def run_all(loop_factory):
    """run_in_threads() on loops of the module under test."""

    def run_all(main, loops=3, **options):
        return aioxide.run_in_threads(main, loops=loops, loop_factory=loop_factory, **options)

    before = set(threading.enumerate())
    yield run_all
    assert set(threading.enumerate()) == before


@contextlib.contextmanager
def raises_errors(*expected):
    """The block raises a group of errors with these reprs, in any order."""
    with pytest.raises(BaseExceptionGroup) as caught:
        yield caught
    assert caught.value.message == "unhandled errors in run_in_threads()"
    assert sorted(map(repr, caught.value.exceptions)) == sorted(expected)


class Meeting:
    """Where the mains of all loops wait for each other."""

    def __init__(self, count):
        self.missing = count
        self.lock = threading.Lock()

    async def come(self):
        with self.lock:
            self.missing -= 1
        await until(lambda: self.missing <= 0)


# What is run where.


def test_each_number_has_a_loop_and_a_thread(run_all, loop_factory):
    meeting = Meeting(3)

    async def main(number):
        await meeting.come()
        loop = asyncio.get_running_loop()
        return number, loop, threading.current_thread()

    results = run_all(main)
    assert [number for number, _, _ in results] == [0, 1, 2]
    assert len({loop for _, loop, _ in results}) == 3
    assert all(loop.is_closed() for _, loop, _ in results)
    threads = [thread for _, _, thread in results]
    assert len(set(threads)) == 3 and threads[0] is threading.current_thread()
    assert [thread.name for thread in threads[1:]] == ["aioxide-loop-1", "aioxide-loop-2"]
    assert not any(thread.is_alive() or thread.daemon for thread in threads[1:])


def test_main_is_called_on_the_loop(run_all):
    def main(number):
        future = asyncio.get_running_loop().create_future()
        future.get_loop().call_soon(future.set_result, number)
        return future

    assert run_all(main) == [0, 1, 2]


def test_one_loop_needs_no_thread(run_all):
    async def main(number):
        return number, threading.active_count()

    assert run_all(main, loops=1) == [(0, threading.active_count())]


def test_the_number_of_loops_is_that_of_the_cpus(aio):
    async def main(number):
        return number

    if hasattr(os, "process_cpu_count"):
        expected = os.process_cpu_count()
    else:
        expected = len(os.sched_getaffinity(0))
    assert aioxide.run_in_threads(main, loop_factory=aio.new_event_loop) == list(range(expected))


def test_the_loops_are_aioxides():
    async def main(number):
        return type(asyncio.get_running_loop()), asyncio.get_event_loop() is not None

    assert aioxide.run_in_threads(main, loops=2) == [(aioxide.Loop, True)] * 2


def test_in_a_thread_other_than_the_main_one(run_all):
    async def main(number):
        return threading.current_thread() is threading.main_thread()

    results = []
    thread = threading.Thread(target=lambda: results.extend(run_all(main)))
    thread.start()
    thread.join()
    assert results == [False] * 3


def test_debug(run_all):
    async def main(number):
        return asyncio.get_running_loop().get_debug()

    assert run_all(main, debug=True) == [True] * 3
    assert run_all(main, debug=False) == [False] * 3


def test_contexts_are_those_of_threads(run_all):
    """The first loop has its caller's, the others have what threading gives to a new thread."""
    variable = contextvars.ContextVar("variable", default="default")
    seen = []
    variable.set("of the caller")
    thread = threading.Thread(target=lambda: seen.append(variable.get()))
    thread.start()
    thread.join()
    inherits = getattr(sys.flags, "thread_inherit_context", False)
    assert seen == ["of the caller" if inherits else "default"]

    async def main(number):
        value = variable.get()
        variable.set(number)
        return value

    assert run_all(main) == ["of the caller", *seen * 2]
    assert variable.get() == "of the caller"


def test_tasks_and_generators_that_are_left_are_ended(run_all):
    ended = []

    async def generator():
        try:
            yield
        finally:
            ended.append("generator")

    async def left():
        try:
            await asyncio.sleep(LONG)
        finally:
            ended.append("task")

    async def main(number):
        asyncio.get_running_loop().kept = task = asyncio.create_task(left()), generator()
        await anext(task[1])

    assert run_all(main) == [None] * 3
    assert sorted(ended) == ["generator"] * 3 + ["task"] * 3


# Wrong calls.


@pytest.mark.parametrize(
    "loops, error, text",
    [
        (0, ValueError, "loops must be at least 1, not 0"),
        (-3, ValueError, "loops must be at least 1, not -3"),
        (1.5, TypeError, "'float' object cannot be interpreted as an integer"),
        ("2", TypeError, "'str' object cannot be interpreted as an integer"),
    ],
)
def test_bad_numbers_of_loops(loops, error, text):
    with pytest.raises(error, match=text):
        aioxide.run_in_threads(print, loops=loops)


def test_main_is_a_function():
    async def main(number):
        pass

    coroutine = main(0)
    with pytest.raises(TypeError, match="main must be a function that takes the number"):
        aioxide.run_in_threads(coroutine, loops=2)
    coroutine.close()


def test_not_in_a_running_loop(run):
    async def main():
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            aioxide.run_in_threads(print, loops=2)

    run(main)


# Errors.


def test_an_error_cancels_the_others(run_all):
    meeting = Meeting(3)
    cancelled = []

    async def main(number):
        try:
            await meeting.come()
            if number == 1:
                raise ValueError("wrong")
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with raises_errors("ValueError('wrong')") as caught:
        run_all(main)
    assert type(caught.value) is ExceptionGroup
    assert sorted(cancelled) == [0, 2]


def test_errors_come_together(run_all):
    meeting = Meeting(3)

    async def main(number):
        try:
            await meeting.come()
            if number == 0:
                raise ValueError(number)
            await asyncio.sleep(LONG)
        finally:
            if number == 1:
                raise KeyError(number)

    with raises_errors("ValueError(0)", "KeyError(1)"):
        run_all(main)


def test_a_group_of_base_exceptions(run_all):
    class Odd(BaseException):
        pass

    async def main(number):
        raise Odd

    with raises_errors("Odd()") as caught:
        run_all(main, loops=1)
    assert type(caught.value) is BaseExceptionGroup


@pytest.mark.parametrize("number_of_it", [0, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_raised_alone(run_all, error, number_of_it):
    meeting = Meeting(3)

    async def main(number):
        try:
            await meeting.come()
            if number == number_of_it:
                raise error("the end")
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            raise ValueError(number) from None

    with pytest.raises(error, match="the end"):
        run_all(main)


def test_a_main_that_cancels_itself(run_all):
    async def main(number):
        if number == 1:
            asyncio.current_task().cancel("by itself")
        await asyncio.sleep(LONG)

    with pytest.raises(asyncio.CancelledError):
        run_all(main)


def test_a_main_that_returns_although_cancelled_has_no_say(run_all):
    meeting = Meeting(2)

    async def main(number):
        with contextlib.suppress(asyncio.CancelledError):
            await meeting.come()
            if number:
                raise ValueError(number)
            await asyncio.sleep(LONG)
        return "a result"

    with raises_errors("ValueError(1)"):
        run_all(main, loops=2)


def test_main_returns_nothing_to_await(run_all):
    with pytest.raises(ExceptionGroup) as caught:
        run_all(lambda number: number)
    assert {type(error) for error in caught.value.exceptions} == {TypeError}


def test_main_takes_no_number(run_all):
    async def main():
        pass

    with pytest.raises(ExceptionGroup) as caught:
        run_all(main)
    assert {type(error) for error in caught.value.exceptions} == {TypeError}


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_loop_that_cannot_be_made(aio, failing):
    names = {0: "MainThread"}

    def factory():
        if threading.current_thread().name == names.get(failing, f"aioxide-loop-{failing}"):
            raise OSError("no loop")
        return aio.new_event_loop()

    async def main(number):
        await asyncio.sleep(LONG)

    with raises_errors("OSError('no loop')"):
        aioxide.run_in_threads(main, loops=3, loop_factory=factory)


def test_a_loop_that_cannot_be_closed(aio):
    """The loop's own error comes too, and the loop is closed by the test."""
    meeting = Meeting(2)
    loops = []

    def factory():
        loop = aio.new_event_loop()
        loops.append((loop, loop.close))

        def close():
            raise OSError("not closed")

        loop.close = close
        return loop

    async def main(number):
        await meeting.come()

    with raises_errors("OSError('not closed')", "OSError('not closed')"):
        aioxide.run_in_threads(main, loops=2, loop_factory=factory)
    for loop, close in loops:
        del loop.close
        close()
    loops.clear()


@pytest.mark.parametrize("started", [0, 1, 2])
def test_a_thread_that_cannot_be_started(run_all, monkeypatch, started):
    start = threading.Thread.start
    threads = []

    def start_some(thread):
        if len(threads) == started:
            raise RuntimeError("can't start new thread")
        threads.append(thread)
        start(thread)

    async def main(number):
        await asyncio.sleep(LONG)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with raises_errors('RuntimeError("can\'t start new thread")'):
        run_all(main, loops=4)
    assert len(threads) == started


def test_a_thread_that_begins_although_its_start_failed(run_all, monkeypatch):
    start = threading.Thread.start
    threads = []

    def start_badly(thread):
        start(thread)
        threads.append(thread)
        raise KeyboardInterrupt("in start()")

    async def main(number):
        await asyncio.sleep(LONG)

    monkeypatch.setattr(threading.Thread, "start", start_badly)
    with pytest.raises(KeyboardInterrupt, match="in start"):
        run_all(main, loops=4)
    for thread in threads:
        thread.join()


def test_a_main_that_fails_before_the_others_begin(aio):
    """A main that has not begun is never called."""
    may_begin = threading.Event()
    called = []

    def factory():
        if threading.current_thread() is not threading.main_thread():
            may_begin.wait()
        return aio.new_event_loop()

    async def main(number):
        called.append(number)
        # The others begin when this one has failed.
        threading.Timer(0.05, may_begin.set).start()
        raise ValueError(number)

    with raises_errors("ValueError(0)"):
        aioxide.run_in_threads(main, loops=3, loop_factory=factory)
    assert called == [0]


def test_nothing_is_kept(run_all):
    class Thing:
        alive = 0

        def __init__(self):
            Thing.alive += 1

        def __del__(self):
            Thing.alive -= 1

    async def main(number):
        thing = Thing()
        await asyncio.sleep(0)
        if number:
            raise ValueError(thing)
        await asyncio.sleep(LONG)

    with contextlib.suppress(ExceptionGroup):
        run_all(main)
    gc.collect()
    assert Thing.alive == 0


def test_many_runs_of_many_loops(run_all):
    async def main(number):
        await asyncio.sleep(0)
        if number == 7:
            raise ValueError(number)
        await asyncio.sleep(0.001 * (number % 3))

    for _ in range(5):
        with raises_errors("ValueError(7)"):
            run_all(main, loops=8)


# What crosses loops.


def test_calls_of_coroutines_on_other_loops(run_all):
    loops = {}
    meeting, end = Meeting(2), Meeting(2)

    async def square(number):
        await asyncio.sleep(0)
        return number * number, asyncio.get_running_loop()

    async def main(number):
        loops[number] = asyncio.get_running_loop()
        await meeting.come()
        other = loops[1 - number]
        future = aioxide.run_coroutine_threadsafe(square(number + 5), other)
        result, loop = await aioxide.wrap_future(future)
        await end.come()
        return result, loop is other

    assert run_all(main, loops=2) == [(25, True), (36, True)]
    loops.clear()


def test_it_takes_no_time_when_idle(run_all):
    async def main(number):
        await asyncio.sleep(0.2)

    before = time.process_time()
    run_all(main)
    assert time.process_time() - before < 0.15
