"""Running, stopping and closing a loop; call_soon; exceptions that pass through the loop."""

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import time
import weakref

import pytest

from peers import program

variable = contextvars.ContextVar("variable", default="unset")


async def first(generator):
    return await anext(generator)


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_call_soon_runs_in_order_with_arguments(loop):
    seen = []
    for number in range(1000):
        handle = loop.call_soon(seen.append, number)
        assert isinstance(handle, asyncio.Handle)
    assert seen == []
    run_once(loop)
    assert seen == list(range(1000))


def test_a_callback_scheduled_by_a_callback_runs_in_the_next_iteration(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "nested")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    run_once(loop)
    assert seen == ["first", "second"]
    run_once(loop)
    assert seen == ["first", "second", "nested"]


def test_callbacks_futures_and_steps_share_one_order(agree):
    async def scenario(case):
        loop = case.loop
        future = loop.create_future()
        future.add_done_callback(lambda f: case.record("done callback"))

        async def child(name):
            case.record(name, "step 1")
            await asyncio.sleep(0)
            case.record(name, "step 2")
            await future
            case.record(name, "woken")

        loop.call_soon(case.record, "callback 1")
        tasks = [loop.create_task(child("a"))]
        loop.call_soon(case.record, "callback 2")
        tasks.append(loop.create_task(child("b")))
        loop.call_soon(future.set_result, None)
        loop.call_soon(case.record, "callback 3")
        await asyncio.wait(tasks)

    assert agree(scenario)[:3] == [("callback 1",), ("a", "step 1"), ("callback 2",)]
    agree(scenario, debug=True)


def test_cancelled_handles_do_not_run(loop):
    seen = []
    handles = [loop.call_soon(seen.append, number) for number in range(10)]
    for handle in handles[::2]:
        handle.cancel()
        assert handle.cancelled()
        handle.cancel()
    run_once(loop)
    assert seen == [1, 3, 5, 7, 9]
    assert not handles[1].cancelled()
    handles[1].cancel()
    assert handles[1].cancelled()


def test_a_handle_cancelled_in_the_iteration_it_would_run_in(loop):
    seen = []
    loop.call_soon(lambda: later.cancel())
    later = loop.call_soon(seen.append, "ran")
    run_once(loop)
    assert seen == []


def test_a_cancelled_handle_lets_go_of_callback_and_arguments(loop):
    class Argument:
        pass

    argument = Argument()
    gone = weakref.ref(argument)
    handle = loop.call_soon(print, argument)
    handle.cancel()
    del argument
    gc.collect()
    assert gone() is None
    run_once(loop)


def test_callbacks_run_in_their_context(agree):
    def scenario(case):
        loop = case.loop

        def show(label):
            case.record(label, variable.get())
            variable.set("changed by " + label)

        mine = contextvars.copy_context()
        mine.run(variable.set, "mine")
        token = variable.set("current")
        try:
            loop.call_soon(show, "inherited")
            loop.call_soon(show, "given", context=mine)
            loop.call_soon(show, "given again", context=mine)
            loop.call_later(0, show, "timer", context=mine)
            handle = loop.call_soon(show, "soon")
            loop.call_soon_threadsafe(show, "threadsafe", context=mine)
            loop.call_later(0.001, loop.stop)
            if sys.version_info >= (3, 12):
                case.record(handle.get_context().get(variable))
            loop.run_forever()
            case.record("here", variable.get(), "mine", mine[variable])
        finally:
            variable.reset(token)

    record = agree(scenario)
    assert ("inherited", "current") in record
    assert ("given again", "changed by given") in record
    assert record[-1][:2] == ("here", "current")


def test_run_forever_twice_and_stop_before_run(loop):
    seen = []
    loop.stop()
    loop.call_soon(seen.append, "once")
    loop.run_forever()
    assert seen == ["once"]
    loop.call_soon(seen.append, "twice")
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same iteration")
    loop.run_forever()
    assert seen == ["once", "twice", "same iteration"]
    assert not loop.is_running() and not loop.is_closed()


def test_run_until_complete(loop):
    async def answer():
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        return 42

    future = loop.create_future()
    loop.call_soon(future.set_result, "future")
    assert loop.run_until_complete(answer()) == 42
    assert loop.run_until_complete(future) == "future"
    assert not loop.is_running()

    class Awaitable:
        def __await__(self):
            return answer().__await__()

    assert loop.run_until_complete(Awaitable()) == 42


