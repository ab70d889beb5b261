"""Tasks and futures of several implementations at once.

The native ones, asyncio's C ones and asyncio's pure-Python ones await each other in every
direction; so do objects of other libraries that only have `_asyncio_future_blocking`.
"""

import asyncio
import gc
import types
import weakref

import pytest

PURE_TASK = asyncio.tasks._PyTask
PURE_FUTURE = asyncio.futures._PyFuture

KINDS = ["own", "C", "Python"]


def task_of(case, kind):
    return {"own": case.aio.Task, "C": asyncio.Task, "Python": PURE_TASK}[kind]


def future_of(case, kind):
    return {"own": case.aio.Future, "C": asyncio.Future, "Python": PURE_FUTURE}[kind]


def current_name(current_task=asyncio.current_task):
    """Since 3.14 the C current_task() does not see pure-Python tasks."""
    task = current_task()
    return task and task.get_name()


@pytest.mark.parametrize("task_kind", KINDS)
@pytest.mark.parametrize("future_kind", KINDS)
def test_a_task_awaits_a_future(agree, task_kind, future_kind):
    async def scenario(case):
        Task, Future = task_of(case, task_kind), future_of(case, future_kind)

        async def waits(future):
            try:
                return await future
            except BaseException as error:
                case.record("inside", error)
                raise

        for finish in (
            lambda future: future.set_result("result"),
            lambda future: future.set_exception(ValueError("mine")),
            lambda future: future.cancel("by the future"),
        ):
            future = Future(loop=case.loop)
            task = Task(waits(future), loop=case.loop, name="mixed")
            await asyncio.sleep(0)
            case.record(task._fut_waiter is future, len(future._callbacks))
            finish(future)
            with case.catch():
                case.record(await task)
            case.record(task.done(), task.cancelled(), task.cancelling())
        future = Future(loop=case.loop)
        task = Task(waits(future), loop=case.loop)
        await asyncio.sleep(0)
        case.record(asyncio.current_task() in asyncio.all_tasks(), task in asyncio.all_tasks())
        case.record(task.cancel("by the task"), future.cancelled())
        with case.catch():
            await task
        done = Future(loop=case.loop)
        done.set_result("done")
        case.record(await Task(waits(done), loop=case.loop))

    record = agree(scenario)
    assert ("result",) in record and ("inside", ("CancelledError", "by the task")) in record


@pytest.mark.parametrize("outer_kind", KINDS)
@pytest.mark.parametrize("inner_kind", KINDS)
def test_a_task_awaits_a_task(agree, outer_kind, inner_kind):
    async def scenario(case):
        Outer, Inner = task_of(case, outer_kind), task_of(case, inner_kind)

        async def inner(cancelled=False):
            case.record("current", current_name())
            await asyncio.sleep(0)
            case.record("current", current_name())
            if cancelled:
                await asyncio.sleep(100)
            return "inner"

        async def outer(task):
            return await task

        task = Outer(outer(Inner(inner(), loop=case.loop, name="i")), loop=case.loop, name="o")
        case.record(await task)
        child = Inner(inner(True), loop=case.loop, name="i")
        task = Outer(outer(child), loop=case.loop, name="o")
        for _ in range(3):
            await asyncio.sleep(0)
        case.record({task, child} <= asyncio.all_tasks())
        task.cancel("from the outer")
        with case.catch():
            await task
        case.record(child.cancelled(), task.cancelled())

    record = agree(scenario)
    assert ("inner",) in record and record[-1] == (True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_bare_yields_and_garbage(agree, kind):
    @types.coroutine
    def yields(value):
        return (yield value)

    async def scenario(case):
        Task = task_of(case, kind)

        async def main(value):
            return await yields(value)

        case.record(await Task(main(None), loop=case.loop))
        with case.catch():
            await Task(main(12), loop=case.loop)

    assert agree(scenario)[0] == (None,)


@pytest.mark.parametrize("kind", KINDS)
def test_task_factories_of_another_kind(agree, kind):
    async def scenario(case):
        Task = task_of(case, kind)

        def factory(loop, coro, **options):
            return Task(coro, loop=loop, **options)

        case.loop.set_task_factory(factory)

        async def child(number):
            await asyncio.sleep(0)
            return number

        case.record(await asyncio.gather(*(child(number) for number in range(5))))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(number)) for number in range(3)]
        case.record([task.result() for task in tasks])
        with case.catch():
            async with asyncio.timeout(0.001):
                await asyncio.sleep(100)
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(asyncio.shield(child(1))), asyncio.ensure_future(child(2))]
        )
        case.record(len(done), len(pending))

    assert agree(scenario)[0] == ((0, 1, 2, 3, 4),)


def test_current_task_across_kinds(agree):
    """A C task started eagerly, or a loop's step, sees itself as current, whoever runs it."""

    async def scenario(case):
        async def names():
            found = [current_name()]
            await asyncio.sleep(0)
            found.append(current_name())
            found.append(current_name(case.aio.current_task))
            return found

        for kind in KINDS:
            case.record(await task_of(case, kind)(names(), loop=case.loop, name=kind))
        case.record(asyncio.current_task() is case.aio.current_task())

    assert agree(scenario)[-1] == (True,)


