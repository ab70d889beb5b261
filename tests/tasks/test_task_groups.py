"""TaskGroup: results, errors, cancellation, what it takes, what stays."""

import asyncio
import contextvars
import gc
import inspect
import sys
import traceback
import weakref

import pytest

from test_gather import after

variable = contextvars.ContextVar("variable")


def leaves(error):
    """The type of an exception, and of those in a group."""
    if isinstance(error, BaseExceptionGroup):
        return (type(error).__name__, error.message, *(leaves(inner) for inner in error.exceptions))
    return type(error).__name__


def test_tasks_that_return(agree_everywhere):
    async def scenario(case):
        group = case.aio.TaskGroup()
        case.record(group)
        async with group as entered:
            case.record(entered is group, group)
            first = group.create_task(after(case, 3, "first"))
            second = group.create_task(after(case, 1, "second"), name="named")
            case.record(group, second.get_name())
        case.record(group, first.result(), second.result())
        async with case.aio.TaskGroup() as group:
            pass

    agree_everywhere(scenario)


def test_a_task_that_fails_cancels_the_others_and_the_block(agree_everywhere):
    async def scenario(case):
        async def holds_on(error):
            try:
                await case.aio.sleep(10)
            except asyncio.CancelledError:
                case.record("cancelled")
                if error is not None:
                    raise error from None
                raise

        for in_block in (True, False):
            try:
                async with case.aio.TaskGroup() as group:
                    group.create_task(after(case, 2, ValueError("first")))
                    group.create_task(holds_on(None))
                    group.create_task(holds_on(KeyError("late")))
                    if in_block:
                        await case.aio.sleep(10)
            except BaseException as error:
                case.record(leaves(error), type(error.__context__), error.__suppress_context__)
            case.record(group, case.aio.current_task().cancelling())

    agree_everywhere(scenario)


def test_the_block_fails(agree_everywhere):
    async def scenario(case):
        for error in (ValueError("block"), asyncio.CancelledError("by itself"), GeneratorExit()):
            try:
                async with case.aio.TaskGroup() as group:
                    task = group.create_task(case.aio.sleep(10))
                    await case.aio.sleep(0)
                    raise error
            except BaseException as raised:
                case.record(leaves(raised))
            case.record(task.cancelled())

    agree_everywhere(scenario)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5])
def test_cancelled_from_outside(agree_everywhere, steps):
    async def scenario(case):
        async def waits():
            async with case.aio.TaskGroup() as group:
                group.create_task(after(case, 3, "a"))
                group.create_task(after(case, 2, ValueError("b") if steps & 1 else "b"))
                await case.aio.sleep(0)

        task = case.loop.create_task(waits())
        for _ in range(steps):
            await case.aio.sleep(0)
        task.cancel("outside")
        await case.aio.sleep(0)
        task.cancel("once more")
        try:
            await task
        except BaseException as error:
            case.record(leaves(error))
        case.record(task.cancelled(), task.cancelling())

    agree_everywhere(scenario)


def test_swallowed_cancellation_counts(agree_everywhere):
    async def scenario(case):
        async def waits():
            try:
                async with case.aio.TaskGroup() as group:
                    group.create_task(after(case, 2, ValueError()))
                    await case.aio.sleep(10)
            except* ValueError:
                case.record("seen")
            await case.aio.sleep(0)
            return "went on"

        task = case.loop.create_task(waits())
        case.record(await task, task.cancelling())

    agree_everywhere(scenario)


def test_what_a_group_refuses(agree_everywhere):
    async def scenario(case):
        group = case.aio.TaskGroup()

        def attempt():
            coroutine = after(case, 0, "never")
            with case.catch():
                group.create_task(coroutine)
            coroutine.close()

        attempt()
        async with group:
            with case.catch(text=False):
                group.create_task()
            with case.catch():
                await group.__aenter__()
        attempt()
        with case.catch():
            async with case.aio.TaskGroup() as group:
                group.create_task(after(case, 0, ValueError()))
                try:
                    await case.aio.sleep(10)
                finally:
                    attempt()
        with case.catch():
            async with group:
                pass

    agree_everywhere(scenario)


