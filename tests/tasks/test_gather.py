"""gather: results, exceptions, cancellation both ways, duplicates, what it takes."""

import asyncio
import gc
import inspect
import traceback

import pytest


async def after(case, steps, outcome=None):
    """Takes `steps` iterations, then returns or raises."""
    for _ in range(steps):
        await case.aio.sleep(0)
    case.record("ended", outcome)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def test_results_are_in_the_order_of_the_arguments(agree_everywhere):
    async def scenario(case):
        coroutines = [after(case, 3 - number, number) for number in range(4)]
        case.record(await case.aio.gather(*coroutines))
        future = case.loop.create_future()
        case.loop.call_soon(future.set_result, "future")
        task = case.loop.create_task(after(case, 2, "task"))
        case.record(await case.aio.gather(future, after(case, 0, "coroutine"), task))

    record = agree_everywhere(scenario)
    assert record[4] == ((0, 1, 2, 3),)


def test_duplicates_and_what_equals(agree_everywhere):
    async def scenario(case):
        class Named:
            """An awaitable that equals others of the same name."""

            def __init__(self, name):
                self.name = name

            def __eq__(self, other):
                return isinstance(other, Named) and self.name == other.name

            def __hash__(self):
                return hash(self.name)

            def __await__(self):
                yield from after(case, 1, self.name).__await__()
                return self.name

        one, two = after(case, 1, "one"), after(case, 1, "two")
        case.record(await case.aio.gather(one, two, one, one, two))
        task = case.loop.create_task(after(case, 1, "task"))
        case.record(await case.aio.gather(task, task))
        case.record(await case.aio.gather(Named("a"), Named("b"), Named("a")))

    record = agree_everywhere(scenario)
    assert record.count(("ended", "one")) == 1


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_exceptions(agree_everywhere, return_exceptions):
    async def scenario(case):
        outer = case.aio.gather(
            after(case, 2, ValueError("second")),
            after(case, 4, "last"),
            after(case, 1, KeyError("first")),
            after(case, 3, LookupError("seen by nobody")),
            return_exceptions=return_exceptions,
        )
        with case.catch():
            case.record(await outer)
        case.record(outer.done(), outer.cancelled(), outer.cancel())
        await after(case, 5)

    agree_everywhere(scenario)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_cancelled_from_outside(agree_everywhere, return_exceptions):
    async def scenario(case):
        async def holds_on():
            try:
                await case.aio.sleep(10)
            except asyncio.CancelledError as error:
                case.record("cancelled", error)
                return "held on"

        outer = case.aio.gather(
            after(case, 1, "early"),
            case.aio.sleep(10),
            holds_on(),
            return_exceptions=return_exceptions,
        )
        await after(case, 2)
        case.record(outer.cancel("enough"), outer.done())
        with case.catch():
            await outer
        case.record(outer.cancelled(), outer.done(), repr(outer))

        async def waits():
            return await case.aio.gather(case.aio.sleep(10), return_exceptions=return_exceptions)

        task = case.loop.create_task(waits())
        await after(case, 1)
        task.cancel("the task")
        with case.catch():
            await task
        case.record(task.cancelled())

    agree_everywhere(scenario)


def test_cancelled_from_outside_it_raises_the_last_arguments_error(agree_everywhere):
    async def scenario(case):
        async def ends(steps, message):
            with case.catch("child"):
                await case.aio.sleep(10)
            await after(case, steps)
            if message is not None:
                raise asyncio.CancelledError(message)

        for outcomes in ([(2, "a"), (1, "b")], [(1, "c"), (2, "d")], [(2, "e"), (1, None)]):
            outer = case.aio.gather(*(ends(*outcome) for outcome in outcomes), return_exceptions=True)
            await after(case, 2)
            outer.cancel("outer")
            with case.catch():
                await outer

    record = agree_everywhere(scenario)
    raised = [entry[1] for entry in record if entry[0] == "raised"]
    assert raised[:2] == [("CancelledError", "b"), ("CancelledError", "d")]


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_child_that_is_cancelled(agree_everywhere, return_exceptions):
    async def scenario(case):
        child = case.loop.create_task(case.aio.sleep(10))
        future = case.loop.create_future()
        outer = case.aio.gather(
            child, future, after(case, 4, "ended"), return_exceptions=return_exceptions
        )
        await after(case, 1)
        child.cancel("the child")
        future.cancel()
        with case.catch():
            case.record(await outer)
        case.record(outer.cancelled())
        await after(case, 5)

    agree_everywhere(scenario)


