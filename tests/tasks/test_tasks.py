"""Task: steps, cancellation, what it waits for, names and contexts.

What keeps a task alive and its finaliser are in test_task_lifetimes.py, texts and introspection in
test_task_texts.py, eager tasks in test_eager_tasks.py, tasks and futures of other implementations
in test_mixed_tasks.py.
"""

import asyncio
import collections.abc
import contextvars
import gc
import inspect
import sys
import threading
import traceback
import types

import pytest

variable = contextvars.ContextVar("variable", default="outside")


async def of(awaitable):
    """A coroutine, as tasks take since 3.12 nothing else: no generator-based one."""
    return await awaitable


def states(case, task):
    case.record(task.done(), task.cancelled(), task.cancelling())
    with case.catch("result"):
        case.record("result", task.result())
    with case.catch("exception"):
        case.record("exception", task.exception())


def test_results(agree, debug):
    async def scenario(case):
        async def returning(value):
            await asyncio.sleep(0)
            return value

        async def raising(error):
            await asyncio.sleep(0)
            raise error

        for value in (None, 1, (1, 2), ValueError("a value"), StopIteration("also a value")):
            task = case.loop.create_task(returning(value))
            case.record(task.done())
            case.record(type(await task).__name__)
            states(case, task)
        for error in (ValueError("mine"), asyncio.CancelledError("by itself"), GeneratorExit("odd")):
            task = case.loop.create_task(raising(error))
            with case.catch():
                await task
            states(case, task)
        with case.catch():
            task.set_result(1)
        with case.catch():
            task.set_exception(ValueError())

    record = agree(scenario, debug)
    assert ("raised", ("RuntimeError", "Task does not support set_result operation")) in record


def test_a_stop_iteration_that_leaves_a_coroutine(agree):
    async def scenario(case):
        async def stops(error):
            raise error

        for error in StopIteration(1), StopAsyncIteration(2):
            with case.catch():
                await case.loop.create_task(stops(error))

        @types.coroutine
        def generator():
            yield
            raise StopIteration(3)

        with case.catch():
            await case.loop.create_task(of(generator()))

    assert agree(scenario)[0][1] == ("RuntimeError", "coroutine raised StopIteration")


def test_system_exits_leave_the_loop(agree):
    for error in SystemExit(3), KeyboardInterrupt():

        def scenario(case, error=error):
            async def leaves():
                raise error

            task = case.loop.create_task(leaves())
            task.add_done_callback(lambda task: case.record("done callback"))
            with case.catch():
                case.loop.run_forever()
            states(case, task)
            case.loop.run_until_complete(asyncio.sleep(0))

        record = agree(scenario)
        assert record[0][1][0] == type(error).__name__ and record[-1] == ("done callback",)


@pytest.mark.parametrize(
    "garbage",
    [1, 0, "text", (), object, ValueError("x"), StopIteration, True],
    ids=lambda garbage: repr(garbage),
)
def test_a_coroutine_that_yields_garbage(agree, garbage):
    async def scenario(case):
        @types.coroutine
        def bad():
            try:
                yield garbage
            except BaseException as error:
                case.record("thrown in", error)
                raise

        async def nested():
            await bad()

        task = case.loop.create_task(nested())
        with case.catch():
            await task

        @types.coroutine
        def survives():
            try:
                yield garbage
            except RuntimeError:
                yield
                return "went on"

        case.record(await case.loop.create_task(of(survives())))

    assert agree(scenario)[1][1][0] == "RuntimeError"


def test_bare_yields(agree):
    async def scenario(case):
        @types.coroutine
        def bare(name, count):
            for number in range(count):
                got = yield
                case.record(name, number, got)
            return name

        tasks = [case.loop.create_task(of(bare(name, count))) for name, count in [("a", 3), ("b", 2)]]
        case.record(await asyncio.gather(*tasks))

    assert agree(scenario)[-1] == (("a", "b"),)


