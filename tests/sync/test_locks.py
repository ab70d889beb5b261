"""Lock, Event, Semaphore, Condition and Barrier, native and asyncio's."""

import asyncio
import copy
import gc
import inspect
import math
import pickle
import subprocess
import sys
import weakref

import pytest

NAMES = ["Lock", "Event", "Semaphore", "BoundedSemaphore", "Condition", "Barrier"]
COROUTINES = ["acquire", "wait", "wait_for", "reset", "abort", "__aenter__", "__aexit__"]


def make(aio, name):
    return getattr(aio, name)(*[2] * (name == "Barrier"))


async def pause(times=3):
    for _ in range(times):
        await asyncio.sleep(0)


def traced(case, *names):
    """trace(name, awaitable): a task that records how the awaitable ended."""

    async def tell(name, awaitable):
        try:
            case.record(name, await awaitable)
        except BaseException as error:
            case.record(name, error)
            raise

    async def trace(name, awaitable):
        task = case.loop.create_task(tell(name, awaitable))
        await pause(1)
        return task

    return trace


async def end(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_they_look_like(agree, name):
    async def scenario(case):
        item = make(case.aio, name)
        kind = type(item)
        case.record(item, str(item), kind.__name__, kind.__qualname__, kind.__module__)
        case.record([base.__name__ for base in kind.__mro__ if "Mixin" not in base.__name__])
        case.record(str(inspect.signature(kind)), kind.__doc__ is None)
        for attribute in COROUTINES:
            function = getattr(item, attribute, None)
            case.record(attribute, function is None)
            if function is not None:
                case.record(
                    str(inspect.signature(function)),
                    inspect.iscoroutinefunction(function),
                    function.__name__,
                    function.__qualname__,
                )
        item.anything = 1
        case.record(weakref.ref(item)() is item, item.__dict__["anything"], item._loop)
        with case.catch("await"):
            await item
        with case.catch("with"):
            with item:
                pass

    agree(scenario)


def test_wrong_arguments(agree):
    def scenario(case):
        aio = case.aio
        for call in (
            lambda: aio.Lock(1),
            lambda: aio.Lock(loop=None),
            lambda: aio.Event(1),
            lambda: aio.Semaphore(-1),
            lambda: aio.Semaphore("1"),
            lambda: aio.Semaphore(None),
            lambda: aio.BoundedSemaphore(-1),
            lambda: aio.Semaphore(1, 2),
            lambda: aio.Condition(1),
            lambda: aio.Condition(lock=object()),
            lambda: aio.Barrier(),
            lambda: aio.Barrier(0),
            lambda: aio.Barrier("1"),
            lambda: aio.Lock().release(),
            lambda: aio.Condition().notify(),
            lambda: aio.Condition().notify_all(),
            lambda: aio.Lock().acquire(1),
            lambda: aio.Event().wait(timeout=1),
            lambda: aio.Condition().wait_for(),
        ):
            with case.catch():
                call()
        for value in 0, 3, 2.5, math.inf:
            case.record(aio.Semaphore(value), aio.BoundedSemaphore(value=value)._value)

    agree(scenario)


def test_lock_is_fair(agree):
    async def scenario(case):
        lock = case.aio.Lock()
        trace = traced(case)
        case.record(await lock.acquire(), lock.locked(), lock)
        waiting = [await trace(number, lock.acquire()) for number in range(4)]
        case.record(lock, len(lock._waiters))
        waiting[1].cancel()
        lock.release()
        case.record(lock.locked(), lock)
        last = await trace("late", lock.acquire())
        for _ in range(4):
            await pause()
            case.record(lock)
            if lock.locked():
                lock.release()
        await pause()
        await end(*waiting, last)
        case.record(lock._waiters, lock.locked())

    agree(scenario)


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_cancelled_when_it_is_its_turn(agree, name):
    async def scenario(case):
        lock = make(case.aio, name)
        trace = traced(case)
        await lock.acquire()
        first = await trace("first", lock.acquire())
        second = await trace("second", lock.acquire())
        lock.release()
        first.cancel("a message")
        await pause()
        case.record(lock)
        lock.release()
        await pause()
        case.record(lock)
        await end(first, second)

    agree(scenario)


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "Condition"])
def test_async_with(agree, name):
    async def scenario(case):
        lock = make(case.aio, name)
        async with lock as value:
            case.record(value, lock)
        case.record(lock)
        with case.catch("an exception passes"):
            async with lock:
                raise KeyError(1)
        entering, leaving = lock.__aenter__(), lock.__aexit__(None, None, None)
        case.record(entering, leaving, await entering, await leaving)
        with case.catch("again"):
            await entering

    agree(scenario)


