"""wait_for, timeout, timeout_at and shield."""

import asyncio
import gc
import inspect
import sys
import traceback
import weakref

import pytest

from test_gather import after


def test_wait_for_in_time(agree_everywhere):
    async def scenario(case):
        future = case.loop.create_future()
        case.loop.call_soon(future.set_result, "future")
        for timeout in (10, 5.5, None):
            case.record(await case.aio.wait_for(after(case, 2, timeout), timeout))
        case.record(await case.aio.wait_for(future, 1), await case.aio.wait_for(future, 0))
        with case.catch():
            await case.aio.wait_for(after(case, 1, ValueError("own")), 1)
        with case.catch():
            await case.aio.wait_for(after(case, 1, asyncio.CancelledError("own")), 1)

    agree_everywhere(scenario)


def test_wait_for_too_long(agree_everywhere):
    async def scenario(case):
        async def stubborn(outcome):
            try:
                await case.aio.sleep(10)
            except asyncio.CancelledError as error:
                case.record("cancelled", error)
                if isinstance(outcome, BaseException):
                    raise outcome from None
                return outcome

        for timeout in (0.001, 0, -1, False):
            future = case.loop.create_future()
            for awaitable in future, case.aio.sleep(10), stubborn("kept"), stubborn(ValueError()):
                try:
                    case.record(await case.aio.wait_for(awaitable, timeout))
                except Exception as error:
                    case.record(error, type(error.__cause__), type(error.__context__))
            case.record(future.cancelled(), case.aio.current_task().cancelling())

    agree_everywhere(scenario)


def test_wait_for_cancelled_itself(agree_everywhere):
    async def scenario(case):
        future = case.loop.create_future()
        for awaitable in case.aio.sleep(10), future:
            task = case.loop.create_task(case.aio.wait_for(awaitable, 10))
            await after(case, 3)
            task.cancel("from outside")
            with case.catch():
                await task
            case.record(task.cancelled())
        case.record(future.cancelled())

        # the future is done in the iteration in which the wait is cancelled
        future = case.loop.create_future()
        task = case.loop.create_task(case.aio.wait_for(future, 10))
        await after(case, 3)
        future.set_result("both")
        task.cancel()
        with case.catch():
            case.record(await task)

    agree_everywhere(scenario)


def test_bad_arguments_of_wait_for(agree_everywhere):
    async def scenario(case):
        for timeout in ("1", [], object):
            with case.catch(text=False):
                await case.aio.wait_for(case.loop.create_future(), timeout)
        with case.catch(text=False):
            await case.aio.wait_for(1, 1)
        with case.catch(text=False):
            case.aio.wait_for()

    agree_everywhere(scenario)


def test_timeout_expires(agree_everywhere):
    async def scenario(case):
        for delay in (0.001, 0, -1):
            timeout = case.aio.timeout(delay)
            case.record(timeout, timeout.expired())
            try:
                async with timeout as entered:
                    case.record(entered is timeout, timeout)
                    await case.aio.sleep(10)
            except TimeoutError as error:
                case.record(error, type(error.__cause__), type(error.__context__))
            case.record(timeout, timeout.expired(), case.aio.current_task().cancelling())
        async with case.aio.timeout(10) as timeout:
            await case.aio.sleep(0)
        case.record(timeout, timeout.expired(), timeout.when() is not None)
        async with case.aio.timeout(None) as timeout:
            case.record(timeout, timeout.when())

    agree_everywhere(scenario)


def test_rescheduled(agree_everywhere):
    async def scenario(case):
        with case.catch():
            async with case.aio.timeout(10) as timeout:
                timeout.reschedule(case.loop.time() + 20)
                timeout.reschedule(None)
                case.record(timeout.when())
                timeout.reschedule(case.loop.time() - 1)
                case.record(timeout)
                await case.aio.sleep(10)
        for unready in timeout, case.aio.timeout(1):
            with case.catch():
                unready.reschedule(None)
        with case.catch():
            async with timeout:
                pass
        async with case.aio.timeout_at(case.loop.time() + 5) as timeout:
            case.record(timeout)

    agree_everywhere(scenario)


def test_nested_timeouts(agree_everywhere):
    async def scenario(case):
        for inner, outer in [(0.001, 5), (5, 0.001), (0, 0), (0.001, None)]:
            outside, inside = case.aio.timeout(outer), case.aio.timeout(inner)
            with case.catch():
                async with outside:
                    with case.catch("inside"):
                        async with inside:
                            await case.aio.sleep(10)
                    await case.aio.sleep(0)
            case.record(outside, inside, case.aio.current_task().cancelling())

    agree_everywhere(scenario)


def test_cancelled_from_outside_as_well(agree_everywhere):
    async def scenario(case):
        async def waits(delay):
            async with case.aio.timeout(delay):
                await case.aio.sleep(10)

        for delay in (10, 0):
            task = case.loop.create_task(waits(delay))
            await case.aio.sleep(0)
            task.cancel("outside")
            with case.catch():
                await task
            case.record(task.cancelled(), task.cancelling())

    agree_everywhere(scenario)


