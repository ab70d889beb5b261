"""The lines in which threads and tasks wait before a queue.

A queue has a line for each thing that one can wait for: an item, room, the end of the work. Threads
and tasks stand in the same line, so the first that came is the first that is served, on whichever
side it is.

What a waiter is called for is reserved for it, until it takes that or gives it up. So an item never
leaves the queue for a task that is cancelled meanwhile, or whose loop is closed.
"""

import collections
import threading
from asyncio import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, TypeAlias

    # The line, the ticket in it, and the signal that wakes its waiter.
    _Call: TypeAlias = "tuple[Line, Ticket, Any]"

# The states of a ticket.
OUTSIDE = "outside"
WAITING = "waiting"
CALLED = "called"
REFUSED = "refused"


class Ticket:
    """Stands in a line for its waiter; only the holder of the queue's lock looks at its state."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = OUTSIDE

    def wake(self, signal: "Any") -> bool:
        """Wake the waiter; False if that is impossible for ever."""
        raise NotImplementedError

    def is_dead(self) -> bool:
        """Whether the waiter cannot come any more."""
        return False


class ThreadTicket(Ticket):
    """The ticket of a thread. Its signal is a lock, which the thread waits for."""

    __slots__ = ()

    def wake(self, signal: "Any") -> bool:
        signal.release()
        return True


class TaskTicket(Ticket):
    """The ticket of a task. Its signal is a future of the task's loop.

    The ticket does not hold the future, through which it would hold the task: a task of a closed
    loop gives up what it was called for when it is collected.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        super().__init__()
        self._loop = loop

    def wake(self, signal: "Any") -> bool:
        if events._get_running_loop() is self._loop:
            _set(signal)
            return True
        try:
            self._loop.call_soon_threadsafe(_set, signal)
        except RuntimeError:
            # The loop is closed.
            return False
        return True

    def is_dead(self) -> bool:
        return self._loop.is_closed()


def new_gate() -> "threading.Lock":
    """The signal of a thread: a lock that is taken."""
    gate = threading.Lock()
    gate.acquire()
    return gate


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Line:
    """Who waits for one thing, in the order of their coming, and who was called and has not come
    yet. The holder of the queue's lock calls its methods."""

    __slots__ = ("called", "waiting")

    def __init__(self) -> None:
        # Ordered, and tickets can leave from the middle.
        self.waiting: collections.OrderedDict[Ticket, Any] = collections.OrderedDict()
        self.called: set[Ticket] = set()

    def add(self, ticket: Ticket, signal: "Any") -> None:
        """Put a ticket at the end."""
        self.waiting[ticket] = signal
        ticket.state = WAITING

    def call(self) -> "_Call":
        """Call the first one, for whom something is reserved from now on."""
        ticket, signal = self.waiting.popitem(last=False)
        self.called.add(ticket)
        ticket.state = CALLED
        return self, ticket, signal

    def dismiss(self) -> "list[_Call]":
        """Call all, without reserving anything."""
        return self._empty(OUTSIDE)

    def refuse(self) -> "list[_Call]":
        """Refuse all that wait; they have to be woken."""
        return self._empty(REFUSED)

    def refuse_called(self) -> None:
        """Refuse those that were called and have not come yet."""
        for ticket in self.called:
            ticket.state = REFUSED
        self.called.clear()

    def leave(self, ticket: Ticket) -> bool:
        """Take a ticket out; whether it was called, so that something was reserved for it."""
        if ticket.state is WAITING:
            del self.waiting[ticket]
            ticket.state = OUTSIDE
        elif ticket.state is CALLED:
            self.called.remove(ticket)
            ticket.state = OUTSIDE
            return True
        return False

    def drop_dead(self) -> bool:
        """Take out the tickets that were called and whose loops are closed; whether there were
        some."""
        dead = [ticket for ticket in self.called if ticket.is_dead()]
        for ticket in dead:
            self.leave(ticket)
        return bool(dead)

    def _empty(self, state: str) -> "list[_Call]":
        calls = []
        while self.waiting:
            ticket, signal = self.waiting.popitem(last=False)
            ticket.state = state
            calls.append((self, ticket, signal))
        return calls