def test_children_that_are_done_already(agree_everywhere):
    async def scenario(case):
        done, failed, cancelled = (case.loop.create_future() for _ in range(3))
        done.set_result("result")
        failed.set_exception(ValueError("failed"))
        cancelled.cancel("cancelled")
        case.record(await case.aio.gather(done, failed, cancelled, return_exceptions=True))
        outer = case.aio.gather(done, done)
        case.record(outer.done())
        case.record(await outer)
        for child in failed, cancelled:
            with case.catch():
                await case.aio.gather(done, child, after(case, 1))
        await after(case, 2)

    agree_everywhere(scenario)


def test_nothing_to_gather(agree_everywhere):
    async def scenario(case):
        outer = case.aio.gather()
        case.record(outer.done(), type(outer).__name__, await outer)

    assert agree_everywhere(scenario) == [(True, "Future", ())]


def test_bad_arguments(agree_everywhere):
    async def scenario(case):
        other = asyncio.new_event_loop()
        foreign = other.create_future()
        good = after(case, 1, "good")
        with case.catch():
            case.aio.gather(good, foreign)
        with case.catch():
            case.aio.gather(1)
        with case.catch(text=False):
            case.aio.gather(good=1)
        with case.catch(text=False):
            case.aio.gather([])
        await after(case, 3)
        other.close()

    agree_everywhere(scenario)


def test_without_a_running_loop(agree):
    def scenario(case):
        outer = case.aio.gather(
            case.loop.create_task(after(case, 1, 1)), case.loop.create_task(after(case, 0, 2))
        )
        case.record(case.loop.run_until_complete(outer), outer.get_loop() is case.loop)

    assert agree(scenario)[-1] == ((1, 2), True)


def test_it_looks_like_asyncios(aio, run):
    async def main():
        outer = aio.gather(aio.sleep(0))
        assert type(outer).__name__ == "_GatheringFuture"
        assert repr(outer) == "<_GatheringFuture pending>"
        assert isinstance(outer, asyncio.Future)
        assert not inspect.iscoroutinefunction(aio.gather)
        parameters = inspect.signature(aio.gather).parameters
        assert list(parameters) == ["coros_or_futures", "return_exceptions"]
        await outer

    run(main)


def test_an_exception_nobody_retrieves(agree):
    async def scenario(case):
        outer = case.aio.gather(after(case, 1, ValueError("lost")))
        await after(case, 5)
        del outer
        gc.collect()

    assert any(entry[0] == "report" for entry in agree(scenario))


def test_through_task_factories_and_subclasses(agree):
    async def scenario(case):
        class Task(case.aio.Task):
            def add_done_callback(self, function, *, context=None):
                case.record("watched")
                super().add_done_callback(function, context=context)

        case.loop.set_task_factory(
            lambda loop, coro, **options: Task(coro, loop=loop, **options)
        )
        case.record(await case.aio.gather(after(case, 1, 1), after(case, 0, 2)))
        case.loop.set_task_factory(None)

    assert agree(scenario).count(("watched",)) >= 2


def test_the_users_frames_in_a_traceback(agree):
    async def scenario(case):
        async def fails():
            await case.aio.sleep(0)
            raise ValueError("here")

        async def gathers():
            await case.aio.gather(case.aio.sleep(0), fails())

        try:
            await gathers()
        except ValueError as error:
            frames = traceback.extract_tb(error.__traceback__)
            case.record([frame.name for frame in frames if frame.filename == __file__])

    assert agree(scenario) == [(("scenario", "gathers", "fails"),)]


def test_many_random_cancellations(agree):
    async def scenario(case):
        state = 1
        for turn in range(300):
            children = []
            for _ in range(6):
                state = state * 1103515245 % 2**31 + 12345
                steps = state >> 16 & 3
                children.append(case.loop.create_task(after(case, steps, turn)))
            outer = case.aio.gather(*children, return_exceptions=bool(turn & 1))
            for _ in range(turn % 4):
                await case.aio.sleep(0)
            children[turn % 6].cancel()
            if turn % 3 == 0:
                case.record(outer.cancel())
            with case.catch():
                case.record(await outer)
            for child in children:
                child.cancel()
            case.record(await case.aio.gather(*children, return_exceptions=True))

    agree(scenario)