def test_a_generator_yielded_by_mistake(agree):
    async def scenario(case):
        @types.coroutine
        def bad():
            yield (number for number in range(3))

        @types.coroutine
        def worse(future):
            yield future

        with case.catch():
            await case.loop.create_task(of(bad()))
        future = case.loop.create_future()
        with case.catch():
            await case.loop.create_task(of(worse(future)))
        future.cancel()

    record = agree(scenario)
    assert "yield was used instead of yield from" in record[1][1][1]


def test_a_task_that_awaits_itself(agree):
    async def scenario(case):
        async def itself():
            with case.catch("inside"):
                await task
            return "goes on"

        task = case.loop.create_task(itself(), name="itself")
        case.record(await task)

    record = agree(scenario)
    assert record[0][1][0] == "RuntimeError"
    assert record[0][1][1].startswith("Task cannot await on itself: <Task pending name='itself'")


def test_a_future_of_a_different_loop(agree):
    async def scenario(case):
        other = case.aio.new_event_loop()
        future = other.create_future()

        async def waits():
            await future

        with case.catch():
            await case.loop.create_task(waits(), name="waits")
        future.cancel()
        other.close()

    record = agree(scenario)
    assert record[0][1][1].endswith("attached to a different loop")


def test_cancel_before_the_first_step(agree, debug):
    async def scenario(case):
        async def never():
            case.record("ran")

        task = case.loop.create_task(never())
        case.record(task.cancel("why"), task.cancelling(), task.cancelled())
        with case.catch():
            await task
        states(case, task)
        case.record(task.cancel(), task.cancelling())

    record = agree(scenario, debug)
    assert record[0] == (True, 1, False) and ("ran",) not in record


def test_cancel_while_waiting(agree, debug):
    async def scenario(case):
        future = case.loop.create_future()

        async def waits():
            try:
                await future
            except asyncio.CancelledError as error:
                case.record("inside", error, future.cancelled())
                raise

        task = case.loop.create_task(waits())
        await asyncio.sleep(0)
        case.record(task.cancel("message"), future.cancelled(), task.cancelled())
        with case.catch():
            await task
        states(case, task)

    record = agree(scenario, debug)
    assert record[0] == (True, True, False)
    assert record[1] == ("inside", ("CancelledError", "message"), True)


@pytest.mark.parametrize("how", ["result", "exception", "cancel"])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_cancel_while_the_awaited_future_is_just_done(agree, how, steps):
    async def scenario(case):
        future = case.loop.create_future()

        async def waits():
            try:
                case.record("got", await future)
            except BaseException as error:
                case.record("inside", error)
                raise
            await asyncio.sleep(0)
            case.record("after")

        task = case.loop.create_task(waits())
        await asyncio.sleep(0)
        if how == "result":
            future.set_result("result")
        elif how == "exception":
            future.set_exception(ValueError("mine"))
        else:
            future.cancel("by the future")
        for _ in range(steps):
            await asyncio.sleep(0)
        case.record(task.cancel("by the task"), task.cancelling())
        with case.catch():
            await task
        states(case, task)

    record = agree(scenario)
    if steps == 0 and how == "result":
        assert record[1] == ("inside", ("CancelledError", "by the task"))


def test_cancel_in_finally_and_swallowed(agree):
    async def scenario(case):
        async def cleans_up():
            try:
                await asyncio.sleep(100)
            finally:
                case.record("finally")
                await asyncio.sleep(0)
                case.record("cleaned")

        async def swallows():
            while True:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError as error:
                    case.record("swallowed", error, asyncio.current_task().cancelling())
                    if asyncio.current_task().cancelling() == 3:
                        return "result"

        async def replaces():
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise KeyError("instead") from None

        for coroutine in cleans_up, replaces:
            task = case.loop.create_task(coroutine())
            await asyncio.sleep(0)
            task.cancel()
            with case.catch():
                await task
            states(case, task)
        task = case.loop.create_task(cleans_up())
        await asyncio.sleep(0)
        task.cancel("first")
        await asyncio.sleep(0)
        task.cancel("in finally")
        with case.catch():
            await task
        task = case.loop.create_task(swallows())
        for number in range(3):
            await asyncio.sleep(0)
            task.cancel(f"number {number}")
        case.record(await task, task.cancelling(), task.cancelled())

    assert agree(scenario)[-1] == ("result", 3, False)


