"""Methods that a program replaces on Futures, Tasks, Timeouts and task groups: on the object, before
or after asyncio has met it, or in a subclass. Whoever calls them on asyncio calls them here, with the
same arguments and in the same order; what they raise goes where asyncio sends it."""

import asyncio
import contextlib
import contextvars
import gc
import sys

import pytest

from test_gather import after

WATCHED = (
    "add_done_callback",
    "remove_done_callback",
    "cancel",
    "cancelling",
    "uncancel",
    "done",
    "cancelled",
    "exception",
    "result",
    "set_result",
    "set_exception",
    "get_loop",
    "get_name",
    "set_name",
    "_make_cancelled_error",
)


def shown(value):
    return "callable" if callable(value) else value


def watch(case, future, name):
    """Has each call of a method of `future` recorded."""
    for method in WATCHED:
        original = getattr(future, method, None)
        if original is None:
            continue

        def called(*args, method=method, original=original, **options):
            if case.watching:
                names = {key: shown(value) for key, value in options.items() if key != "context"}
                case.record(name, method, [shown(arg) for arg in args], names)
            return original(*args, **options)

        setattr(future, method, called)
    return future


@pytest.fixture(params=["object", "subclass"])
def makers(request):
    """makers(case): functions that make a watched Task and a watched Future."""

    def makers(case):
        class OwnTask(case.aio.Task):
            pass

        class OwnFuture(case.aio.Future):
            pass

        def task(coro, name="task"):
            if request.param == "subclass":
                return watch(case, OwnTask(coro, loop=case.loop, name=name), name)
            return watch(case, case.loop.create_task(coro, name=name), name)

        def future(name="future"):
            if request.param == "subclass":
                return watch(case, OwnFuture(loop=case.loop), name)
            return watch(case, case.loop.create_future(), name)

        return task, future

    return makers


async def give(awaitable):
    return await awaitable


async def ends(case, awaitable):
    """Records how `awaitable` ends, and lets all that follows from it happen."""
    case.record("begin")
    try:
        case.record("returned", shown(await awaitable))
    except BaseException as error:
        case.record("raised", error, getattr(error, "exceptions", ()))
    for _ in range(6):
        await case.aio.sleep(0)


async def awaited(case, task, future):
    await ends(case, task(after(case, 2, "done")))
    await ends(case, task(after(case, 2, KeyError("failed"))))
    waiting = future()
    case.loop.call_soon(case.loop.call_soon, waiting.set_result, 1)
    await ends(case, waiting)


async def cancelled_while_awaited(case, task, future):
    for message in (), ("why",):
        waiting = case.loop.create_task(give(future()))
        await case.aio.sleep(0)
        waiting.cancel(*message)
        await ends(case, waiting)

        async def cancels_itself(message=message):
            case.aio.current_task().cancel(*message)
            await future()

        await ends(case, case.loop.create_task(cancels_itself()))
        inner = task(after(case, 9))
        waiting = case.loop.create_task(give(inner))
        await case.aio.sleep(0)
        waiting.cancel(*message)
        await ends(case, waiting)


async def waited_for(case, task, future):
    await ends(case, case.aio.wait_for(task(after(case, 2, "done")), 10))
    for timeout in (0.001, 0):
        await ends(case, case.aio.wait_for(task(case.aio.sleep(10)), timeout))
        await ends(case, case.aio.wait_for(future(), timeout))


async def waited_for_together(case, task, future):
    fast, slow = after(case, 2), after(case, 4)
    await ends(case, case.aio.wait([task(fast), task(slow)]))
    await ends(case, case.aio.wait([task(after(case, 2))], return_when="FIRST_COMPLETED"))
    failing = after(case, 2, KeyError("failed"))
    await ends(case, case.aio.wait([task(failing)], return_when="FIRST_EXCEPTION"))
    waiting = future()
    await ends(case, case.aio.wait([waiting], timeout=0.001))
    waiting.cancel()