def test_semaphore(agree):
    async def scenario(case):
        semaphore = case.aio.Semaphore(2)
        trace = traced(case)
        case.record(await semaphore.acquire(), semaphore, semaphore._value)
        case.record(await semaphore.acquire(), semaphore, semaphore.locked())
        waiting = [await trace(number, semaphore.acquire()) for number in range(5)]
        case.record(semaphore)
        semaphore.release()
        semaphore.release()
        case.record(semaphore, semaphore.locked())
        waiting[0].cancel()
        waiting[3].cancel()
        await pause()
        case.record(semaphore, semaphore._value)
        for _ in range(3):
            semaphore.release()
            await pause()
            case.record(semaphore)
        await end(*waiting)
        case.record(semaphore._value, bool(semaphore._waiters))
        bounded = case.aio.BoundedSemaphore(1)
        async with bounded:
            case.record(bounded)
        with case.catch():
            bounded.release()
        case.record(bounded, bounded._bound_value)

    agree(scenario)


def test_event(agree):
    async def scenario(case):
        event = case.aio.Event()
        trace = traced(case)
        case.record(event, event.is_set())
        waiting = [await trace(number, event.wait()) for number in range(3)]
        case.record(event)
        waiting[1].cancel()
        event.set()
        event.set()
        case.record(event, event.is_set(), await event.wait())
        event.clear()
        waiting.append(await trace("after", event.wait()))
        await pause()
        case.record(event)
        event.set()
        await pause()
        await end(*waiting)

    agree(scenario)


@pytest.mark.parametrize("native", [True, False])
def test_condition(agree, native):
    class Foreign:
        """A lock of nobody's make."""

        def __init__(self, aio):
            self.inner = aio.Semaphore(1)

        def locked(self):
            return self.inner.locked()

        async def acquire(self):
            await asyncio.sleep(0)
            return await self.inner.acquire()

        def release(self):
            self.inner.release()

    async def scenario(case):
        aio = case.aio
        lock = aio.Lock() if native else Foreign(aio)
        condition = aio.Condition(lock)
        case.record(condition, condition._lock is lock, condition.locked())
        trace = traced(case)
        number = 0

        async def waits(name):
            async with condition:
                case.record(name, "has it")
                result = await condition.wait()
                case.record(name, "goes on", result, condition.locked())
                await pause(1)

        with case.catch("not acquired"):
            await condition.wait()
        waiting = [await trace(name, waits(name)) for name in "abcdefg"]
        await pause(20)
        case.record(condition)
        async with condition:
            condition.notify()
            waiting[0].cancel("too late")
            await pause()
        await pause(10)
        case.record(condition)
        async with condition:
            condition.notify(2)
            await pause()
            waiting[2].cancel()
            waiting[3].cancel()
            await pause()
        await pause(20)
        waiting[4].cancel()
        await pause(20)
        case.record(condition)

        async def counts():
            async with condition:
                return await condition.wait_for(lambda: number)

        waiting.append(await trace("count", counts()))
        for number in 0, 5:
            async with condition:
                condition.notify_all()
            await pause(20)
        case.record(condition)
        await end(*waiting)

    agree(scenario)


def test_cancelled_again_and_again(agree):
    """wait() takes the lock first, then it raises."""

    async def scenario(case):
        condition = case.aio.Condition()

        async def waits():
            async with condition:
                try:
                    await condition.wait()
                finally:
                    case.record("has it", condition.locked())

        task = await traced(case)("waits", waits())
        await condition.acquire()
        for number in range(3):
            task.cancel(number)
            await pause()
            case.record(condition, task.done())
        condition.release()
        await pause()
        await end(task)
        case.record(condition)

    agree(scenario)