def test_cancel_twice_before_the_step(agree):
    async def scenario(case):
        async def waits():
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError as error:
                case.record("inside", error)
            await asyncio.sleep(0)
            return "result"

        task = case.loop.create_task(waits())
        await asyncio.sleep(0)
        case.record(task.cancel("one"), task.cancel("two"), task.cancelling())
        case.record(await task)

    assert agree(scenario)[0] == (True, True, 2)


def test_uncancel(agree):
    async def scenario(case):
        async def waits():
            task = asyncio.current_task()
            case.record(task.uncancel(), task.cancelling())
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                case.record(task.cancelling(), task.uncancel(), task.uncancel(), task.cancelling())
            await asyncio.sleep(0)
            task.cancel()
            task.cancel()
            case.record(task.cancelling(), task._must_cancel)
            case.record(task.uncancel(), task._must_cancel, task.uncancel(), task._must_cancel)
            with case.catch("after uncancel"):
                await asyncio.sleep(0)
            return "result"

        task = case.loop.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with case.catch():
            case.record(await task)
        case.record(task.uncancel(), task.cancelling())

    agree(scenario)


def test_a_task_cancels_itself(agree):
    async def scenario(case):
        async def itself(swallow):
            asyncio.current_task().cancel("myself")
            case.record("goes on")
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                case.record(error)
                if not swallow:
                    raise
            return "end"

        async def no_await():
            asyncio.current_task().cancel("myself")
            return "returned"

        async def raises():
            asyncio.current_task().cancel("myself")
            raise ValueError("instead")

        for coroutine in itself(False), itself(True), no_await(), raises():
            task = case.loop.create_task(coroutine)
            with case.catch():
                case.record(await task)
            case.record(task.cancelled(), task.cancelling())

    agree(scenario)


def test_a_child_that_refuses_cancellation(agree):
    """cancel() of the awaited object answers False: the task is cancelled at its next step."""

    async def scenario(case):
        class Stubborn(case.aio.Future):
            def cancel(self, msg=None):
                case.record("asked", msg)
                return False

        future = Stubborn(loop=case.loop)

        async def waits():
            try:
                case.record("got", await future)
            except asyncio.CancelledError as error:
                case.record("inside", error)
                raise

        task = case.loop.create_task(waits())
        await asyncio.sleep(0)
        case.record(task.cancel("message"), task._must_cancel)
        await asyncio.sleep(0)
        future.set_result("result")
        with case.catch():
            await task

    record = agree(scenario)
    assert record[0] == ("asked", "message") and record[1] == (True, True)


def test_cancellation_goes_down_a_chain_of_tasks(agree):
    async def scenario(case):
        async def bottom():
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError as error:
                case.record("bottom", error)
                raise

        async def level(depth):
            inner = case.loop.create_task(level(depth - 1) if depth else bottom())
            try:
                await inner
            except asyncio.CancelledError as error:
                case.record(depth, error)
                raise

        task = case.loop.create_task(level(3))
        for _ in range(6):
            await asyncio.sleep(0)
        task.cancel("from the top")
        with case.catch():
            await task

    assert agree(scenario)[0][0] == "bottom"


def test_the_traceback_of_a_cancellation(agree):
    async def scenario(case):
        async def inner():
            await asyncio.sleep(100)

        async def outer():
            await inner()

        task = case.loop.create_task(outer())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            chain = []
            while error is not None:
                names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                chain.append([name for name in names if name in ("scenario", "outer", "inner")])
                error = error.__context__
            case.record(chain)

    agree(scenario)


