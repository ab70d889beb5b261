"""Queue, PriorityQueue and LifoQueue, native and asyncio's."""

import asyncio
import collections
import copy
import gc
import inspect
import math
import sys
import weakref

import pytest

from test_locks import end, pause, traced

NAMES = ["Queue", "PriorityQueue", "LifoQueue"]
shutdown = pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")


@pytest.mark.parametrize("name", NAMES)
def test_what_they_look_like(agree, name):
    def scenario(case):
        kind = getattr(case.aio, name)
        queue = kind(3)
        case.record(queue, str(queue), kind.__name__, kind.__qualname__, kind.__module__)
        case.record([base.__name__ for base in kind.__mro__ if "Mixin" not in base.__name__])
        case.record(str(inspect.signature(kind)), str(kind[int]).partition(".")[2])
        for attribute in "put", "get", "join":
            function = getattr(queue, attribute)
            case.record(
                str(inspect.signature(function)),
                inspect.iscoroutinefunction(function),
                function.__name__,
                function.__qualname__,
            )
        for number in 3, 1, 2:
            queue.put_nowait(number)
        case.record(queue, str(queue), queue.maxsize, queue.qsize(), queue.empty(), queue.full())
        case.record(queue._queue, queue._unfinished_tasks, queue._getters, queue._putters)
        queue.anything = 1
        case.record(weakref.ref(queue)() is queue, queue.__dict__["anything"])
        case.record([queue.get_nowait() for _ in range(3)], queue)

    agree(scenario)


def test_wrong_arguments(agree):
    def scenario(case):
        Queue = case.aio.Queue
        for call in (
            lambda: Queue(1, 2),
            lambda: Queue(loop=None),
            lambda: Queue().put(),
            lambda: Queue().put_nowait(),
            lambda: Queue().get(1),
            lambda: Queue(None).put_nowait(1),
            lambda: Queue("1").full(),
            lambda: Queue().get_nowait(),
            lambda: Queue(-1).task_done(),
            lambda: case.aio.PriorityQueue()._get(),
            lambda: case.aio.LifoQueue()._get(),
            lambda: Queue()._get(),
        ):
            with case.catch():
                call()
        for maxsize in -1, 0, 1, True, 1.5, math.inf:
            queue = Queue(maxsize)
            while not queue.full() and queue.qsize() < 3:
                queue.put_nowait(queue.qsize())
            case.record(queue, queue.full(), queue.maxsize)
            with case.catch():
                queue.put_nowait(1)

    agree(scenario)


@pytest.mark.parametrize("name", NAMES)
def test_order(agree, name):
    async def scenario(case):
        queue = getattr(case.aio, name)(2)
        trace = traced(case)
        getting = [await trace(f"get {number}", queue.get()) for number in range(3)]
        case.record(queue)
        putting = [await trace(f"put {number}", queue.put(number)) for number in (5, 3, 9, 1, 7, 2)]
        case.record(queue)
        await pause(10)
        getting += [await trace(f"get {number}", queue.get()) for number in range(3, 6)]
        await pause(10)
        case.record(queue)
        await end(*getting, *putting)

    agree(scenario)


def test_items_that_cannot_be_compared(agree):
    def scenario(case):
        queue = case.aio.PriorityQueue()
        queue.put_nowait((1, object()))
        with case.catch(text=False):
            queue.put_nowait((1, object()))
        case.record(queue.qsize(), queue._unfinished_tasks)

    agree(scenario)


def test_cancelled_when_it_is_its_turn(agree):
    async def scenario(case):
        trace = traced(case)
        queue = case.aio.Queue(1)
        getting = [await trace(f"get {number}", queue.get()) for number in range(3)]
        queue.put_nowait("a")
        getting[0].cancel("a message")
        await pause()
        case.record(queue)
        getting[1].cancel()
        queue.put_nowait("b")
        await pause()
        case.record(queue)
        await end(*getting)
        queue.put_nowait("c")
        putting = [await trace(f"put {number}", queue.put(number)) for number in range(3)]
        case.record(queue, queue.get_nowait())
        putting[0].cancel()
        await pause()
        case.record(queue, queue.get_nowait())
        putting[2].cancel()
        await pause()
        case.record(queue)
        await end(*putting)

    agree(scenario)


def test_join(agree):
    async def scenario(case):
        trace = traced(case)
        queue = case.aio.Queue()
        case.record(await queue.join())
        for number in range(2):
            queue.put_nowait(number)
        joining = [await trace(f"join {number}", queue.join()) for number in range(2)]
        case.record(queue._finished.is_set(), queue._finished)
        queue.task_done()
        joining[0].cancel()
        await pause()
        case.record(queue, queue.get_nowait())
        queue.task_done()
        case.record(queue._finished.is_set())
        queue.put_nowait(3)
        joining.append(await trace("join again", queue.join()))
        queue.task_done()
        await pause()
        with case.catch():
            queue.task_done()
        case.record(queue)
        await end(*joining)

    agree(scenario)


