"""The lines in which threads and tasks wait before a queue.

A queue has a line for each thing that one can wait for: an item, room, the end of the work. Threads
and tasks stand in the same line, so the first that came is the first that is served, on whichever
side it is.

Whoever is called has what it waited for reserved, until it takes that or gives its place up. So an
item never leaves the queue for a task that is cancelled meanwhile, or whose loop is closed.
"""

import collections
import threading
from asyncio import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, TypeAlias

    # The line, the place in it, and how to wake who stands there.
    _Call: TypeAlias = "tuple[Line, Place, Any]"

# The states of a place.
OUTSIDE = "outside"
WAITING = "waiting"
CALLED = "called"
REFUSED = "refused"


class Place:
    """A place in a line; only the holder of the queue's lock looks at its state."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = OUTSIDE

    def wake(self, signal: "Any") -> bool:
        """Wake who stands here; False if that is impossible for ever."""
        raise NotImplementedError

    def is_dead(self) -> bool:
        """Whether nobody can come back to this place."""
        return False


class ThreadPlace(Place):
    """The place of a thread. Its signal is a lock, which the thread waits for."""

    __slots__ = ()

    def wake(self, signal: "Any") -> bool:
        signal.release()
        return True


class TaskPlace(Place):
    """The place of a task. Its signal is a future of the task's loop.

    The place itself does not know the future: the future knows the task, and a queue that held
    called tasks would keep those of closed loops from being collected, which gives their places up.
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
        # Ordered, and places can leave from the middle.
        self.waiting: collections.OrderedDict[Place, Any] = collections.OrderedDict()
        self.called: set[Place] = set()

    def add(self, place: Place, signal: "Any") -> None:
        """Put a place at the end."""
        self.waiting[place] = signal
        place.state = WAITING

    def call(self) -> "_Call":
        """Call the first one, for whom something is reserved from now on."""
        place, signal = self.waiting.popitem(last=False)
        self.called.add(place)
        place.state = CALLED
        return self, place, signal

    def dismiss(self) -> "list[_Call]":
        """Call all, without reserving anything."""
        return self._empty(OUTSIDE)

    def refuse(self) -> "list[_Call]":
        """Refuse all that wait; they have to be woken."""
        return self._empty(REFUSED)

    def refuse_called(self) -> None:
        """Refuse those that were called and have not come yet."""
        for place in self.called:
            place.state = REFUSED
        self.called.clear()

    def leave(self, place: Place) -> bool:
        """Take a place out; whether it was called, so that something was reserved for it."""
        if place.state is WAITING:
            del self.waiting[place]
            place.state = OUTSIDE
        elif place.state is CALLED:
            self.called.remove(place)
            place.state = OUTSIDE
            return True
        return False

    def drop_dead(self) -> bool:
        """Take out the places that were called and whose loops are closed; whether there were
        some."""
        dead = [place for place in self.called if place.is_dead()]
        for place in dead:
            self.leave(place)
        return bool(dead)

    def _empty(self, state: str) -> "list[_Call]":
        calls = []
        while self.waiting:
            place, signal = self.waiting.popitem(last=False)
            place.state = state
            calls.append((self, place, signal))
        return calls