def test_predicates(agree):
    async def scenario(case):
        condition = case.aio.Condition()
        async with condition:
            case.record(await condition.wait_for(lambda: "yes"))
            with case.catch("it raises"):
                await condition.wait_for(lambda: 1 // 0)
            with case.catch("it cannot be called"):
                await condition.wait_for(None)

        async def waits():
            async with condition:
                answers = iter([0, ValueError(1)])

                def ask():
                    answer = next(answers)
                    if answer:
                        raise answer
                    return answer

                await condition.wait_for(ask)

        task = await traced(case)("waits", waits())
        async with condition:
            condition.notify_all()
        await pause()
        case.record(condition, task.done())
        await end(task)

    agree(scenario)


def test_barrier(agree):
    async def scenario(case):
        barrier = case.aio.Barrier(3)
        trace = traced(case)
        case.record(barrier, barrier.parties, barrier.n_waiting, barrier.broken)
        for _ in range(2):
            tasks = []
            for number in range(5):
                tasks.append(await trace(number, barrier.wait()))
                case.record(barrier, barrier.n_waiting, barrier._count)
            await pause(10)
            case.record(barrier)
            tasks.append(await trace("sixth", barrier.wait()))
            await pause(10)
            await end(*tasks)
        tasks = [await trace(number, barrier.wait()) for number in range(2)]
        tasks[0].cancel()
        await pause(10)
        case.record(barrier)
        await barrier.reset()
        case.record(barrier, barrier._state.value)
        await pause(10)
        case.record(barrier)
        tasks += [await trace("before", barrier.wait())]
        await barrier.abort()
        await pause(10)
        case.record(barrier, barrier.broken, barrier.n_waiting)
        with case.catch("broken"):
            await barrier.wait()
        await barrier.reset()
        case.record(barrier)
        await end(*tasks)
        async with case.aio.Barrier(1) as number:
            case.record(number)

    agree(scenario)


@pytest.mark.parametrize("name", NAMES)
def test_bound_to_a_loop(agree, name):
    def scenario(case):
        item = make(case.aio, name)

        async def waits():
            if name != "Barrier" and hasattr(item, "acquire"):
                await item.acquire()
                await (item.wait() if name == "Condition" else item.acquire())
            else:
                await item.wait()

        async def first():
            task = asyncio.ensure_future(waits())
            await pause()
            case.record(item._loop is asyncio.get_running_loop())
            await end(task)

        case.loop.run_until_complete(first())
        if name == "Condition" and item.locked():
            item.release()
        other = case.aio.new_event_loop()
        for attempt in range(2):
            if name in ("Lock", "Semaphore", "BoundedSemaphore"):
                item.release() if item.locked() else None
            with case.catch(attempt):
                other.run_until_complete(asyncio.wait_for(waits(), 5))
            if name == "Condition" and item.locked():
                item.release()
        other.close()

    agree(scenario)


def test_subclasses(agree):
    async def scenario(case):
        class Lock(case.aio.Lock):
            def __init__(self, name):
                super().__init__()
                self.name = name

            async def acquire(self):
                case.record("acquire", self.name)
                return await super().acquire()

            def release(self):
                case.record("release", self.name)
                super().release()

        lock = Lock("a")
        async with lock:
            case.record(lock.locked(), repr(lock).partition(" object")[2])
        condition = case.aio.Condition(lock)
        async with condition:
            condition.notify()

        class Semaphore(case.aio.Semaphore):
            def locked(self):
                case.record("locked")
                return super().locked()

        async with Semaphore(1) as value:
            case.record(value)

        class Barrier(case.aio.Barrier):
            async def wait(self):
                return "waited", await super().wait()

        async with Barrier(1) as value:
            case.record(value)
        plain = case.aio.Lock()
        plain.acquire = lambda: lock.acquire()
        async with plain:
            case.record(plain.locked(), lock.locked())
            plain._locked = True
        lock.release()

    agree(scenario)


def test_attributes(agree):
    async def scenario(case):
        aio = case.aio
        lock, event, semaphore, condition = aio.Lock(), aio.Event(), aio.Semaphore(3), aio.Condition()
        case.record(lock._waiters, event._waiters, semaphore._waiters, condition._waiters)
        waiter = case.loop.create_future()
        for item in event, condition:
            item._waiters.append(waiter)
        lock._waiters, lock._locked = [waiter], True
        case.record(lock, event, semaphore, condition)
        lock.release()
        case.record(waiter)
        semaphore._value = 7
        event._value = True
        case.record(semaphore, event, await event.wait(), await semaphore.acquire(), semaphore)
        lock.__init__()
        case.record(lock)

    agree(scenario)


def test_copies(agree):
    def scenario(case):
        for item in case.aio.Lock(), case.aio.Event(), case.aio.Semaphore(3), case.aio.BoundedSemaphore(2):
            item.anything = [1]
            for copied in copy.copy(item), copy.deepcopy(item):
                case.record(copied, copied.anything, copied.anything is item.anything, type(copied) is type(item))
        case.record(copy.deepcopy(case.aio.Condition()), copy.deepcopy(case.aio.Barrier(3)))

    agree(scenario)


def test_pickles():
    """By the names of asyncio's classes, which are the native ones after install()."""
    code = (
        "import aioxide, asyncio, pickle; aioxide.install()\n"
        "item = pickle.loads(pickle.dumps(asyncio.Semaphore(3)))\n"
        "assert type(item) is aioxide.Semaphore and item._value == 3\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert pickle.loads(pickle.dumps(asyncio.Semaphore(3)))._value == 3


def test_coroutines_by_hand(agree):
    def scenario(case):
        lock = case.aio.Lock()
        coroutine = lock.acquire()
        case.record(coroutine, inspect.iscoroutine(coroutine) or asyncio.iscoroutine(coroutine))
        with case.catch("done at once"):
            coroutine.send(None)
        case.record(lock)
        with case.catch("again"):
            coroutine.send(None)
        closed = lock.acquire()
        closed.close()
        with case.catch("closed"):
            closed.send(None)
        with case.catch("no loop"):
            lock.acquire().send(None)
        lock.acquire()  # never awaited
        gc.collect()

        async def main():
            waiting = lock.acquire()
            waiting.send(None)
            case.record(lock)
            with case.catch("thrown"):
                waiting.throw(ZeroDivisionError(1))
            case.record(lock)
            waiting = lock.acquire()
            waiting.send(None)
            case.record(lock)
            waiting.close()
            case.record(lock)

        case.loop.run_until_complete(main())

    agree(scenario)


def test_a_result_is_taken_by_hand(aio):
    """What a coroutine returns is there for those who call next() too, each time anew."""
    for _ in range(3):
        lock = aio.Lock()
        with pytest.raises(StopIteration) as caught:
            next(lock.acquire().__await__())
        assert caught.value.value is True and caught.value.__context__ is None
        caught.value.__context__ = KeyError()
        caught.value.anything = lock


def test_on_loops_of_other_makes(agree):
    """Native primitives on asyncio's own loop, and on one that makes its own Futures."""

    def scenario(case):
        class Future(asyncio.Future):
            def set_result(self, result):
                case.record("set_result", result)
                super().set_result(result)

        class Loop(asyncio.SelectorEventLoop):
            def create_future(self):
                return Future(loop=self)

        async def main():
            lock, queue = case.aio.Lock(), case.aio.Queue()
            condition = case.aio.Condition()

            async def waits(name):
                async with lock:
                    case.record(name, await queue.get())
                async with condition:
                    case.record(name, await condition.wait())

            tasks = [asyncio.ensure_future(waits(name)) for name in "ab"]
            await pause()
            for number in range(2):
                queue.put_nowait(number)
                await pause()
            async with condition:
                condition.notify_all()
            await asyncio.gather(*tasks)

        for make in asyncio.SelectorEventLoop, Loop:
            loop = make()
            loop.run_until_complete(main())
            loop.close()

    agree(scenario)


@pytest.mark.parametrize("name", NAMES)
def test_cycles_are_collected(aio, run, name):
    """A primitive that its own waiters hold goes when nobody else has it."""

    class Marker:
        pass

    async def main():
        item = make(aio, name)
        item.itself, item.marker = item, Marker()
        found = weakref.ref(item.marker)
        coroutine = getattr(item, "acquire", None) or item.wait
        item.never_awaited = coroutine()
        item.never_awaited.close()
        del item, coroutine
        gc.collect()
        assert found() is None

    run(main)
