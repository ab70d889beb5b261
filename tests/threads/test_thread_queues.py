"""The queues of aioxide.threads: both sides of one queue."""

import asyncio
import contextlib
import os
import queue
import sys
import threading
import time
import weakref

import pytest

import aioxide
from aioxide.threads import (
    AsyncQueue,
    LifoQueue,
    PriorityQueue,
    Queue,
    QueueShutDown,
    ShutDown,
    SyncQueue,
)
from peers import settle, until
from waiters import Caller, ended, waiting

CLASSES = [Queue, LifoQueue, PriorityQueue]


# Each side alone.


def test_it_is_asyncios_module_too():
    assert aioxide.threads.to_thread is aioxide.to_thread
    assert set(asyncio.threads.__all__) <= set(aioxide.threads.__all__)


@pytest.mark.parametrize("side", [SyncQueue, AsyncQueue])
def test_a_side_has_the_methods_of_its_model(side):
    model = queue.Queue if side is SyncQueue else asyncio.Queue
    internal = {"queue", "mutex", "not_empty", "not_full", "all_tasks_done"}
    names = {name for name in dir(model()) if not name.startswith("_")} - internal
    assert names <= {name for name in dir(side) if not name.startswith("_")}


def test_the_exceptions_are_those_of_the_models():
    if sys.version_info >= (3, 13):
        assert ShutDown is queue.ShutDown and QueueShutDown is asyncio.QueueShutDown
    for error in (ShutDown, QueueShutDown):
        assert issubclass(error, Exception) and error.__doc__


@pytest.mark.parametrize("class_", CLASSES)
def test_names(class_):
    assert class_.__module__ == "aioxide.threads" and class_.__doc__
    q = class_[int](3)
    q.sync_q.put(5)
    q.shutdown()
    words = f"aioxide.threads.{class_.__name__} at {id(q):#x} maxsize=3 items=1 tasks=1 shutdown"
    assert repr(q) == f"<{words}>"
    assert repr(q.async_q).startswith("<aioxide.threads.AsyncQueue at 0x")
    assert weakref.ref(q)() is q


@pytest.mark.parametrize("class_", CLASSES)
def test_the_order_of_items(class_, run):
    model = getattr(queue, class_.__name__)()
    q = class_()
    items = [3, 1, 4, 1, 5, 9, 2, 6]

    async def main():
        for place, item in enumerate(items):
            model.put(item)
            if place % 2:
                q.sync_q.put(item)
            else:
                await q.async_q.put(item)
        assert q.qsize() == q.sync_q.qsize() == q.async_q.qsize() == len(items)
        expected = [model.get() for _ in items]
        got = [await q.async_q.get() if n % 3 else q.sync_q.get() for n in range(len(items))]
        assert got == expected

    run(main)


def test_nowait(run):
    q = Queue(1)
    assert q.empty() and not q.full() and q.maxsize == q.sync_q.maxsize == q.async_q.maxsize == 1
    with pytest.raises(queue.Empty):
        q.sync_q.get_nowait()
    with pytest.raises(asyncio.QueueEmpty):
        q.async_q.get_nowait()
    q.async_q.put_nowait(1)
    assert q.full() and not q.empty()
    with pytest.raises(queue.Full):
        q.sync_q.put_nowait(2)
    with pytest.raises(asyncio.QueueFull):
        q.async_q.put_nowait(2)
    assert q.sync_q.get_nowait() == 1 and q.empty()


def test_timeouts():
    q = Queue(1)
    for timeout in (0, 0.01):
        with pytest.raises(queue.Empty):
            q.sync_q.get(timeout=timeout)
    q.sync_q.put(1)
    for timeout in (0, 0.01):
        with pytest.raises(queue.Full):
            q.sync_q.put(2, timeout=timeout)
    assert waiting(q) == (0, 0, 0)
    for call in (q.sync_q.get, lambda **options: q.sync_q.put(3, **options)):
        with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
            call(timeout=-1)
    assert q.sync_q.get(block=False, timeout=-1) == 1
    Queue().sync_q.put(1, timeout=-1)