def test_another_exception_after_expiry(agree_everywhere):
    async def scenario(case):
        def chain(error):
            while error is not None:
                yield type(error).__name__
                error = error.__context__

        for wrap in (False, True):
            try:
                async with case.aio.timeout(0):
                    try:
                        await case.aio.sleep(10)
                    except asyncio.CancelledError:
                        if wrap:
                            raise ExceptionGroup("group", [ValueError(), KeyError()])
                        raise ValueError("instead")
            except Exception as error:
                case.record(list(chain(error)))

    agree_everywhere(scenario)


def test_timeouts_outside_a_task(agree):
    def scenario(case):
        with case.catch():
            case.aio.timeout(1)

        def in_a_callback():
            for method in case.aio.timeout(1).__aenter__(), case.aio.wait_for(None, 1):
                with case.catch():
                    method.send(None)

        case.loop.call_soon(in_a_callback)
        case.loop.call_soon(case.loop.stop)
        case.loop.run_forever()

    agree(scenario)


def test_a_timeout_is_an_ordinary_object(aio, run):
    async def main():
        timeout = aio.timeout(1)
        timeout.note = "mine"
        assert weakref.ref(timeout)() is timeout and timeout.note == "mine"
        assert type(timeout) is aio.Timeout
        assert inspect.iscoroutinefunction(timeout.__aenter__)
        assert inspect.iscoroutinefunction(aio.Timeout.__aexit__)
        async with timeout:
            pass

    run(main)


def test_the_users_frames_in_tracebacks(agree):
    async def scenario(case):
        async def fails():
            await case.aio.sleep(0)
            raise ValueError("here")

        async def limits():
            async with case.aio.timeout(5):
                await case.aio.wait_for(fails(), 1)

        async def too_long():
            await case.aio.wait_for(case.aio.sleep(10), 0.001)

        for function in limits, too_long:
            try:
                await function()
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                case.record([frame.name for frame in frames if frame.filename == __file__])

    assert agree(scenario)[0][0][:2] == ("scenario", "limits")


def test_shield(agree_everywhere):
    async def scenario(case):
        case.record(await case.aio.shield(after(case, 2, "result")))
        with case.catch():
            await case.aio.shield(after(case, 2, ValueError("failed")))
        done = case.loop.create_future()
        done.set_result(1)
        case.record(case.aio.shield(done) is done)

        inner = case.loop.create_task(after(case, 6, "goes on"))
        outer = case.loop.create_task(case.aio.wait_for(case.aio.shield(inner), 10))
        await after(case, 3)
        outer.cancel("outer")
        with case.catch():
            await outer
        case.record(inner.done(), await inner)

        inner = case.loop.create_task(case.aio.sleep(10))
        outer = case.aio.shield(inner)
        await after(case, 1)
        inner.cancel()
        with case.catch():
            await outer
        case.record(outer.cancelled())
        with case.catch(text=False):
            case.aio.shield(1)

    agree_everywhere(scenario)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_shielded_failure_nobody_waits_for(agree_everywhere, steps):
    async def scenario(case):
        inner = case.loop.create_task(after(case, 2, ValueError("unseen")))
        outer = case.aio.shield(inner)
        await after(case, steps)
        case.record(outer.cancel())
        await after(case, 6)
        case.record(inner.done())
        del inner, outer
        gc.collect()

    agree_everywhere(scenario)


def test_the_time_comes_while_a_cancelled_wait_for_waits_for_its_task(agree_everywhere):
    async def scenario(case):
        async def holds_on():
            with case.catch("child"):
                await case.loop.create_future()
            await case.aio.sleep(0.02)
            case.record("child ends")

        async def waits():
            with case.catch("waits"):
                await case.aio.wait_for(holds_on(), 0.01)

        task = case.loop.create_task(waits())
        await case.aio.sleep(0)
        await case.aio.sleep(0)
        task.cancel("outside")
        await case.aio.sleep(0.05)
        case.record(task.done())

    agree_everywhere(scenario)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in Python 3.14")
def test_who_awaits_whom(agree):
    async def scenario(case):
        task = case.aio.current_task()

        def awaited_by(future):
            return [waiter is task for waiter in future._asyncio_awaited_by or ()]

        futures = [case.loop.create_future() for _ in range(3)]
        outer = case.aio.gather(*futures)
        shielded = case.aio.shield(futures[0])
        case.record([awaited_by(future) for future in futures])
        waiting = case.aio.as_completed(futures)
        for future in futures:
            future.set_result(1)
        await outer
        for step in waiting:
            await step
        await shielded
        await case.aio.sleep(0)
        case.record([awaited_by(future) for future in futures])

        graphs = []

        async def looks():
            await case.aio.sleep(0)
            graphs.append(asyncio.format_call_graph(task))

        looking = case.loop.create_task(looks())
        await case.aio.wait([looking])
        frames = [line.split()[3] for line in graphs[0].splitlines() if "File" in line]
        case.record("wait()" in graphs[0], len(frames))

    agree(scenario)