def test_run_until_complete_raises_what_the_task_raises(agree):
    def scenario(case):
        async def fail(error):
            await asyncio.sleep(0)
            raise error

        for error in ValueError("mine"), asyncio.CancelledError("message"), KeyError(1):
            with case.catch():
                case.loop.run_until_complete(fail(error))
        case.record(case.loop.is_running())

    assert agree(scenario)[0] == ("raised", ("ValueError", "mine"))


def test_stop_before_the_future_is_done(agree):
    def scenario(case):
        loop = case.loop
        future = loop.create_future()
        loop.call_soon(loop.stop)
        with case.catch():
            loop.run_until_complete(future)
        loop.call_soon(future.set_result, "done")
        case.record(loop.run_until_complete(future))

    record = agree(scenario)
    assert record[0] == ("raised", ("RuntimeError", "Event loop stopped before Future completed."))


def test_nested_runs_are_refused(agree):
    def scenario(case):
        loop, other = case.loop, case.aio.new_event_loop()

        async def main():
            for target in loop, other:
                with case.catch():
                    target.run_forever()
                coroutine = asyncio.sleep(0)
                with case.catch():
                    target.run_until_complete(coroutine)
                coroutine.close()

        loop.run_until_complete(main())
        case.record(loop.run_until_complete(asyncio.sleep(0, "still works")))
        other.close()

    # 3.13.0 forgets the running loop in the first refusal
    record = agree(scenario, asyncio_is_wrong=sys.version_info[:3] == (3, 13, 0))
    assert record[0] == ("raised", ("RuntimeError", "This event loop is already running"))
    assert record[-1] == ("still works",)


def test_closing_a_running_loop_is_refused(agree):
    async def scenario(case):
        with case.catch():
            case.loop.close()
        case.record(case.loop.is_closed())

    assert agree(scenario)[-1] == (False,)