def test_the_end_of_the_work(run):
    q = Queue()
    for _ in range(3):
        q.sync_q.put(None)

    async def main():
        thread = Caller(q.sync_q.join)
        task = asyncio.ensure_future(q.async_q.join())
        await until(lambda: waiting(q) == (0, 0, 2))
        q.sync_q.get()
        q.sync_q.task_done()
        q.async_q.task_done()
        await settle()
        assert not task.done() and thread.is_alive() and q.unfinished_tasks == 1
        q.async_q.task_done()
        await task
        thread.end()
        for side in (q.sync_q, q.async_q):
            with pytest.raises(ValueError, match="called too many times"):
                side.task_done()
        await q.async_q.join()
        q.sync_q.join()

    run(main)


def test_a_join_that_is_cancelled(run):
    q = Queue()
    q.sync_q.put(1)

    async def main():
        task = asyncio.ensure_future(q.async_q.join())
        await settle()
        task.cancel()
        assert await ended(task) == "cancelled"
        assert waiting(q) == (0, 0, 0)

    run(main)


# Both sides.


def test_from_a_thread_to_a_task_and_back(run):
    there, back = Queue(), Queue()

    def serve():
        while (number := there.sync_q.get()) is not None:
            back.sync_q.put(number * number)

    async def main():
        thread = Caller(serve)
        for number in range(100):
            await there.async_q.put(number)
            assert await back.async_q.get() == number * number
        await there.async_q.put(None)
        await asyncio.to_thread(thread.end)

    run(main)


def test_between_the_tasks_of_two_loops(loop_factory):
    there, back = Queue(2), Queue(2)

    async def main(number):
        if number == 0:
            got = []
            for sent in range(200):
                await there.async_q.put(sent)
                got.append(await back.async_q.get())
            await there.async_q.put(None)
            return got
        while (item := await there.async_q.get()) is not None:
            await back.async_q.put(item + 1)

    results = aioxide.run_in_threads(main, loops=2, loop_factory=loop_factory)
    assert results == [list(range(1, 201)), None]


@pytest.mark.parametrize("class_", CLASSES)
def test_a_full_queue_holds_both_sides_up(run, class_):
    q = class_(2)

    async def main():
        q.sync_q.put(1)
        q.sync_q.put(2)
        thread = Caller(q.sync_q.put, 3)
        await until(lambda: waiting(q) == (0, 1, 0))
        task = asyncio.ensure_future(q.async_q.put(4))
        await settle()
        assert thread.is_alive() and not task.done() and q.qsize() == 2
        assert q.unfinished_tasks == 2
        got = [await q.async_q.get()]
        await asyncio.to_thread(thread.end)
        assert not task.done()
        got.append(q.sync_q.get())
        await task
        got += [q.sync_q.get(), q.sync_q.get()]
        assert sorted(got) == [1, 2, 3, 4] and q.empty()

    run(main)


