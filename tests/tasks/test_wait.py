"""wait and as_completed."""

import asyncio
import inspect
import sys

import pytest

CONDITIONS = ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]


async def quietly(case, steps, outcome):
    """As `after`, without a record: tasks of one iteration end in the order of a set."""
    for _ in range(steps):
        await case.aio.sleep(0)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def names(tasks):
    return sorted(task.get_name() for task in tasks)


def tasks_of(case, *outcomes):
    return [
        case.loop.create_task(quietly(case, steps, outcome), name=str(steps))
        for steps, outcome in outcomes
    ]


@pytest.mark.parametrize("return_when", CONDITIONS)
def test_return_when(agree_everywhere, return_when):
    async def scenario(case):
        tasks = tasks_of(case, (1, "a"), (2, "b"), (3, ValueError("c")), (4, "d"), (6, "e"))
        while tasks:
            done, pending = await case.aio.wait(tasks, return_when=getattr(case.aio, return_when))
            case.record(names(done), names(pending))
            case.record(sorted(repr(task.exception()) for task in done))
            tasks = pending

    agree_everywhere(scenario)


def test_what_is_done_already(agree_everywhere):
    async def scenario(case):
        done = case.loop.create_future()
        done.set_result(1)
        failed = case.loop.create_future()
        failed.set_exception(ValueError())
        waiting = case.loop.create_future()
        for return_when in CONDITIONS[:2]:
            for futures in [done], [waiting, failed], {done, failed}:
                ready, pending = await case.aio.wait(futures, timeout=0.01, return_when=return_when)
                case.record(return_when, len(ready), len(pending))
        case.record(waiting._callbacks)
        waiting.cancel()

    agree_everywhere(scenario)


def test_timeouts(agree_everywhere):
    async def scenario(case):
        tasks = tasks_of(case, (1, "a"))
        never = case.loop.create_future()
        for timeout in (0, 0.001, 0.0, -1, 10**-6):
            done, pending = await case.aio.wait([*tasks, never], timeout=timeout)
            case.record(never in pending, never._callbacks)
        never.cancel()
        with case.catch(text=False):
            await case.aio.wait(tasks, timeout="1")

    agree_everywhere(scenario)


def test_a_cancelled_wait_leaves_the_tasks_alone(agree_everywhere):
    async def scenario(case):
        tasks = tasks_of(case, (3, "a"), (4, "b"))
        waiting = case.loop.create_task(case.aio.wait(tasks, timeout=10))
        await case.aio.sleep(0)
        await case.aio.sleep(0)
        waiting.cancel("no more")
        with case.catch():
            await waiting
        case.record([task.cancelled() for task in tasks], await case.aio.gather(*tasks))

    agree_everywhere(scenario)


def test_bad_arguments_of_wait(agree_everywhere):
    async def scenario(case):
        async def nothing():
            pass

        coroutine = nothing()
        future = case.loop.create_future()
        for arguments, options in [
            ((future,), {}),
            ((coroutine,), {}),
            (([],), {}),
            (([future],), {"return_when": "never"}),
            (([future, coroutine],), {}),
        ]:
            with case.catch():
                await case.aio.wait(*arguments, **options)
        for arguments in [(), ([1],), (None,), (3,)]:
            with case.catch(text=False):
                await case.aio.wait(*arguments)
        with case.catch():
            await case.aio.wait(iter(()))
        coroutine.close()
        future.cancel()

    agree_everywhere(scenario)


def test_coroutine_functions_to_all_who_ask(aio):
    for name in "wait", "wait_for":
        function = getattr(aio, name)
        assert inspect.iscoroutinefunction(function)
        assert inspect.signature(function) == inspect.signature(getattr(asyncio, name))
        assert function.__doc__


def test_never_awaited(agree):
    def scenario(case):
        case.aio.wait([])
        case.aio.wait_for(None, 1)

    assert [entry[2] for entry in agree(scenario)] == [
        f"coroutine '{name}' was never awaited" for name in ("wait", "wait_for")
    ]


def test_as_completed_in_order(agree_everywhere):
    async def scenario(case):
        future = case.loop.create_future()
        case.loop.call_soon(future.set_result, "future")
        coroutines = [quietly(case, 5, "a"), quietly(case, 2, ValueError("b")), quietly(case, 3, "c")]
        for step in case.aio.as_completed([future, *coroutines]):
            case.record(type(step).__name__ != "Future", inspect.isawaitable(step))
            with case.catch():
                case.record(await step)

    agree_everywhere(scenario)


def test_as_completed_with_a_timeout(agree_everywhere):
    async def scenario(case):
        never = case.loop.create_future()
        done = case.loop.create_future()
        done.set_result("a")
        for step in case.aio.as_completed([never, done], timeout=0.01):
            with case.catch():
                case.record(await step)
        case.record(never._callbacks, never.done())
        never.cancel()
        for step in case.aio.as_completed([quietly(case, 1, "b")], timeout=10):
            case.record(await step)

    agree_everywhere(scenario)


def test_as_completed_steps_at_once_and_cancelled(agree_everywhere):
    async def scenario(case):
        steps = list(case.aio.as_completed([quietly(case, number + 2, number) for number in range(4)]))
        tasks = [case.loop.create_task(case.aio.wait_for(step, 5)) for step in steps]
        await case.aio.sleep(0)
        await case.aio.sleep(0)
        tasks[0].cancel()
        for task in tasks[:1] + tasks[1:]:
            with case.catch():
                case.record(await task)

    agree_everywhere(scenario)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
def test_as_completed_gives_the_futures(agree_everywhere):
    async def scenario(case):
        tasks = tasks_of(case, (3, "a"), (1, "b"), (2, ValueError("c")))
        async for done in case.aio.as_completed([*tasks, quietly(case, 4, "coroutine")]):
            case.record(done in tasks, done.done(), repr(done.exception()))
        never = case.loop.create_future()
        with case.catch():
            async for done in case.aio.as_completed([never], timeout=0.001):
                case.record("never")
        never.cancel()

    agree_everywhere(scenario)


def test_bad_arguments_of_as_completed(agree_everywhere):
    async def scenario(case):
        future = case.loop.create_future()
        for given in future, 1, [1]:
            with case.catch(text=given is not future and given != 1):
                for step in case.aio.as_completed(given):
                    case.record("step")
        case.record(list(case.aio.as_completed([])))
        future.cancel()

    agree_everywhere(scenario)
