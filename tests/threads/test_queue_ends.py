"""Queues of aioxide.threads that are shut down, waiters whose loops are closed, and items whose
comparison fails."""

import asyncio
import gc

import pytest

from aioxide.threads import PriorityQueue, Queue, QueueShutDown, ShutDown
from peers import settle, until
from waiters import Caller, drop, wait_for_waiters, waiting

# Closed loops and tasks that are gone.


def test_a_task_that_waits_on_a_closed_loop(loop_factory):
    """Who comes next in the line is called in its place."""
    q = Queue()
    loop = loop_factory()
    tasks = [loop.create_task(q.async_q.get()) for _ in range(50)]
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    thread = Caller(q.sync_q.get)
    wait_for_waiters(q, 51, 0, 0)
    loop.close()
    q.sync_q.put("for the thread")
    assert thread.end() == "for the thread"
    assert waiting(q) == (0, 0, 0) and not q._exchange.getters.called
    drop(tasks)


@pytest.mark.parametrize("holds", [False, True], ids=["collected", "held"])
def test_a_task_that_was_called_on_a_loop_that_is_closed_then(loop_factory, holds):
    """Its item is not lost: the task gives it up when it is collected, else the next that comes
    finds that the loop is closed."""
    q = Queue()
    loop = loop_factory()
    tasks = [loop.create_task(q.async_q.get())]
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    q.sync_q.put("item")
    assert len(q._exchange.getters.called) == 1 and q.empty()
    thread = None
    if not holds:
        thread = Caller(q.sync_q.get)
        wait_for_waiters(q, 1, 0, 0)
    loop.close()
    if holds:
        assert q.sync_q.get(timeout=20) == "item"
        drop(tasks)
    else:
        drop(tasks)
        del loop
        gc.collect()
        assert thread.end() == "item"
    assert not q._exchange.getters.called


def test_room_that_was_reserved_on_a_loop_that_is_closed_then(loop_factory):
    q = Queue(1)
    q.sync_q.put("first")
    loop = loop_factory()
    tasks = [loop.create_task(q.async_q.put("second"))]
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert q.sync_q.get() == "first"
    assert q.full()
    loop.close()
    q.sync_q.put("third", timeout=20)
    assert q.sync_q.get() == "third"
    drop(tasks)


def test_a_coroutine_that_is_closed(run):
    q = Queue()

    async def main():
        coroutine = q.async_q.get()
        coroutine.send(None)
        assert waiting(q) == (1, 0, 0)
        q.sync_q.put(1)
        coroutine.close()
        assert q.sync_q.get_nowait() == 1
        for never in (q.async_q.get(), q.async_q.put(1), q.async_q.join()):
            never.close()
        assert waiting(q) == (0, 0, 0)

    run(main)


def test_a_coroutine_that_is_closed_by_the_holder_of_the_lock(run):
    """As the garbage collector may do at any moment; who has the lock sees to it in the end."""
    q = Queue()
    coroutines = []

    class Closing:
        def __lt__(self, other):
            coroutines.pop().close()
            return True

    async def main():
        q = PriorityQueue()
        for _ in range(2):
            coroutines.append(q.async_q.get())
            coroutines[-1].send(None)
        q.sync_q.put(Closing())
        assert len(q._exchange.getters.called) == 1
        # Compares while it has the lock, in which the second get is closed, which was not called.
        q.sync_q.put(Closing())
        assert waiting(q) == (0, 0, 0) and q.qsize() == 1
        assert not q._exchange._given_up
        coroutines.pop().close()
        assert q.qsize() == 2

    run(main)
    assert q.empty()


# Shutting down.