def test_a_closed_loop_refuses_everything(agree):
    def scenario(case):
        loop = case.loop
        loop.call_soon(case.record, "never")
        loop.call_later(0, case.record, "never")
        loop.close()
        loop.close()
        case.record(loop.is_closed(), loop.is_running(), repr(loop))
        for call in (
            lambda: loop.call_soon(print),
            lambda: loop.call_soon_threadsafe(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
            lambda: loop.run_forever(),
            lambda: loop.run_in_executor(None, print),
            lambda: loop.add_signal_handler(10, print),
        ):
            with case.catch():
                call()
        for call in loop.run_until_complete, loop.create_task:
            coroutine = asyncio.sleep(0)
            with case.catch():
                call(coroutine)
            coroutine.close()

    record = agree(scenario)
    assert record.count(("raised", ("RuntimeError", "Event loop is closed"))) >= 8


def test_wrong_arguments(agree, debug):
    def scenario(case):
        loop = case.loop

        async def coroutine():
            pass

        made = coroutine()
        calls = [
            lambda: loop.call_soon(),
            lambda: loop.call_soon(print, contxt=None),
            lambda: loop.call_later(1),
            lambda: loop.call_later(None, print),
            lambda: loop.call_at(None, print),
            lambda: loop.call_later("1", print),
            lambda: loop.run_until_complete(12),
            lambda: loop.set_exception_handler("text"),
            lambda: loop.set_task_factory("text"),
            lambda: loop.run_in_executor(None),
            lambda: loop.set_default_executor(object()),
        ]
        if debug:
            # checked in debug mode alone
            for callback in (None, coroutine, made):
                calls += [
                    lambda callback=callback: loop.call_soon(callback),
                    lambda callback=callback: loop.call_soon_threadsafe(callback),
                    lambda callback=callback: loop.call_at(1, callback),
                    lambda callback=callback: loop.run_in_executor(None, callback),
                ]
        for call in calls:
            with case.catch(text=False):
                call()
        made.close()

    record = agree(scenario, debug)
    assert all(entry[1] is not None for entry in record)


def test_debug_checks_name_the_offender(agree):
    def scenario(case):
        async def coroutine():
            pass

        made = coroutine()
        for callback in (None, 12, coroutine, made):
            for name in ("call_soon", "call_soon_threadsafe"):
                with case.catch(name):
                    getattr(case.loop, name)(callback)
            with case.catch("call_at"):
                case.loop.call_at(1, callback)
        made.close()

    record = agree(scenario, debug=True)
    assert record[4] == (
        "call_soon_threadsafe",
        ("TypeError", "a callable object was expected by call_soon_threadsafe(), got 12"),
    )


def test_the_wrong_thread_is_reported_in_debug_mode(agree, debug):
    async def scenario(case):
        def elsewhere():
            for call in (
                lambda: case.loop.call_soon(print),
                lambda: case.loop.call_later(0, int),
                lambda: case.loop.call_at(0, int),
            ):
                with case.catch():
                    call().cancel()

        await case.loop.run_in_executor(None, elsewhere)

    record = agree(scenario, debug)
    assert (record[0][1] is not None) == debug


def test_nothing_is_lost_when_a_system_exit_passes_through(agree):
    for error in SystemExit("status"), KeyboardInterrupt("pressed"):

        def scenario(case, error=error):
            loop = case.loop

            def leave():
                case.record("leave")
                raise error

            async def task():
                case.record("step")
                await asyncio.sleep(0)
                raise error

            loop.call_soon(case.record, "before")
            loop.call_soon(leave)
            loop.call_soon(case.record, "after")
            leaving = loop.create_task(task())
            loop.call_later(0, case.record, "timer")
            with case.catch():
                loop.run_forever()
            case.record(loop.is_running())
            with case.catch():
                loop.run_forever()
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            case.record("end", type(leaving.exception()))

        record = agree(scenario)
        assert [entry for entry in record if entry in [("after",), ("timer",)]] == [
            ("after",),
            ("timer",),
        ]


def test_asyncgens_are_closed_on_shutdown(agree):
    def scenario(case):
        async def numbers(name):
            try:
                for number in range(10):
                    yield number
            finally:
                await asyncio.sleep(0)
                case.record("closed", name)

        async def main():
            await anext(kept)
            async for _ in numbers("dropped"):
                break

        kept = numbers("kept")
        case.loop.run_until_complete(main())
        case.loop.run_until_complete(asyncio.sleep(0))
        case.record("shutdown")
        case.loop.run_until_complete(case.loop.shutdown_asyncgens())
        case.record(sys.get_asyncgen_hooks() == (None, None))
        late = numbers("late")
        with case.catch("after shutdown"):
            case.loop.run_until_complete(first(late))
        case.loop.run_until_complete(late.aclose())

    record = agree(scenario)
    assert ("closed", "kept") in record and ("closed", "dropped") in record


def test_an_asyncgen_that_fails_on_shutdown_is_reported(agree):
    def scenario(case):
        async def failing():
            try:
                yield
            finally:
                raise ValueError("in finally")

        generator = failing()
        case.loop.run_until_complete(first(generator))
        case.loop.run_until_complete(case.loop.shutdown_asyncgens())

    (report,) = agree(scenario)
    assert report[2] == ("ValueError", "in finally")


def test_the_hooks_of_others_are_put_back(loop):
    hooks = (lambda generator: None, lambda generator: None)
    old = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(*hooks)
    try:
        loop.run_until_complete(asyncio.sleep(0))
        assert sys.get_asyncgen_hooks() == hooks
    finally:
        sys.set_asyncgen_hooks(*old)


def test_debug_mode_tracks_coroutine_origins_while_running(loop):
    async def depth():
        return sys.get_coroutine_origin_tracking_depth()

    loop.set_debug(True)
    assert loop.get_debug()
    assert loop.run_until_complete(depth()) > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0

    async def switched():
        loop.set_debug(False)
        await asyncio.sleep(0)
        off = sys.get_coroutine_origin_tracking_depth()
        loop.set_debug(True)
        await asyncio.sleep(0)
        return off, sys.get_coroutine_origin_tracking_depth() > 0

    assert loop.run_until_complete(switched()) == (0, True)


@pytest.mark.parametrize("switch", ["PYTHONASYNCIODEBUG", "-X dev", "none"])
def test_debug_mode_from_outside(aio, switch):
    command = [sys.executable]
    if switch == "-X dev":
        command += ["-X", "dev"]
    command += ["-c", f"import {aio.__name__} as aio; loop = aio.new_event_loop();"
                "print(loop.get_debug()); loop.close()"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONASYNCIODEBUG"}
    if switch == "PYTHONASYNCIODEBUG":
        environment["PYTHONASYNCIODEBUG"] = "1"
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(switch != "none")


def test_slow_callbacks_are_reported_in_debug_mode(agree):
    async def scenario(case):
        def slow():
            time.sleep(0.3)

        async def slow_task():
            time.sleep(0.3)

        case.loop.slow_callback_duration = 0.2
        case.loop.call_soon(slow)
        await asyncio.sleep(0)
        await case.loop.create_task(slow_task(), name="slow task")
        case.loop.slow_callback_duration = 10
        case.loop.call_soon(slow)
        await asyncio.sleep(0)

    record = agree(scenario, debug=True)
    assert len(record) == 2
    assert record[0][:2] == ("log", "WARNING") and "took ? seconds" in record[0][2]


def test_an_unclosed_loop_warns(agree):
    def scenario(case):
        loop = case.aio.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        del loop
        gc.collect()

    record = [entry for entry in agree(scenario) if "event loop" in entry[2]]
    assert [entry[:2] for entry in record] == [("warning", "ResourceWarning")]


def test_a_loop_has_attributes_of_its_own(loop):
    loop.mine = "attribute"
    assert loop.mine == "attribute"
    assert weakref.ref(loop)() is loop
    assert "running=False closed=False debug=False" in repr(loop)


def test_overridden_methods_are_honoured(aio, loop):
    """aiohttp's own tests, and many more, replace them in a subclass or on the instance."""
    calls = []

    class Mine(type(loop)):
        def call_soon(self, callback, *args, context=None):
            calls.append("call_soon")
            return super().call_soon(callback, *args, context=context)

        def create_task(self, coro, **options):
            calls.append("create_task")
            return super().create_task(coro, **options)

        def call_exception_handler(self, report):
            calls.append(report["message"])

    mine = Mine()
    try:
        mine.run_until_complete(asyncio.sleep(0))
        assert calls[0] in ("create_task", "call_soon") and "call_soon" in calls
        assert "create_task" in calls or aio is asyncio
        del calls[:]
        future = mine.create_future()
        future.add_done_callback(print)
        future.remove_done_callback(print)
        future.add_done_callback(lambda f: None)
        future.set_result(None)
        assert calls == ["call_soon"]
        del calls[:]
        task = mine.create_task(asyncio.sleep(0))
        mine.run_until_complete(task)
        assert calls.count("create_task") == 1 and calls.count("call_soon") >= 3
        del calls[:]
        mine.call_soon(int, "no number")
        mine.call_soon(mine.stop)
        mine.run_forever()
        assert [call for call in calls if "int" in call] != []
    finally:
        mine.close()


def test_time_replaced_on_the_instance_is_honoured(loop):
    now = 1000.0
    loop.time = lambda: now
    seen = []
    loop.call_later(5, seen.append, "timer")
    handle = loop.call_later(50, seen.append, "late")
    assert handle.when() == 1050
    run_once(loop)
    assert seen == []
    now = 1005.0
    run_once(loop)
    run_once(loop)
    assert seen == ["timer"]
    handle.cancel()


def test_time_overridden_in_a_subclass_is_honoured(loop_factory, loop):
    class Mine(type(loop)):
        now = 10.0

        def time(self):
            return self.now

    mine = Mine()
    seen = []
    mine.call_later(1000, seen.append, "timer")
    mine.now = 1010.0
    run_once(mine)
    run_once(mine)
    mine.close()
    assert seen == ["timer"]


def test_task_factories(agree):
    def scenario(case):
        made = []

        def factory(loop, coro, **options):
            made.append(sorted(options))
            return asyncio.Task(coro, loop=loop, **options)

        async def main():
            task = case.loop.create_task(asyncio.sleep(0, "result"), name="named")
            case.record(task.get_name(), await task)
            task = asyncio.create_task(asyncio.sleep(0), context=contextvars.copy_context())
            await task

        case.record(case.loop.get_task_factory())
        case.loop.set_task_factory(factory)
        case.record(case.loop.get_task_factory() is factory)
        case.loop.run_until_complete(main())
        case.record(made)
        case.loop.set_task_factory(None)
        case.record(case.loop.get_task_factory())

    assert agree(scenario)[2] == ("named", "result")


def test_program_ends_with_a_traceback_and_its_status(aio):
    text = """
    async def main():
        await asyncio.sleep(0)
        raise SystemExit(7)
    asyncio.Runner(loop_factory=aio.new_event_loop).run(main())
    """
    assert program(aio, text, check=False).returncode == 7


def test_runner(aio):
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        seen.append((type(loop), loop.get_debug()))
        return "result"

    with asyncio.Runner(loop_factory=aio.new_event_loop, debug=True) as runner:
        assert runner.run(main()) == "result"
        assert runner.run(main()) == "result"
        assert runner.get_loop().get_debug()
    assert seen[0] == seen[1] and seen[0][1]