async def gathered(case, task, future):
    await ends(case, case.aio.gather(task(after(case, 2)), task(after(case, 3))))
    failing = after(case, 2, KeyError("failed"))
    await ends(case, case.aio.gather(task(failing), task(after(case, 4))))
    for outcome in KeyError("failed"), asyncio.CancelledError("own"):
        children = task(after(case, 2, outcome)), task(after(case, 3))
        await ends(case, case.aio.gather(*children, return_exceptions=True))
    done = future()
    done.set_result("before")
    await ends(case, case.aio.gather(done))


async def gather_cancelled(case, task, future):
    for message in (), ("why",):
        outer = case.aio.gather(task(after(case, 9)), future())
        await case.aio.sleep(0)
        outer.cancel(*message)
        await ends(case, outer)


async def gathering_future(case, task, future):
    await ends(case, watch(case, case.aio.gather(after(case, 1), after(case, 1)), "outer"))
    failing = after(case, 1, KeyError("failed"))
    await ends(case, watch(case, case.aio.gather(failing, after(case, 2)), "outer"))
    outer = watch(case, case.aio.gather(after(case, 9), after(case, 9)), "outer")
    waiting = case.loop.create_task(give(outer))
    await case.aio.sleep(0)
    waiting.cancel("why")
    await ends(case, waiting)


async def shielded(case, task, future):
    await ends(case, case.aio.shield(task(after(case, 2))))
    await ends(case, case.aio.shield(task(after(case, 2, KeyError("failed")))))
    inner = future()
    case.loop.call_soon(inner.cancel)
    await ends(case, case.aio.shield(inner))
    outer = case.aio.shield(task(after(case, 4)))
    await case.aio.sleep(0)
    outer.cancel()
    await ends(case, outer)
    await ends(case, watch(case, case.aio.shield(after(case, 2)), "outer"))


async def under_a_timeout(case, task, future):
    async def block():
        async with case.aio.timeout(0.001):
            await case.aio.sleep(10)

    await ends(case, task(block()))


async def in_a_group(case, task, future):
    async def block(outcome, own=None):
        async with case.aio.TaskGroup() as group:
            watch(case, group.create_task(after(case, 2, outcome)), "child")
            watch(case, group.create_task(after(case, 4)), "child")
            await case.aio.sleep(0)
            if own is not None:
                raise own
            await case.aio.sleep(0)

    await ends(case, task(block(None)))
    await ends(case, task(block(KeyError("failed"))))
    await ends(case, task(block(None, KeyError("own"))))
    stopped = task(block(None))
    await case.aio.sleep(0)
    stopped.cancel()
    await ends(case, stopped)


async def as_completed(case, task, future):
    async def all_of(awaitables, **options):
        for one in case.aio.as_completed(awaitables, **options):
            case.record(await one)

    await ends(case, all_of([task(after(case, 2, 1)), task(after(case, 4, 2))]))
    waiting = future("one")
    await ends(case, all_of([waiting, task(after(case, 1, 1), "one")], timeout=0.02))
    waiting.cancel()


async def ensured(case, task, future):
    waiting = future()
    case.record(case.aio.ensure_future(waiting) is waiting)
    case.record(case.aio.ensure_future(waiting, loop=case.loop) is waiting)
    case.record(case.aio.isfuture(waiting))
    waiting.cancel()


async def waiters_of_locks(case, task, future):
    async def wait_with(waiting, waiters, wake):
        waiting = case.loop.create_task(waiting)
        await case.aio.sleep(0)
        watch(case, waiters()[0], "waiter")
        wake(waiting)
        await ends(case, waiting)

    lock = case.aio.Lock()
    await lock.acquire()
    await wait_with(lock.acquire(), lambda: lock._waiters, lambda _: lock.release())
    await wait_with(lock.acquire(), lambda: lock._waiters, lambda task: task.cancel())
    semaphore = case.aio.Semaphore(0)
    await wait_with(semaphore.acquire(), lambda: semaphore._waiters, lambda _: semaphore.release())
    event = case.aio.Event()
    await wait_with(event.wait(), lambda: event._waiters, lambda _: event.set())
    queue = case.aio.Queue(1)
    await wait_with(queue.get(), lambda: queue._getters, lambda _: queue.put_nowait(1))
    queue.put_nowait(1)
    await wait_with(queue.put(2), lambda: queue._putters, lambda _: queue.get_nowait())
    condition = case.aio.Condition()

    async def wait():
        async with condition:
            await condition.wait()

    waiting = case.loop.create_task(wait())
    await case.aio.sleep(0)
    watch(case, condition._waiters[0], "waiter")
    async with condition:
        condition.notify()
    await ends(case, waiting)