@pytest.mark.parametrize("immediate", [False, True])
def test_shutting_down(run, immediate):
    q = Queue(2)

    async def main():
        q.sync_q.put(1)
        q.sync_q.put(2)
        putters = [Caller(q.sync_q.put, 3), asyncio.ensure_future(q.async_q.put(4))]
        await until(lambda: waiting(q)[1] == 2)
        assert not q.is_shutdown
        (q.async_q if immediate else q.sync_q).shutdown(immediate)
        assert q.is_shutdown and q.sync_q.is_shutdown and q.async_q.is_shutdown
        with pytest.raises(ShutDown):
            await asyncio.to_thread(putters[0].end)
        with pytest.raises(QueueShutDown):
            await putters[1]
        for call in (q.sync_q.put, q.sync_q.put_nowait):
            with pytest.raises(ShutDown):
                call(5)
        with pytest.raises(QueueShutDown):
            q.async_q.put_nowait(5)
        with pytest.raises(QueueShutDown):
            await q.async_q.put(5)
        if not immediate:
            assert q.unfinished_tasks == 2
            assert q.sync_q.get() == 1 and await q.async_q.get() == 2
            q.sync_q.task_done()
            q.sync_q.task_done()
        assert q.unfinished_tasks == 0
        for call in (q.sync_q.get, q.sync_q.get_nowait):
            with pytest.raises(ShutDown):
                call()
        with pytest.raises(ShutDown):
            q.sync_q.get(timeout=-1)
        with pytest.raises(QueueShutDown):
            q.async_q.get_nowait()
        with pytest.raises(QueueShutDown):
            await q.async_q.get()
        q.shutdown()
        q.shutdown(immediate=True)

    run(main)


@pytest.mark.parametrize("immediate", [False, True])
def test_gets_that_wait_when_a_queue_is_shut_down(run, immediate):
    q = Queue()

    async def main():
        getters = [Caller(q.sync_q.get), asyncio.ensure_future(q.async_q.get())]
        await until(lambda: waiting(q)[0] == 2)
        q.shutdown(immediate)
        with pytest.raises(ShutDown):
            await asyncio.to_thread(getters[0].end)
        with pytest.raises(QueueShutDown):
            await getters[1]

    run(main)


@pytest.mark.parametrize("immediate", [False, True])
def test_a_get_that_was_called_when_a_queue_is_shut_down(run, immediate):
    """It takes its item, unless the items are dropped."""
    q = Queue()

    async def main():
        task = asyncio.ensure_future(q.async_q.get())
        await settle()
        q.async_q.put_nowait(1)
        q.shutdown(immediate)
        if immediate:
            with pytest.raises(QueueShutDown):
                await task
            assert q.unfinished_tasks == 0
        else:
            assert await task == 1

    run(main)


def test_a_put_that_was_called_when_a_queue_is_shut_down(run):
    q = Queue(1)

    async def main():
        await q.async_q.put(1)
        task = asyncio.ensure_future(q.async_q.put(2))
        await settle()
        assert q.async_q.get_nowait() == 1
        q.shutdown()
        with pytest.raises(QueueShutDown):
            await task
        assert q.unfinished_tasks == 1 and q.empty()

    run(main)


def test_join_ends_when_the_rest_is_dropped(run):
    q = Queue()

    async def main():
        q.sync_q.put(1)
        q.sync_q.put(2)
        joiners = [Caller(q.sync_q.join), asyncio.ensure_future(q.async_q.join())]
        await until(lambda: waiting(q)[2] == 2)
        q.sync_q.get()
        q.shutdown(immediate=True)
        await settle()
        assert not joiners[1].done()
        q.sync_q.task_done()
        await joiners[1]
        await asyncio.to_thread(joiners[0].end)

    run(main)


def test_dropped_items_may_use_the_queue():
    q = Queue()

    class Item:
        def __del__(self):
            seen.append(q.empty())

    seen = []
    q.sync_q.put(Item())
    q.shutdown(immediate=True)
    gc.collect()
    assert seen == [True]


# Items that cannot be compared.


class Capricious:
    """An item whose comparison fails when `fails` is set."""

    fails = False

    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        if Capricious.fails:
            raise ValueError("not now")
        return self.value < other.value


def test_an_item_that_cannot_be_compared_is_not_put(run):
    q = PriorityQueue()
    for number in (3, 1, 2):
        q.sync_q.put(number)
    with pytest.raises(TypeError):
        q.sync_q.put("text")
    assert q.qsize() == q.unfinished_tasks == 3
    assert [q.sync_q.get() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_item_whose_comparison_fails_is_not_lost(run, is_async):
    q = PriorityQueue()

    async def main():
        for number in (4, 2, 3, 1):
            q.sync_q.put(Capricious(number))
        Capricious.fails = True
        try:
            with pytest.raises(ValueError, match="not now"):
                if is_async:
                    await q.async_q.get()
                else:
                    q.sync_q.get()
        finally:
            Capricious.fails = False
        assert q.qsize() == 4
        assert sorted(q.sync_q.get().value for _ in range(4)) == [1, 2, 3, 4]

    run(main)