@shutdown
@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown(agree, immediate):
    async def scenario(case):
        trace = traced(case)
        queue = case.aio.Queue(2)
        queue.put_nowait(1)
        queue.put_nowait(2)
        tasks = [await trace(f"put {number}", queue.put(number)) for number in range(2)]
        tasks.append(await trace("join", queue.join()))
        queue.shutdown(immediate)
        case.record(queue, queue._is_shutdown)
        await pause()
        with case.catch("put"):
            await queue.put(3)
        with case.catch("put_nowait"):
            queue.put_nowait(3)
        for number in range(3):
            with case.catch("get"):
                case.record(await queue.get())
            with case.catch("get_nowait"):
                case.record(queue.get_nowait())
            with case.catch("task_done"):
                queue.task_done()
        await pause()
        await end(*tasks)
        empty = case.aio.LifoQueue()
        tasks = [await trace(f"get {number}", empty.get()) for number in range(2)]
        empty.shutdown(immediate=immediate)
        await pause()
        case.record(empty)
        await end(*tasks)
        with case.catch("wrong"):
            empty.shutdown(1, 2)

    agree(scenario)


def test_subclasses_with_another_container(agree):
    async def scenario(case):
        class Unique(case.aio.Queue):
            def _init(self, maxsize):
                case.record("init", maxsize)
                self._queue = {}

            def _put(self, item):
                self._queue[item] = None

            def _get(self):
                return self._queue.pop(min(self._queue))

        class Elsewhere(case.aio.Queue):
            def _init(self, maxsize):
                self.heap = [0]

            def qsize(self):
                return len(self.heap) - 1

            def empty(self):
                return not self.qsize()

            def _put(self, item):
                self.heap.append(item)

            def _get(self):
                return self.heap.pop()

        class Wrapping(case.aio.PriorityQueue):
            def _put(self, item):
                super()._put((-item, item))

            def _get(self):
                return super()._get()[1]

        class Noisy(case.aio.Queue):
            def put_nowait(self, item):
                case.record("put_nowait", item)
                return super().put_nowait(item)

            def get_nowait(self):
                case.record("get_nowait")
                return super().get_nowait()

            def full(self):
                case.record("full")
                return super().full()

        for kind in Unique, Elsewhere, Wrapping, Noisy:
            queue = kind(2)
            trace = traced(case)
            tasks = [await trace(f"put {number}", queue.put(number)) for number in (1, 3, 3, 2)]
            with case.catch("full"):
                queue.put_nowait(5)
            case.record(queue.qsize(), queue.full(), len(queue._putters), str(queue))
            for _ in range(4):
                if not queue.empty():
                    case.record(await queue.get())
                await pause()
            await end(*tasks)
            tasks = [await trace(f"get {number}", queue.get()) for number in range(2)]
            while queue.qsize():
                queue.get_nowait()
            queue.put_nowait(4)
            await pause()
            await end(*tasks)

    agree(scenario)


def test_attributes(agree):
    """What programs do to a queue from outside."""

    async def scenario(case):
        class Front(case.aio.Queue):
            def put_first(self, item):
                self._queue.appendleft(item)
                self._unfinished_tasks += 1
                self._finished.clear()
                self._wakeup_next(self._getters)

        queue = Front()
        trace = traced(case)
        getting = [await trace(number, queue.get()) for number in range(2)]
        queue.put_first("a")
        await pause()
        queue.put_nowait("b")
        queue.put_nowait("c")
        queue.put_first("d")
        await pause()
        case.record(queue, list(queue._queue), "c" in queue._queue)
        case.record(await queue.get(), await queue.get(), len(queue._getters))
        queue._queue.extend([1, 2, 3])
        case.record(queue.qsize(), queue.get_nowait(), queue)
        queue._queue.clear()
        case.record(queue.empty(), queue)
        queue._queue = collections.deque([9])
        queue._unfinished_tasks = 1
        queue._maxsize = 1
        case.record(queue.full(), queue.maxsize, queue.get_nowait())
        queue.task_done()
        await queue.join()
        await end(*getting)
        replaced = case.aio.Queue()
        replaced._get = lambda: "replaced"
        replaced.put_nowait(1)
        case.record(await replaced.get(), replaced.qsize())

    agree(scenario)


@pytest.mark.parametrize("name", NAMES)
def test_copies(agree, name):
    def scenario(case):
        queue = getattr(case.aio, name)(5)
        queue.put_nowait([1])
        copied = copy.deepcopy(queue)
        copied.put_nowait([2])
        case.record(copied, copied._queue, copied._unfinished_tasks, queue, type(copied) is type(queue))

    agree(scenario)


def test_bound_to_a_loop(agree):
    def scenario(case):
        queue = case.aio.Queue()

        async def first():
            await end(await traced(case)("get", queue.get()))

        case.loop.run_until_complete(first())
        other = case.aio.new_event_loop()
        with case.catch():
            other.run_until_complete(queue.get())
        queue.put_nowait(1)
        case.record(other.run_until_complete(queue.get()))
        other.close()

    agree(scenario)


def test_items_go_with_their_getter(aio, run):
    """Nothing keeps an item that was got: neither the queue nor what returned it."""

    class Item:
        pass

    async def main():
        queue = aio.Queue()
        for _ in range(3):
            queue.put_nowait(Item())
            item = await queue.get()
            found = weakref.ref(item)
            del item
            gc.collect()
            assert found() is None

    run(main)