async def waiter_of_a_sleep(case, task, future):
    for wake in lambda _: None, lambda sleeping: sleeping.cancel():
        sleeping = case.loop.create_task(case.aio.sleep(0.001, "slept"))
        await case.aio.sleep(0)
        watch(case, sleeping._fut_waiter, "waiter")
        wake(sleeping)
        await ends(case, sleeping)


CALLERS = (
    awaited,
    cancelled_while_awaited,
    waited_for,
    waited_for_together,
    gathered,
    gather_cancelled,
    gathering_future,
    shielded,
    under_a_timeout,
    in_a_group,
    as_completed,
    ensured,
    waiters_of_locks,
    waiter_of_a_sleep,
)


@pytest.mark.parametrize("caller", CALLERS)
def test_methods_are_called_as_asyncio_calls_them(agree_everywhere, makers, caller):
    async def scenario(case):
        case.watching = True
        await caller(case, *makers(case))
        case.watching = False

    agree_everywhere(scenario)


def test_a_task_that_shields_itself(agree_everywhere):
    # While another task waits for it, or a timeout or group of its own runs already.
    async def scenario(case):
        async def shielded():
            def cancel(msg=None):
                case.record("cancel", msg)
                return True

            case.aio.current_task().cancel = cancel
            await case.aio.sleep(0.03)
            return "finished"

        async def by_timeout():
            async with case.aio.timeout(0.01):
                return await shielded()

        await ends(case, case.loop.create_task(by_timeout()))
        child = case.loop.create_task(shielded())
        waiting = case.loop.create_task(give(child))
        await case.aio.sleep(0)
        await case.aio.sleep(0)
        waiting.cancel("why")
        await ends(case, waiting)

        async def by_group():
            async with case.aio.TaskGroup() as group:
                children.append(group.create_task(shielded()))
                group.create_task(after(case, 2, KeyError("failed")))

        children = []
        await ends(case, by_group())
        case.record(children[0].result())
        for wait in case.aio.wait_for, lambda task, _: case.aio.wait([task], timeout=0.01):
            child = case.loop.create_task(shielded())
            await ends(case, wait(child, 0.01))
            await case.aio.wait([child])
            case.record(child.result())
        child = case.loop.create_task(shielded())
        outer = case.aio.gather(child)
        await case.aio.sleep(0)
        await case.aio.sleep(0)
        outer.cancel()
        await ends(case, outer)
        case.record(child.result())

    agree_everywhere(scenario)


def test_signatures_of_their_own(agree_everywhere):
    # cancel() without a message, as asyncio's own callers call it.
    async def scenario(case):
        class Own(case.aio.Task):
            def cancel(self):
                case.record("cancel")
                return super().cancel()

        async def block():
            async with case.aio.timeout(0.001):
                await case.aio.sleep(10)

        await ends(case, Own(block(), loop=case.loop))
        await ends(case, case.aio.wait_for(Own(case.aio.sleep(10), loop=case.loop), 0))
        outer = case.aio.gather(Own(after(case, 3), loop=case.loop))
        with case.catch(text=False):
            outer.cancel()
        await ends(case, outer)

    agree_everywhere(scenario)


