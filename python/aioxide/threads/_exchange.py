"""What the two sides of a queue share: the items, the lines before them, one lock.

The lock is held for a few operations and never while something waits, so no loop waits for it for
long. Waking is done without it. After each change as many waiters are called as there is something
for, so nobody stands in a line while there is what it waits for.

What is reserved for those that were called cannot be taken by others. That makes the queue fair:
otherwise a busy thread would take each item before the task that was called for it gets its turn.
"""

import collections
import threading

from ._waiting import REFUSED, Line, Ticket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ._items import FirstInFirstOut, LastInFirstOut, SmallestFirstOut
    from ._waiting import _Call

# Returned in the place of an item, where the caller has to wait.
WAIT = object()


class Exchange:
    """The state of a queue. `maxsize` is the number of items that it takes; 0 or less is no
    limit."""

    __slots__ = (
        "_given_up",
        "_items",
        "_lock",
        "getters",
        "is_shut_down",
        "joiners",
        "maxsize",
        "putters",
        "unfinished",
    )

    def __init__(
        self, maxsize: int, items: "FirstInFirstOut | LastInFirstOut | SmallestFirstOut"
    ) -> None:
        self.maxsize = maxsize
        self.is_shut_down = False
        self.unfinished = 0
        self.getters = Line()
        self.putters = Line()
        self.joiners = Line()
        self._items = items
        self._lock = threading.Lock()
        # Tickets given up where the lock cannot be waited for.
        self._given_up: collections.deque[tuple[Line, Ticket]] = collections.deque()

    # Items.

    def take(
        self, shut_down: type[Exception], ticket: "Ticket | None" = None, signal: "Any" = None
    ) -> "Any":
        """Take an item that is reserved for nobody. If there is none, put `ticket` in line, if one
        is given, and return WAIT.

        Raises `shut_down` if the queue is shut down and nothing is left.
        """
        calls: Sequence[_Call] = ()
        try:
            with self._lock:
                free = self._count_free()
                if free <= 0 and self.getters.called:
                    calls = self._pass_on_from_the_dead(self.getters)
                    free = self._count_free()
                if free > 0:
                    item = self._items.take()
                    calls = [*calls, *self._call_waiters()]
                    return item
                if self.is_shut_down:
                    raise shut_down
                if ticket is not None:
                    self.getters.add(ticket, signal)
                return WAIT
        finally:
            if calls or self._given_up:
                self._wake(calls)

    def take_when_called(self, shut_down: type[Exception], ticket: Ticket) -> "Any":
        """Take the item that was reserved for `ticket`. If it was not called, leave the line and
        return WAIT."""
        calls: Sequence[_Call] = ()
        try:
            with self._lock:
                if self.getters.leave(ticket):
                    item = self._items.take()
                    calls = self._call_waiters()
                    return item
                if ticket.state is REFUSED:
                    raise shut_down
                return WAIT
        finally:
            if calls or self._given_up:
                self._wake(calls)

    def put(
        self,
        shut_down: type[Exception],
        item: "Any",
        ticket: "Ticket | None" = None,
        signal: "Any" = None,
    ) -> "Any":
        """Put an item in. If the queue is full, put `ticket` in line, if one is given, and
        return WAIT.

        Raises `shut_down` if the queue is shut down.
        """
        calls: Sequence[_Call] = ()
        try:
            with self._lock:
                if self.is_shut_down:
                    raise shut_down
                has_room = self._has_room()
                if not has_room and self.putters.called:
                    calls = self._pass_on_from_the_dead(self.putters)
                    has_room = self._has_room()
                if has_room:
                    self._items.put(item)
                    self.unfinished += 1
                    calls = [*calls, *self._call_waiters()]
                    return None
                if ticket is not None:
                    self.putters.add(ticket, signal)
                return WAIT
        finally:
            if calls or self._given_up:
                self._wake(calls)

    def put_when_called(self, shut_down: type[Exception], item: "Any", ticket: Ticket) -> "Any":
        """Put an item into the room that was reserved for `ticket`. If it was not called, leave the
        line and return WAIT."""
        calls: Sequence[_Call] = ()
        try:
            with self._lock:
                if self.putters.leave(ticket):
                    self._items.put(item)
                    self.unfinished += 1
                    calls = self._call_waiters()
                    return None
                if ticket.state is REFUSED:
                    raise shut_down
                return WAIT
        finally:
            if calls or self._given_up:
                self._wake(calls)

    # The end of the work.

    def task_done(self) -> None:
        """Count an item as processed."""
        calls: Sequence[_Call] = ()
        try:
            with self._lock:
                if self.unfinished <= 0:
                    raise ValueError("task_done() called too many times")
                self.unfinished -= 1
                calls = self._call_waiters()
        finally:
            if calls or self._given_up:
                self._wake(calls)

    def join(self, ticket: Ticket, signal: "Any") -> bool:
        """Whether all items are processed. If not, put `ticket` in line."""
        try:
            with self._lock:
                if self.unfinished:
                    self.joiners.add(ticket, signal)
                    return False
                return True
        finally:
            if self._given_up:
                self._wake(())

    def shut_down(self, immediate: bool) -> None:
        """Refuse all puts from now on, and gets when nothing is left; drop what is there if
        `immediate`."""
        calls: Sequence[_Call] = ()
        # Dropped items may run code of the program's, so they are released without the lock.
        drained: list[Any] = []
        try:
            with self._lock:
                self.is_shut_down = True
                if immediate:
                    drained = self._items.drain()
                    self.unfinished = max(0, self.unfinished - len(drained))
                    self.getters.refuse_called()
                self.putters.refuse_called()
                calls = [*self.putters.refuse(), *self._call_waiters(), *self.getters.refuse()]
        finally:
            if calls or self._given_up:
                self._wake(calls)
            drained.clear()

    # What can be asked.

    def count(self) -> int:
        """The number of items that are reserved for nobody."""
        try:
            with self._lock:
                return self._count_free()
        finally:
            if self._given_up:
                self._wake(())

    def is_full(self) -> bool:
        """Whether a put would have to wait."""
        try:
            with self._lock:
                return not self._has_room()
        finally:
            if self._given_up:
                self._wake(())

    # Waiters that do not come.

    def give_up(self, line: Line, ticket: Ticket) -> None:
        """Leave a line; what was reserved is for the next one."""
        with self._lock:
            line.leave(ticket)
            calls = self._call_waiters()
        if calls or self._given_up:
            self._wake(calls)

    def abandon(self, line: Line, ticket: Ticket) -> None:
        """As give_up(), in a coroutine that is closed. The garbage collector may do that at any
        moment, in a thread that has the lock: then this thread sees to it when it has released the
        lock."""
        self._given_up.append((line, ticket))
        self._settle()

    def _settle(self) -> None:
        while self._given_up and self._lock.acquire(blocking=False):
            try:
                while self._given_up:
                    line, ticket = self._given_up.popleft()
                    line.leave(ticket)
                calls = self._call_waiters()
            finally:
                self._lock.release()
            self._wake_or_pass_on(calls)

    # The rest is for the holder of the lock, but for waking.

    def _count_free(self) -> int:
        return len(self._items) - len(self.getters.called)

    def _has_room(self) -> bool:
        return not 0 < self.maxsize <= len(self._items) + len(self.putters.called)

    def _pass_on_from_the_dead(self, line: Line) -> "Sequence[_Call]":
        """Call others in the place of tasks that were called and whose loops are closed."""
        return self._call_waiters() if line.drop_dead() else ()

    def _call_waiters(self) -> "Sequence[_Call]":
        """Call as many as there is something for. They have to be woken without the lock."""
        getters, putters, joiners = self.getters, self.putters, self.joiners
        if not (getters.waiting or putters.waiting or joiners.waiting):
            return ()
        calls = []
        while getters.waiting and self._count_free() > 0:
            calls.append(getters.call())
        while putters.waiting and self._has_room():
            calls.append(putters.call())
        if joiners.waiting and not self.unfinished:
            calls += joiners.dismiss()
        return calls

    def _wake(self, calls: "Sequence[_Call]") -> None:
        """Wake those that were called, and see to the tickets that were given up meanwhile."""
        self._wake_or_pass_on(calls)
        self._settle()

    def _wake_or_pass_on(self, calls: "Sequence[_Call]") -> None:
        while calls:
            gone = [(line, ticket) for line, ticket, signal in calls if not ticket.wake(signal)]
            if not gone:
                return
            with self._lock:
                for line, ticket in gone:
                    line.leave(ticket)
                calls = self._call_waiters()
