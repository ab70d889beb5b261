"""In which context a callback runs: a copy of its own of the one current when it was scheduled."""

import asyncio
import contextvars
import gc
import sys
import threading
import weakref

import pytest

variable = contextvars.ContextVar("variable", default="unset")
other = contextvars.ContextVar("other", default="unset")

has_get_context = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="Handle.get_context() came with 3.12"
)


def schedulers(loop):
    return [loop.call_soon, loop.call_soon_threadsafe, lambda *call: loop.call_later(0.001, *call)]


def test_no_callback_sees_what_another_has_set(agree):
    async def main(case):
        loop = asyncio.get_running_loop()

        def set_and_show(value):
            case.record(variable.get(), value)
            variable.set(value)

        for schedule in schedulers(loop):
            for value in range(3):
                schedule(set_and_show, value)
            await asyncio.sleep(0.02)
        case.record(variable.get())

    agree(main)


def test_what_is_set_later_is_not_seen(agree):
    async def main(case):
        loop = asyncio.get_running_loop()
        for schedule in schedulers(loop):
            schedule(lambda: case.record(variable.get()))
            token = variable.set("later")
            schedule(lambda: case.record(variable.get()))
            variable.reset(token)
            schedule(lambda: case.record(variable.get()))
            await asyncio.sleep(0.02)

    agree(main)


def test_a_call_keeps_its_context_when_the_loop_runs_again(loop):
    """Each run of the loop may start in another context."""
    seen = []

    def show():
        seen.append(variable.get())

    def run():
        loop.call_later(0.01, loop.stop)
        loop.run_forever()

    def schedule_and_run(value):
        variable.set(value)
        loop.call_later(0.03, show)
        loop.call_soon(loop.call_later, 0.03, show)
        run()

    for value in ("first", "second"):
        contextvars.Context().run(schedule_and_run, value)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert sorted(seen) == ["first", "first", "second", "second"]


@has_get_context
def test_the_context_shown_is_the_one_used(agree):
    async def main(case):
        loop = asyncio.get_running_loop()
        for schedule in schedulers(loop):
            handles = [schedule(lambda: case.record(variable.get())) for _ in range(3)]
            context = handles[1].get_context()
            case.record(context is handles[1].get_context())
            case.record(context is handles[0].get_context())
            context.run(variable.set, "changed from outside")
            await asyncio.sleep(0.02)
            cancelled = schedule(print)
            cancelled.cancel()
            case.record(cancelled.get_context().get(variable, "not there"))

    agree(main)


@has_get_context
def test_a_failing_callback_is_reported_in_its_context(agree):
    async def main(case):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda loop, report: case.record(variable.get(), report["handle"] is not None)
        )

        def fail(value):
            variable.set(value)
            raise ValueError(value)

        for schedule in schedulers(loop):
            schedule(fail, "one")
            schedule(lambda: case.record(variable.get()))
            schedule(fail, "two")
            schedule(lambda: case.record(variable.get()))
            await asyncio.sleep(0.02)

    agree(main)


def test_callbacks_and_tasks_within_a_callback(agree):
    async def main(case):
        loop = asyncio.get_running_loop()

        async def show(name):
            case.record(name, variable.get(), other.get())
            other.set(name)
            await asyncio.sleep(0)
            case.record(name, variable.get(), other.get())

        def outer(value):
            loop.create_task(show(f"task before {value}"))
            variable.set(value)
            loop.create_task(show(f"task after {value}"))
            loop.call_soon(lambda: case.record("call", variable.get(), other.get()))

        loop.call_soon(outer, 1)
        loop.call_soon(outer, 2)
        await asyncio.sleep(0.01)

    agree(main)


def test_calls_from_a_thread_run_in_a_copy_of_its_context(agree):
    async def main(case):
        loop = asyncio.get_running_loop()

        def work():
            loop.call_soon_threadsafe(lambda: case.record(variable.get()))
            variable.set("of the thread")
            loop.call_soon_threadsafe(lambda: case.record(variable.get()))

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        # what it has scheduled last
        await asyncio.sleep(0.01)

    agree(main)


def test_no_value_outlives_its_callback(loop):
    class Value:
        pass

    value = Value()
    gone = weakref.ref(value)
    holder = [value]
    del value

    def hold():
        variable.set(holder.pop())

    loop.call_soon(hold)
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    gc.collect()
    assert gone() is None