def test_contexts(agree):
    async def scenario(case):
        async def shows(name):
            case.record(name, variable.get())
            variable.set("set by " + name)
            await asyncio.sleep(0)
            case.record(name, variable.get())

        variable.set("main")
        given = contextvars.copy_context()
        given.run(variable.set, "given")
        tasks = [
            case.loop.create_task(shows("copy")),
            case.loop.create_task(shows("given"), context=given),
        ]
        await asyncio.wait(tasks)
        case.record(variable.get(), given[variable])
        if sys.version_info >= (3, 12):
            case.record(tasks[1].get_context() is given)
            case.record(tasks[0].get_context()[variable])

    record = agree(scenario)
    assert ("main", "set by given") in record


def test_names(agree):
    async def scenario(case):
        async def nothing():
            pass

        task = case.loop.create_task(nothing(), name="given")
        case.record(task.get_name())
        for name in ("text", 12, None, ValueError("x"), ""):
            task.set_name(name)
            case.record(task.get_name())
        await task
        numbered = [case.loop.create_task(nothing()) for _ in range(3)]
        names = [task.get_name() for task in numbered]
        numbers = [int(name.removeprefix("Task-")) for name in names]
        case.record(numbers == list(range(numbers[0], numbers[0] + 3)))
        await asyncio.wait(numbered)
        for name in (12, ["list"]):
            task = case.aio.Task(nothing(), loop=case.loop, name=name)
            case.record(task.get_name(), type(task.get_name()))
            await task

    record = agree(scenario)
    assert record[0] == ("given",) and (True,) in record


def test_what_is_no_coroutine(agree):
    async def scenario(case):
        async def coroutine():
            pass

        for thing in (12, None, coroutine, case.loop.create_future(), (n for n in range(2)), print):
            with case.catch("create_task"):
                case.loop.create_task(thing)
            with case.catch("Task"):
                case.aio.Task(thing, loop=case.loop)

    record = agree(scenario)
    assert record[0] == ("create_task", ("TypeError", "a coroutine was expected, got 12"))


def test_a_coroutine_class_of_ones_own(agree):
    """collections.abc.Coroutine is enough; so is Cython's kind of coroutine."""
    async def scenario(case):
        class Mine(collections.abc.Coroutine):
            def __init__(self, future):
                self.future = future
                self.state = 0

            def send(self, value):
                case.record("send", value)
                if self.state == 0:
                    self.state = 1
                    return self.future.__await__().send(None)
                raise StopIteration(self.future.result())

            def throw(self, *error):
                case.record("throw", error[0])
                raise error[0] if isinstance(error[0], BaseException) else error[0]()

            def close(self):
                pass

            def __await__(self):
                yield from self.future

        future = case.loop.create_future()
        task = case.loop.create_task(Mine(future))
        case.loop.call_soon(case.loop.call_soon, future.set_result, "result")
        case.record(await task)
        future = case.loop.create_future()
        task = case.loop.create_task(Mine(future))
        await asyncio.sleep(0)
        task.cancel()
        with case.catch():
            await task

    assert ("result",) in agree(scenario)


def test_current_task_and_all_tasks(agree):
    async def scenario(case):
        async def child():
            case.record(asyncio.current_task() is task, case.aio.current_task() is task)
            case.record(asyncio.current_task(case.loop) is task)
            await asyncio.sleep(0)
            case.record(asyncio.current_task() is task)

        task = case.loop.create_task(child())
        case.record(asyncio.current_task() is task, task in asyncio.all_tasks())
        case.record(len(asyncio.all_tasks()), asyncio.all_tasks() == case.aio.all_tasks(case.loop))
        case.loop.call_soon(lambda: case.record("callback", asyncio.current_task()))
        await task
        case.record(len(asyncio.all_tasks()), type(asyncio.all_tasks()))

        def elsewhere():
            with case.catch():
                asyncio.current_task()
            with case.catch():
                asyncio.all_tasks()
            case.record(asyncio.current_task(case.loop) is main, len(asyncio.all_tasks(case.loop)))

        main = asyncio.current_task()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    record = agree(scenario)
    assert record[0] == (False, True) and ("callback", None) in record