def test_first_come_first_served_across_the_sides(run):
    q = Queue()

    async def main():
        tasks, threads = [], []
        for number in range(6):
            if number % 2:
                threads.append(Caller(q.sync_q.get))
            else:
                tasks.append(asyncio.ensure_future(q.async_q.get()))
            await until(lambda number=number: waiting(q)[0] == number + 1)
        for number in range(6):
            q.sync_q.put(number)
            # One at a time: those that are called at once may take their items in any order.
            if number % 2:
                assert await asyncio.to_thread(threads[number // 2].end) == number
            else:
                assert await tasks[number // 2] == number

    run(main)


def test_what_a_waiter_was_called_for_is_not_for_others(run):
    """A call that comes later cannot take it, and sees nothing of it."""
    q = Queue(1)

    async def main():
        task = asyncio.ensure_future(q.async_q.get())
        await settle()
        q.async_q.put_nowait("for the task")
        assert q.empty() and q.qsize() == 0 and q.full()
        with pytest.raises(asyncio.QueueEmpty):
            q.async_q.get_nowait()
        with pytest.raises(queue.Empty):
            q.sync_q.get(timeout=0.01)
        assert await task == "for the task"
        assert not q.full()

    run(main)


def test_a_busy_thread_starves_no_task(run):
    q = Queue()
    stop = threading.Event()

    def greedy():
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                q.sync_q.get(timeout=0.001)

    def supply():
        while not stop.is_set():
            q.sync_q.put(None)
            time.sleep(0)

    async def main():
        threads = [Caller(greedy), Caller(greedy), Caller(supply)]
        try:
            async with asyncio.timeout(20):
                for _ in range(50):
                    await q.async_q.get()
        finally:
            stop.set()
            for thread in threads:
                await asyncio.to_thread(thread.end)

    run(main)


# Cancelling.


def test_a_get_that_is_cancelled_before_it_is_called(run):
    q = Queue()

    async def main():
        first, second = (asyncio.ensure_future(q.async_q.get()) for _ in range(2))
        await settle()
        first.cancel()
        assert await ended(first) == "cancelled"
        q.sync_q.put(1)
        assert await second == 1

    run(main)


@pytest.mark.parametrize("class_", CLASSES)
def test_a_get_that_is_cancelled_after_it_was_called(run, class_):
    """The item is for the next one, or stays."""
    q = class_()

    async def main():
        first, second = (asyncio.ensure_future(q.async_q.get()) for _ in range(2))
        await settle()
        q.async_q.put_nowait(1)
        first.cancel()
        assert await ended(first) == "cancelled"
        assert await second == 1
        third = asyncio.ensure_future(q.async_q.get())
        await settle()
        q.async_q.put_nowait(2)
        third.cancel()
        assert await ended(third) == "cancelled"
        assert q.qsize() == 1 and q.async_q.get_nowait() == 2

    run(main)


def test_a_put_that_is_cancelled_after_it_was_called(run):
    """Its item is not put, and its room is for the next one."""
    q = Queue(1)

    async def main():
        await q.async_q.put("first")
        second = asyncio.ensure_future(q.async_q.put("second"))
        await settle()
        third = Caller(q.sync_q.put, "third")
        await until(lambda: waiting(q)[1] == 2)
        assert q.async_q.get_nowait() == "first"
        second.cancel()
        assert await ended(second) == "cancelled"
        await asyncio.to_thread(third.end)
        assert await q.async_q.get() == "third" and q.empty()
        assert q.unfinished_tasks == 2

    run(main)


def test_timeouts_of_tasks(run):
    q = Queue(1)

    async def main():
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(q.async_q.get(), 0.001)
        await q.async_q.put(1)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(q.async_q.put(2), 0.001)
        assert waiting(q) == (0, 0, 0)
        assert await asyncio.wait_for(q.async_q.get(), 20) == 1

    run(main)


def test_a_thread_that_is_called_when_its_time_is_over(monkeypatch):
    """It takes the item all the same."""
    q = Queue()
    line = q._exchange.getters

    class Gate:
        """A lock whose wait comes to its end just when the thread is called."""

        def acquire(self, timeout):
            q.sync_q.put("in time")
            assert line.called
            return False

        def release(self):
            pass

    monkeypatch.setattr("aioxide.threads._queues.new_gate", Gate)
    assert q.sync_q.get(timeout=0.01) == "in time"
    assert not line.called


@pytest.mark.parametrize("method", ["get", "put", "join"])
def test_a_thread_that_is_interrupted(method, monkeypatch):
    """It leaves the line; what was reserved for it is for the next one."""
    q = Queue(1)
    if method != "get":
        q.sync_q.put("first")

    class Gate:
        def acquire(self, timeout=-1):
            if method == "get":
                q.sync_q.put("item")
            elif method == "put":
                assert q.sync_q.get() == "first"
            raise KeyboardInterrupt

        def release(self):
            pass

    monkeypatch.setattr("aioxide.threads._queues.new_gate", Gate)
    with pytest.raises(KeyboardInterrupt):
        getattr(q.sync_q, method)(*["second"] * (method == "put"))
    assert waiting(q) == (0, 0, 0)
    if method == "get":
        assert q.sync_q.get_nowait() == "item"
    elif method == "put":
        assert q.empty() and not q.full()


# Where a queue can be used.


def test_a_queue_belongs_to_no_loop(loop_factory):
    q = Queue(1)

    async def main(number):
        await q.async_q.put(number)
        return await q.async_q.get()

    for number in range(3):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(main(number)) == number


def test_outside_of_a_loop():
    q = Queue()
    coroutine = q.async_q.get()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)
    assert waiting(q) == (0, 0, 0)


def test_in_a_forked_child(aio):
    """A queue that nobody used while the process forked works in the child."""
    q = Queue()
    q.sync_q.put(5)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
                status = 0 if runner.run(q.async_q.get()) == 5 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