def test_contexts_and_factories(agree):
    async def scenario(case):
        async def reads():
            await case.aio.sleep(0)
            return variable.get("nothing")

        context = contextvars.copy_context()
        context.run(variable.set, "given")
        made = []

        def factory(loop, coro, **options):
            made.append(sorted(options))
            return case.aio.Task(coro, loop=loop, **options)

        async with case.aio.TaskGroup() as group:
            tasks = [group.create_task(reads()), group.create_task(reads(), context=context)]
            case.loop.set_task_factory(factory)
            tasks.append(group.create_task(reads(), name="made"))
            case.loop.set_task_factory(None)
        case.record([task.result() for task in tasks], tasks[2].get_name(), made)

    agree(scenario)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_tasks(agree):
    async def scenario(case):
        async def at_once(outcome):
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        case.loop.set_task_factory(asyncio.eager_task_factory)
        for outcomes in [(1, 2), (1, ValueError(), 3)]:
            try:
                async with case.aio.TaskGroup() as group:
                    for outcome in outcomes:
                        with case.catch("create"):
                            coroutine = at_once(outcome)
                            case.record(group.create_task(coroutine).done(), len(group._tasks))
                        coroutine.close()
                    await case.aio.sleep(0)
                    case.record("went on")
            except BaseException as error:
                case.record(leaves(error))
        case.loop.set_task_factory(None)

    agree(scenario)


def test_what_ends_the_program_comes_alone(agree):
    async def scenario(case):
        try:
            async with case.aio.TaskGroup() as group:
                task = group.create_task(case.aio.sleep(10))
                await case.aio.sleep(0)
                raise SystemExit(4)
        except BaseException as error:
            case.record(leaves(error), task.cancelled())

    agree(scenario)


def test_subclasses(agree_everywhere):
    async def scenario(case):
        class Group(case.aio.TaskGroup):
            def __init__(self):
                super().__init__()
                self.done = 0

            def create_task(self, coro, **options):
                case.record("created")
                return super().create_task(coro, **options)

            def _on_task_done(self, task):
                self.done += 1
                super()._on_task_done(task)

            def _abort(self):
                case.record("aborted")
                super()._abort()

            async def __aexit__(self, *error):
                case.record("left", error[0])
                return await super().__aexit__(*error)

        with case.catch():
            async with Group() as group:
                group.create_task(after(case, 1, "a"))
                group.create_task(after(case, 2, ValueError()))
                group.create_task(case.aio.sleep(10))
        case.record(group.done)

    agree_everywhere(scenario)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="cancel() is new in Python 3.15")
def test_the_groups_own_cancel(agree_everywhere):
    async def scenario(case):
        for when in ("before", "inside", "outside", "after"):
            group = case.aio.TaskGroup()
            if when == "before":
                group.cancel()
            async with group:
                with case.catch():
                    group.create_task(after(case, 3, when))
                if when == "inside":
                    group.cancel()
                    group.cancel()
                if when == "outside":
                    case.loop.call_soon(group.cancel)
                    await case.aio.sleep(10)
                    case.record("went on")
            if when == "after":
                group.cancel()
            case.record(when, group, case.aio.current_task().cancelling())

    agree_everywhere(scenario)


def test_a_group_lets_go_of_what_is_done(aio, run):
    async def main():
        async with aio.TaskGroup() as group:
            task = group.create_task(aio.sleep(0))
            gone = weakref.ref(task)
            del task
            for _ in range(4):
                await aio.sleep(0)
            assert gone() is None
            assert not group._tasks
        group.note = "mine"
        assert weakref.ref(group)() is group
        assert inspect.iscoroutinefunction(group.__aexit__)

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="such cycles were there before 3.14")
def test_errors_make_no_cycle(aio, run):
    async def main():
        class Failure(Exception):
            pass

        async def fails():
            raise Failure

        gone = []
        try:
            async with aio.TaskGroup() as group:
                group.create_task(fails())
                await aio.sleep(10)
        except* Failure as error:
            gone.append(weakref.ref(error.exceptions[0]))
        await aio.sleep(0)
        assert gone[0]() is None

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_the_users_frames_in_a_traceback(agree):
    async def scenario(case):
        async def fails():
            await case.aio.sleep(0)
            raise ValueError("here")

        async def groups():
            async with case.aio.TaskGroup() as group:
                group.create_task(fails())

        def frames(error):
            entries = traceback.extract_tb(error.__traceback__)
            return [entry.name for entry in entries if entry.filename == __file__]

        try:
            await groups()
        except BaseExceptionGroup as error:
            case.record(frames(error), frames(error.exceptions[0]))

    assert agree(scenario) == [(("scenario", "groups"), ("fails",))]