def test_the_context_of_a_replaced_cancel(agree):
    variable = contextvars.ContextVar("variable", default="none")

    async def scenario(case):
        class Own(case.aio.Task):
            def cancel(self, msg=None):
                case.record("cancel", variable.get())
                return super().cancel(msg)

        async def by_timeout():
            variable.set("of the timeout")
            async with case.aio.timeout(0.001):
                variable.set("later")
                await case.aio.sleep(10)

        async def by_group():
            variable.set("of the group")
            async with case.aio.TaskGroup() as group:
                group.create_task(after(case, 1, KeyError("failed")))
                variable.set("later")
                await case.aio.sleep(10)

        await ends(case, Own(by_timeout(), loop=case.loop))
        await ends(case, Own(by_group(), loop=case.loop))

    agree(scenario)


# What they raise.


class Odd(BaseException):
    pass


def raising(kind):
    def method(*args, **options):
        raise kind("raised")

    return method


METHODS = ("cancel", "uncancel", "cancelling", "done", "cancelled", "exception", "result")
OTHERS = ("add_done_callback", "remove_done_callback", "get_loop", "_make_cancelled_error")


@pytest.mark.parametrize("kind", ["object", "later", "subclass"])
@pytest.mark.parametrize("method", METHODS + OTHERS)
@pytest.mark.parametrize("error", [KeyError, Odd])
def test_what_they_raise(agree, method, kind, error):
    async def scenario(case):
        all_made = []

        class Own(case.aio.Task):
            pass

        def task(coro):
            made = (Own if kind == "subclass" else case.aio.Task)(coro, loop=case.loop)
            all_made.append(made)
            if kind == "subclass":
                setattr(Own, method, raising(error))
            else:
                arm = (setattr, made, method, raising(error))
                arm[0](*arm[1:]) if kind == "object" else case.loop.call_soon(*arm)
            return made

        async def limited(awaitable):
            # some wait for ever then
            waiting = case.aio.Task(give(awaitable), loop=case.loop)
            for _ in range(30):
                await case.aio.sleep(0)
            disarm()
            if not waiting.done():
                case.record("waits for ever")
                blocked = waiting
                while isinstance(blocked, asyncio.Task) and blocked._fut_waiter:
                    blocked = blocked._fut_waiter
                if isinstance(blocked, asyncio.Task):
                    # its last step has failed: nothing wakes it
                    blocked._log_destroy_pending = False
                    blocked.get_coro().close()
                    return None
                blocked.set_result(None)
            return await waiting

        def disarm():
            case.loop.set_task_factory(None)
            if method in Own.__dict__:
                delattr(Own, method)
            for made in all_made:
                with contextlib.suppress(AttributeError):
                    delattr(made, method)

        async def timed_out():
            async with case.aio.timeout(0):
                await after(case, 5)

        async def in_group(outcome):
            async with case.aio.TaskGroup() as group:
                group.create_task(after(case, 2, outcome))
                await after(case, 6)

        def with_children(outcome):
            case.loop.set_task_factory(lambda loop, coro, **options: task(coro))
            return in_group(outcome)

        async def completed(awaitable):
            for one in case.aio.as_completed([awaitable]):
                await one

        blocks = [
            lambda: case.aio.shield(task(timed_out())),
            lambda: case.aio.shield(task(in_group(KeyError("failed")))),
            lambda: task(after(case, 3)),
            lambda: case.aio.wait_for(task(after(case, 5)), 0),
            lambda: case.aio.wait([task(after(case, 3))]),
            lambda: case.aio.gather(task(after(case, 3)), case.loop.create_task(after(case, 5))),
            lambda: case.aio.shield(task(after(case, 3))),
            lambda: completed(task(after(case, 3))),
        ]
        if method != "add_done_callback":
            # without it a group never hears of the end of its task
            blocks.append(lambda: with_children(None))
            blocks.append(lambda: with_children(KeyError("failed")))
        for number, block in enumerate(blocks):
            case.record("block", number)
            try:
                made = block()
                # what it makes itself comes out of the factory
                await ends(case, limited(made))
            except BaseException as raised:
                case.record("not made", raised)
            finally:
                disarm()
                for task_left in all_made:
                    task_left.cancel()
                all_made.clear()
        await after(case, 9)
        # tasks that nothing can end
        gc.collect()

    agree(scenario)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_the_loop(agree, error):
    def scenario(case):
        async def block():
            async with case.aio.timeout(0.001):
                case.aio.current_task().cancel = raising(error)
                await case.aio.sleep(0.005)

        task = case.loop.create_task(block())
        with case.catch():
            case.loop.run_until_complete(task)
        case.loop.run_until_complete(case.aio.wait([task]))
        case.record(task.exception())

    agree(scenario)