def test_a_nested_loop_has_its_own_current_task(aio, run):
    """As a program that runs a loop in a thread of its own, and asks from both."""

    async def main():
        def other():
            async def inner():
                return asyncio.current_task()

            loop = aio.new_event_loop()
            try:
                return loop.run_until_complete(inner())
            finally:
                loop.close()

        theirs = await asyncio.get_running_loop().run_in_executor(None, other)
        assert theirs is not asyncio.current_task() and theirs.done()

    run(main)


def test_done_callbacks_of_tasks(agree):
    async def scenario(case):
        async def child():
            await asyncio.sleep(0)
            return "result"

        task = case.loop.create_task(child())
        for name in "ab":
            task.add_done_callback(lambda t, name=name: case.record(name, t is task, t.result()))
        task.add_done_callback(print)
        case.record(task.remove_done_callback(print))
        case.record(await task)
        task.add_done_callback(lambda t: case.record("late"))
        await asyncio.sleep(0)

    assert agree(scenario)[1:3] == [("a", True, "result"), ("b", True, "result")]


@pytest.mark.aioxide_alone
def test_a_task_without_init_does_not_crash(aio):
    """asyncio's does on most versions."""
    names = "done cancelled get_coro get_name get_context cancel cancelling get_loop get_stack"
    for name in names.split():
        task = aio.Task.__new__(aio.Task)
        try:
            getattr(task, name, repr)()
        except Exception:
            pass  # uninitialised, in whatever words
        del task
    gc.collect()


def test_init_again(agree):
    def scenario(case):
        async def nothing():
            return 1

        first, second = nothing(), nothing()
        task = case.aio.Task(first, loop=case.loop)
        with case.catch():
            task.__init__(second, loop=case.loop)
        case.record(task.get_coro() is second)
        with case.catch():
            case.record(case.loop.run_until_complete(task))
        first.close()
        second.close()
        case.loop.run_until_complete(asyncio.sleep(0))

    agree(scenario)


def test_deep_chains(run):
    """A thousand tasks, each awaiting the next."""

    async def level(depth):
        if depth:
            return 1 + await asyncio.create_task(level(depth - 1))
        return 0

    assert run(level, 1000) == 1000


def test_many_tasks_finish_in_order(run):
    async def main():
        order = []

        async def child(number):
            await asyncio.sleep(0)
            order.append(number)

        await asyncio.gather(*(child(number) for number in range(5000)))
        assert order == list(range(5000))

    run(main)


def test_coroutine_of_a_closed_generator(agree):
    """A task whose coroutine somebody else closed or ran."""

    async def scenario(case):
        async def child():
            await asyncio.sleep(0)
            return 1

        coroutine = child()
        task = case.loop.create_task(coroutine)
        coroutine.close()
        with case.catch():
            case.record(await task)
        coroutine = child()
        first, second = case.loop.create_task(coroutine), case.loop.create_task(coroutine)
        case.record(await asyncio.gather(first, second, return_exceptions=True))
        case.record(inspect.iscoroutine(coroutine))

    agree(scenario)


def test_a_step_is_a_callback_without_arguments(agree):
    def scenario(case):
        scheduled = []

        def call_soon(callback, *args, context=None):
            scheduled.append(args)
            return type(case.loop).call_soon(case.loop, callback, *args, context=context)

        async def odd():
            await Bad()

        class Bad:
            def __await__(self):
                yield 5

        case.loop.call_soon = call_soon
        task = case.loop.create_task(odd())
        with case.catch():
            case.loop.run_until_complete(task)
        case.record([args for args in scheduled if task not in args])
        del case.loop.call_soon

    agree(scenario)


def test_no_repr_is_asked_for_that_a_text_does_not_show(agree):
    async def scenario(case):
        class Task(case.aio.Task):
            def __repr__(self):
                raise KeyError("in the repr")

        class Bad:
            def __await__(self):
                yield 5

        async def odd():
            await Bad()

        with case.catch():
            await Task(odd(), loop=case.loop)

    agree(scenario)
