"""Queues for use between loops and threads.

A queue is one object with two sides: `sync_q` has the methods of queue.Queue, for threads, and
`async_q` those of asyncio.Queue, for tasks of any loop, also of several at once. Each side raises
what its model raises. A queue belongs to no loop, so it can be made anywhere.

The rules are in _exchange; here is what differs between the sides.
"""

import asyncio
import queue
from asyncio import events
from types import GenericAlias

from ._exchange import WAIT, Exchange
from ._items import FirstInFirstOut, LastInFirstOut, SmallestFirstOut
from ._waiting import TaskTicket, ThreadTicket, new_gate

try:
    ShutDown, QueueShutDown = queue.ShutDown, asyncio.QueueShutDown
except AttributeError:
    # Before Python 3.13.
    class ShutDown(Exception):
        """Raised by the sync side of a queue that is shut down."""

    class QueueShutDown(Exception):
        """Raised by the async side of a queue that is shut down."""


class _Side:
    """What both sides have."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange):
        self._exchange = exchange

    __class_getitem__ = classmethod(GenericAlias)

    @property
    def maxsize(self):
        """How many items the queue takes; 0 or less is no limit."""
        return self._exchange.maxsize

    @property
    def unfinished_tasks(self):
        """How many items were put for which task_done() was not called yet."""
        return self._exchange.unfinished

    @property
    def is_shutdown(self):
        """Whether shutdown() was called."""
        return self._exchange.is_shut_down

    def qsize(self):
        """The number of items that get_nowait() could take now, one after another.

        An item that a waiting get() was called for is not among them.
        """
        return self._exchange.count()

    def empty(self):
        """Whether get() would have to wait."""
        return not self._exchange.count()

    def full(self):
        """Whether put() would have to wait."""
        return self._exchange.is_full()

    def task_done(self):
        """Tell the queue that an item is processed. When all are, join() returns, on both sides."""
        self._exchange.task_done()

    def shutdown(self, immediate=False):
        """Let puts fail from now on, on both sides, and gets when the queue is empty.

        With `immediate` the items in the queue are dropped, so that gets fail at once. Whoever
        waits in put() or get() is woken.
        """
        self._exchange.shut_down(immediate)

    def __repr__(self):
        return f"<{_describe(self, self._exchange)}>"


class SyncQueue(_Side):
    """The side of a queue for threads, with the methods of queue.Queue."""

    __slots__ = ()

    def put(self, item, block=True, timeout=None):
        """Put an item into the queue.

        While the queue is full, wait, at most `timeout` seconds if that is not None, and raise
        queue.Full then; without `block` at once. Raises ShutDown if the queue is shut down.
        """
        exchange = self._exchange
        if block and timeout is not None and timeout < 0 < exchange.maxsize:
            if exchange.is_shut_down:
                raise ShutDown
            raise ValueError("'timeout' must be a non-negative number")
        if exchange.put(ShutDown, item) is not WAIT:
            return
        if not block:
            raise queue.Full
        ticket, gate = ThreadTicket(), new_gate()
        try:
            if exchange.put(ShutDown, item, ticket, gate) is WAIT:
                gate.acquire(timeout=-1 if timeout is None else timeout)
                if exchange.put_when_called(ShutDown, item, ticket) is WAIT:
                    raise queue.Full
        except BaseException:
            exchange.give_up(exchange.putters, ticket)
            raise

    def get(self, block=True, timeout=None):
        """Take an item out of the queue.

        While the queue is empty, wait, at most `timeout` seconds if that is not None, and raise
        queue.Empty then; without `block` at once. Raises ShutDown if the queue is shut down and
        empty.
        """
        exchange = self._exchange
        if block and timeout is not None and timeout < 0:
            if exchange.is_shut_down and not exchange.count():
                raise ShutDown
            raise ValueError("'timeout' must be a non-negative number")
        item = exchange.take(ShutDown)
        if item is not WAIT:
            return item
        if not block:
            raise queue.Empty
        ticket, gate = ThreadTicket(), new_gate()
        try:
            item = exchange.take(ShutDown, ticket, gate)
            if item is WAIT:
                gate.acquire(timeout=-1 if timeout is None else timeout)
                item = exchange.take_when_called(ShutDown, ticket)
                if item is WAIT:
                    raise queue.Empty
            return item
        except BaseException:
            exchange.give_up(exchange.getters, ticket)
            raise

    def put_nowait(self, item):
        """Put an item into the queue. Raises queue.Full if there is no room."""
        self.put(item, block=False)

    def get_nowait(self):
        """Take an item out of the queue. Raises queue.Empty if there is none."""
        return self.get(block=False)

    def join(self):
        """Wait until task_done() was called for every item."""
        exchange = self._exchange
        ticket, gate = ThreadTicket(), new_gate()
        try:
            if not exchange.join(ticket, gate):
                gate.acquire()
        except BaseException:
            exchange.give_up(exchange.joiners, ticket)
            raise


class AsyncQueue(_Side):
    """The side of a queue for tasks, with the methods of asyncio.Queue."""

    __slots__ = ()

    async def put(self, item):
        """Put an item into the queue; wait while it is full.

        Raises QueueShutDown if the queue is shut down. An item whose put() is cancelled is not put.
        """
        exchange = self._exchange
        if exchange.put(QueueShutDown, item) is not WAIT:
            return
        ticket, future = _new_ticket()
        try:
            if exchange.put(QueueShutDown, item, ticket, future) is WAIT:
                await future
                exchange.put_when_called(QueueShutDown, item, ticket)
        except GeneratorExit:
            exchange.abandon(exchange.putters, ticket)
            raise
        except BaseException:
            exchange.give_up(exchange.putters, ticket)
            raise

    async def get(self):
        """Take an item out of the queue; wait while it is empty.

        Raises QueueShutDown if the queue is shut down and empty. A get() that is cancelled takes no
        item.
        """
        exchange = self._exchange
        item = exchange.take(QueueShutDown)
        if item is not WAIT:
            return item
        ticket, future = _new_ticket()
        try:
            item = exchange.take(QueueShutDown, ticket, future)
            if item is WAIT:
                await future
                item = exchange.take_when_called(QueueShutDown, ticket)
            return item
        except GeneratorExit:
            exchange.abandon(exchange.getters, ticket)
            raise
        except BaseException:
            exchange.give_up(exchange.getters, ticket)
            raise

    def put_nowait(self, item):
        """Put an item into the queue. Raises asyncio.QueueFull if there is no room."""
        if self._exchange.put(QueueShutDown, item) is WAIT:
            raise asyncio.QueueFull

    def get_nowait(self):
        """Take an item out of the queue. Raises asyncio.QueueEmpty if there is none."""
        item = self._exchange.take(QueueShutDown)
        if item is WAIT:
            raise asyncio.QueueEmpty
        return item

    async def join(self):
        """Wait until task_done() was called for every item."""
        exchange = self._exchange
        ticket, future = _new_ticket()
        try:
            if not exchange.join(ticket, future):
                await future
        except GeneratorExit:
            exchange.abandon(exchange.joiners, ticket)
            raise
        except BaseException:
            exchange.give_up(exchange.joiners, ticket)
            raise


def _new_ticket():
    """A ticket for the running task, and its signal."""
    loop = events.get_running_loop()
    return TaskTicket(loop), loop.create_future()


def _describe(thing, exchange):
    words = [f"aioxide.threads.{type(thing).__name__} at {id(thing):#x}"]
    words.append(f"maxsize={exchange.maxsize!r}")
    words.append(f"items={exchange.count()}")
    if exchange.unfinished:
        words.append(f"tasks={exchange.unfinished}")
    if exchange.is_shut_down:
        words.append("shutdown")
    return " ".join(words)


class Queue:
    """A queue for use between loops and threads.

    `sync_q` is its side for threads, with the methods of queue.Queue, and `async_q` its side for
    tasks, with those of asyncio.Queue. Tasks of several loops may use it at once. Whoever waits
    first is served first, on whichever side. Waiting tasks and threads that are cancelled, or whose
    time is over, lose no item.

    maxsize: how many items it takes before put() waits; 0 or less is no limit.
    """

    __slots__ = ("__weakref__", "_exchange", "async_q", "sync_q")

    _make_items = FirstInFirstOut

    def __init__(self, maxsize=0):
        self._exchange = Exchange(maxsize, self._make_items())
        self.sync_q = SyncQueue(self._exchange)
        self.async_q = AsyncQueue(self._exchange)

    __class_getitem__ = classmethod(GenericAlias)

    maxsize = _Side.maxsize
    unfinished_tasks = _Side.unfinished_tasks
    is_shutdown = _Side.is_shutdown
    qsize = _Side.qsize
    empty = _Side.empty
    full = _Side.full
    shutdown = _Side.shutdown
    __repr__ = _Side.__repr__


class LifoQueue(Queue):
    """A Queue whose last item comes out first."""

    __slots__ = ()

    _make_items = LastInFirstOut


class PriorityQueue(Queue):
    """A Queue whose smallest item comes out first; items are often tuples of a number and data."""

    __slots__ = ()

    _make_items = SmallestFirstOut


for _class in (SyncQueue, AsyncQueue, Queue, LifoQueue, PriorityQueue):
    _class.__module__ = "aioxide.threads"
for _class in (ShutDown, QueueShutDown):
    if _class.__module__ == __name__:
        _class.__module__ = "aioxide.threads"