def test_reports_name_asyncios_functions(agree):
    async def scenario(case):
        class Own(case.aio.Task):
            exception = cancelled = cancel = remove_done_callback = raising(KeyError)

        def own(coro):
            return Own(coro, loop=case.loop)

        async def block():
            async with case.aio.timeout(0):
                await after(case, 3)

        case.aio.gather(own(after(case, 2)))
        await after(case, 6)
        case.aio.shield(own(after(case, 2)))
        await after(case, 6)
        failing = own(after(case, 2))
        waiting = case.loop.create_task(
            case.aio.wait([failing, own(after(case, 3))], return_when="FIRST_EXCEPTION")
        )
        await case.aio.wait([waiting])
        case.record(waiting.exception())
        await own(block())
        sleeping = case.loop.create_task(case.aio.sleep(0.001))
        await case.aio.sleep(0)
        future = sleeping._fut_waiter
        future.set_result = raising(KeyError)
        while "_set_result" not in str(case.records[-1]):
            await case.aio.sleep(0.001)
        sleeping.cancel()

    reports = [entry[1] for entry in agree(scenario) if entry[0] == "report"]
    assert any("gather.<locals>._done_callback(" in text for text in reports)
    assert any("shield.<locals>._inner_done_callback(" in text for text in reports)
    assert any("_wait.<locals>._on_completion(" in text for text in reports)
    assert any("Timeout._on_timeout()" in text for text in reports)
    assert any("_set_result_unless_cancelled(" in text for text in reports)


def test_a_raising_method_in_a_finally_block(agree):
    # What it raises has the exception on its way as its context.
    async def scenario(case):
        class Own(case.aio.Task):
            remove_done_callback = uncancel = raising(KeyError)

        async def block():
            async with case.aio.timeout(0):
                await case.aio.sleep(10)

        child = Own(after(case, 9), loop=case.loop)
        waiting = case.loop.create_task(case.aio.wait([child]))
        await case.aio.sleep(0)
        waiting.cancel("why")
        left = Own(block(), loop=case.loop)
        short = Own(case.aio.wait_for(case.aio.sleep(10), 0.001), loop=case.loop)
        for task in waiting, left, short:
            try:
                await task
            except (KeyError, TimeoutError) as error:
                case.record(error, error.__context__)
        await child

    agree(scenario)


# Timeouts and task groups.


@pytest.mark.parametrize("kind", ["subclass", "object"])
def test_a_timeouts_own_methods(agree_everywhere, kind):
    async def scenario(case):
        def replace(timeout):
            original = timeout._on_timeout

            def on_timeout():
                case.record("on_timeout", timeout._timeout_handler is not None)
                original()

            timeout._on_timeout = on_timeout
            return timeout

        class Own(case.aio.Timeout):
            def _on_timeout(self):
                case.record("on_timeout", self._timeout_handler is not None)
                super()._on_timeout()

            def reschedule(self, when):
                case.record("reschedule", when is None)
                super().reschedule(when)

        def make(when):
            return Own(when) if kind == "subclass" else replace(case.aio.timeout_at(when))

        for delay in (0.001, -1, None):
            with case.catch():
                now = case.loop.time()
                async with make(None if delay is None else now + delay) as timeout:
                    case.record(timeout._timeout_handler is None)
                    if delay is None:
                        timeout.reschedule(now + 0.001)
                    await case.aio.sleep(10)
            case.record(repr(timeout), timeout.expired(), timeout._timeout_handler)
        async with make(case.loop.time() + 10) as timeout:
            timeout.reschedule(None)
            case.record(timeout._timeout_handler)
        with case.catch():
            await case.aio.wait_for(give(case.aio.sleep(10)), 0.001)

    agree_everywhere(scenario)