class Foreign:
    """A future of another library."""

    _asyncio_future_blocking = False

    def __init__(self, loop):
        self.loop, self.callbacks, self.value = loop, [], None
        self.is_done = self.was_cancelled = False

    def get_loop(self):
        return self.loop

    def add_done_callback(self, callback, context=None):
        self.callbacks.append((callback, context))

    def done(self):
        return self.is_done

    def result(self):
        if self.was_cancelled:
            raise asyncio.CancelledError
        return self.value

    def finish(self, value):
        self.value, self.is_done = value, True
        for callback, context in self.callbacks:
            self.loop.call_soon(callback, self, context=context)

    def cancel(self, msg=None):
        self.was_cancelled = True
        self.finish(None)
        return True

    def __await__(self):
        if not self.is_done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_awaitables(agree, kind):
    async def scenario(case):
        Task = task_of(case, kind)

        async def waits(foreign):
            return await foreign

        foreign = Foreign(case.loop)
        task = Task(waits(foreign), loop=case.loop)
        await asyncio.sleep(0)
        case.record(task._fut_waiter is foreign, len(foreign.callbacks))
        case.record(foreign._asyncio_future_blocking)
        foreign.finish("result")
        case.record(await task)
        foreign = Foreign(case.loop)
        task = Task(waits(foreign), loop=case.loop)
        await asyncio.sleep(0)
        case.record(task.cancel("message"), foreign.was_cancelled)
        with case.catch():
            await task
        case.record(asyncio.isfuture(foreign), asyncio.ensure_future(foreign) is foreign)

    record = agree(scenario)
    assert record[:2] == [(True, 1), (False,)] and ("result",) in record


@pytest.mark.parametrize("fault", ["add", "context", "cancel", "blocking", "loop"])
def test_faulty_foreign_awaitables(agree, fault):
    async def scenario(case):
        class Faulty(Foreign):
            def add_done_callback(self, callback, context=None):
                if fault == "add":
                    raise ValueError("in add_done_callback")
                super().add_done_callback(callback, context)

            def cancel(self, msg=None):
                if fault == "cancel":
                    raise ValueError("in cancel")
                return super().cancel(msg)

            def get_loop(self):
                if fault == "loop":
                    raise ValueError("in get_loop")
                return self.loop

            def __await__(self):
                if fault == "blocking":
                    yield self
                    return "not blocking"
                return (yield from super().__await__())

        if fault == "context":
            del Faulty.add_done_callback
            Faulty.add_done_callback = lambda self, callback: None

        async def waits(foreign):
            return await foreign

        foreign = Faulty(case.loop)
        task = case.aio.Task(waits(foreign), loop=case.loop)
        await asyncio.sleep(0)
        with case.catch("cancel"):
            case.record(task.cancel())
        if fault == "cancel":
            foreign.finish(1)
        # where asyncio loses the step, the task stays pending
        done, pending = await asyncio.wait([task], timeout=0.005)
        case.record("done", len(done))
        task._log_destroy_pending = False
        with case.catch():
            case.record(task.result())
        asyncio.tasks._unregister_task(task)

    agree(scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_gather_wait_and_timeouts_over_all_kinds(agree, kind):
    async def scenario(case):
        Future = future_of(case, kind)
        futures = [Future(loop=case.loop) for _ in range(4)]
        for number, future in enumerate(futures):
            case.loop.call_later(0.001 * number, future.set_result, number)
        case.record(await asyncio.gather(*futures))
        future = Future(loop=case.loop)
        with case.catch():
            await asyncio.wait_for(future, 0.001)
        case.record(future.cancelled())
        future = Future(loop=case.loop)
        shield = asyncio.shield(future)
        shield.cancel()
        case.record(future.cancelled())
        future.set_result("kept")
        case.record(await future)
        first, second = Future(loop=case.loop), Future(loop=case.loop)
        case.loop.call_soon(second.set_result, 2)
        done, pending = await asyncio.wait(
            [first, second], return_when=asyncio.FIRST_COMPLETED
        )
        case.record(done == {second}, pending == {first})
        first.cancel()

    assert agree(scenario)[0] == ((0, 1, 2, 3),)


def test_a_future_that_a_task_waits_for_keeps_it_alive(aio, loop):
    """Through every kind: the future's callbacks hold the task."""
    for make in (aio.Future, asyncio.Future, PURE_FUTURE):
        ended = []

        async def waits(future, ended=ended):
            await future
            ended.append(True)

        future = make(loop=loop)
        gone = weakref.ref(aio.Task(waits(future), loop=loop))
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        assert gone() is not None
        future.set_result(None)
        loop.run_until_complete(asyncio.sleep(0))
        assert ended == [True]
        del future
        gc.collect()
        assert gone() is None