def test_a_timeouts_own_method_that_raises(agree):
    async def scenario(case):
        class Own(case.aio.Timeout):
            def _on_timeout(self):
                raise KeyError("own")

        async with Own(case.loop.time() + 0.001):
            await case.aio.sleep(0.003)

    assert agree(scenario)[0][1].startswith("Exception in callback ")


@pytest.mark.parametrize("kind", ["subclass", "object"])
@pytest.mark.parametrize("failure", [None, KeyError])
def test_a_groups_own_methods(agree_everywhere, kind, failure):
    names = ("_on_task_done", "_abort", "_is_base_error", "create_task")

    async def scenario(case):
        def recording(name, original):
            def method(*args, **options):
                case.record(name)
                return original(*args, **options)

            return method

        class Own(case.aio.TaskGroup):
            def _on_task_done(self, task):
                case.record("_on_task_done")
                super()._on_task_done(task)

            def _abort(self):
                case.record("_abort")
                super()._abort()

            def _is_base_error(self, error):
                case.record("_is_base_error", error)
                return isinstance(error, GeneratorExit)

        def make():
            if kind == "subclass":
                return Own()
            group = case.aio.TaskGroup()
            for name in names:
                setattr(group, name, recording(name, getattr(group, name)))
            return group

        async def leaves(own):
            async with make() as group:
                group.create_task(after(case, 1, failure and failure("failed")))
                group.create_task(after(case, 3))
                await case.aio.sleep(0)
                if own is not None:
                    raise own

        await ends(case, leaves(None))
        await ends(case, leaves(KeyError("own") if failure else GeneratorExit("own")))

    agree_everywhere(scenario)


def test_when_a_group_adds_its_callback(agree_everywhere):
    async def scenario(case):
        class Own(case.aio.Task):
            def add_done_callback(self, callback, *, context=None):
                case.record(self in group._tasks)
                super().add_done_callback(callback, context=context)

        case.loop.set_task_factory(lambda loop, coro, **options: Own(coro, loop=loop))
        async with case.aio.TaskGroup() as group:
            group.create_task(case.aio.sleep(0))
        case.loop.set_task_factory(None)

    agree_everywhere(scenario)


# The names that task factories are told.


def test_names_given_to_what_a_factory_makes(agree):
    async def scenario(case):
        class Nameless(case.aio.Future):
            def __init__(self, coro, loop):
                coro.close()
                super().__init__(loop=loop)
                self.set_result(None)

        class Own(case.aio.Task):
            def set_name(self, value):
                case.record("set_name", value)
                super().set_name(value)

        for make in Own, Nameless:
            case.loop.set_task_factory(lambda loop, coro, make=make, **options: make(coro, loop=loop))
            for options in {}, {"name": None}, {"name": "given"}:
                for create in case.loop.create_task, case.aio.create_task:
                    with case.catch():
                        await create(after(case, 1), **options)
                with case.catch():
                    async with case.aio.TaskGroup() as group:
                        group.create_task(after(case, 1), **options)
        case.loop.set_task_factory(None)

    agree(scenario)


if sys.version_info >= (3, 14):

    def test_awaited_by_of_an_object_with_attributes(agree):
        async def scenario(case):
            child = case.loop.create_task(after(case, 4))
            outer = case.aio.gather(child, after(case, 4))
            child.attribute = outer.attribute = 1
            waiting = case.loop.create_task(give(outer), name="waiting")
            await case.aio.sleep(0)
            case.record(child._asyncio_awaited_by == {case.aio.current_task()})
            case.record([task.get_name() for task in outer._asyncio_awaited_by])
            await waiting
            case.record(child._asyncio_awaited_by, outer._asyncio_awaited_by)

        agree(scenario)
