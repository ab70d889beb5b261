"""`loop._ready` and `loop._scheduled`: a native loop's queue and heap, as programs see them.

Both are views: they show what the loop has at that moment, and changes made through them take
effect in the loop. They are no deque and no list, so functions that accept nothing else, such as
those of `heapq`, refuse them.

Native code keeps some entries without a handle, such as the timer of a sleep or the step of a task.
Each is shown as a handle of asyncio's class, which can be run and cancelled like any other.
"""

import collections
from asyncio import events, futures
from collections.abc import MutableSequence

from .._aioxide import EventLoop, Task, current_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    _Handles = MutableSequence[Any]
else:
    _Handles = MutableSequence


class _View(_Handles):
    """A view of handles."""

    __slots__ = ("_loop",)

    if TYPE_CHECKING:
        # An instance of one of the classes below.
        _items: Any
        _like: Any
        _remove: Any

    def __init__(self, loop: "Any") -> None:
        self._loop = loop

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> "Iterator[Any]":
        return iter(self.copy())

    def __getitem__(self, index: "Any") -> "Any":
        return self._handles()[index]

    def __setitem__(self, index: "Any", handles: "Any") -> None:
        changed = self._handles()
        changed[index] = handles
        self.replace(changed)

    def __delitem__(self, index: "Any") -> None:
        gone = self._handles()[index]
        for handle in gone if isinstance(index, slice) else [gone]:
            self._drop(handle)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (type(self), self._like)):
            return self._handles() == list(other)
        return NotImplemented

    def __repr__(self) -> str:
        return repr(self.copy())

    def copy(self) -> "Any":
        """A collection of the handles."""
        return self._like(self._handles())

    __copy__ = copy

    def clear(self) -> None:
        """Drop all."""
        for item in self._items():
            self._remove(0, _native(item))

    def replace(self, handles: "Iterable[Any]") -> None:
        """Drop the handles that are not among these, and add those that are not here yet."""
        handles = list(handles)
        kept = {_key(handle) for handle in handles}
        here = self._handles()
        for handle in here:
            if _key(handle) not in kept:
                self._drop(handle)
        known = {_key(handle) for handle in here}
        for handle in handles:
            if _key(handle) not in known:
                self.append(handle)

    def _handles(self) -> "list[Any]":
        return [_shown(self._loop, item) for item in self._items()]

    def _drop(self, handle: "Any") -> None:
        for place, item in enumerate(self._items()):
            if _known_by(_shown(self._loop, item)) is _known_by(handle):
                self._remove(place, _native(item))
                return


class Ready(_View):
    """asyncio's `_ready`: the handles that run in the next iteration."""

    __slots__ = ()
    _like = collections.deque

    def _items(self) -> "list[Any]":
        return EventLoop._list_ready(self._loop)

    def _remove(self, place: int, native: "Any") -> None:
        EventLoop._remove_ready(self._loop, place)

    def insert(self, index: int, handle: "Any") -> None:
        """Add a handle in front of the one at that index."""
        place = range(len(self))[index:].start if index < 0 else index
        if not EventLoop._insert_ready(self._loop, place, handle):
            ours = EventLoop.call_soon(self._loop, _run_foreign, handle)
            EventLoop._remove_ready(self._loop, len(self) - 1)
            EventLoop._insert_ready(self._loop, place, ours)

    def appendleft(self, handle: "Any") -> None:
        """Let a handle run first."""
        self.insert(0, handle)

    def extendleft(self, handles: "Iterable[Any]") -> None:
        """Let handles run first, the last of them before the others."""
        for handle in handles:
            self.insert(0, handle)

    def popleft(self) -> "Any":
        """Take out the handle that would run first."""
        if not self._items():
            raise IndexError("pop from an empty deque")
        return self.pop(0)


class Scheduled(_View):
    """asyncio's `_scheduled`: the timers, the next one first."""

    __slots__ = ()
    _like = list

    def _items(self) -> "list[Any]":
        return EventLoop._list_scheduled(self._loop)

    def _remove(self, place: int, native: "Any") -> None:
        EventLoop._remove_scheduled(self._loop, native)

    def insert(self, index: int, handle: "Any") -> None:
        """Add a timer. Its time decides its place."""
        if not EventLoop._insert_scheduled(self._loop, handle) and not handle._scheduled:
            EventLoop.call_at(self._loop, handle._when, _run_foreign, handle)

    def sort(self, *, key: object = None, reverse: bool = False) -> None:
        """Do nothing: the timers are sorted."""


def _run_foreign(handle: "Any") -> None:
    if not handle._cancelled:
        handle._run()


def _native(item: "Any") -> "Any":
    return item[0] if type(item) is tuple else item


def _shown(loop: "Any", item: "Any") -> "Any":
    """The view's object for a native one: a handle, the foreign handle that a native one runs, or a
    stand-in for an entry without a handle."""
    if type(item) is not tuple:
        return item._args[0] if item._callback is _run_foreign else item
    native, what, *details = item
    return _Alarm(loop, native, *details) if what == "alarm" else _Turn(loop, native, what)


def _known_by(handle: "Any") -> "Any":
    """Return the same object for all that stand for one thing."""
    return getattr(handle, "_native", handle)


def _key(handle: "Any") -> int:
    return id(_known_by(handle))


class _Turn(events.Handle):
    """An entry of a native object: the step of a task, the readiness of a transport."""

    __slots__ = ("_native",)

    if TYPE_CHECKING:
        _loop: Any

    def __init__(self, loop: "Any", native: "Any", what: str) -> None:
        self._native = native
        super().__init__(_Callback(native, what), (), loop)

    def cancel(self) -> None:
        if not self._cancelled:
            super().cancel()
            Ready(self._loop)._drop(self)

    def _run(self) -> None:
        if not EventLoop._run_waiting(self._loop, self._native) and _is_due(self._native):
            # The entry was taken out of the queue before.
            EventLoop._run_step(self._loop, self._native)


def _is_due(native: "Any") -> bool:
    """Whether the object is a task that is not waiting on a future."""
    if not isinstance(native, Task) or native.done() or current_task(native.get_loop()) is native:
        return False
    waiter = native._fut_waiter  # type: ignore[attr-defined]
    return waiter is None or waiter.done()


class _Callback:
    """Stands for a callback in the texts of such handles."""

    __slots__ = ("native", "what")

    def __init__(self, native: "Any", what: str) -> None:
        self.native = native
        self.what = what

    def __call__(self) -> None:
        raise RuntimeError("only native code can call this callback")

    def __repr__(self) -> str:
        return f"<{self.what} of {self.native!r}>"


class _Alarm(events.TimerHandle):
    """A timer without a handle: of a sleep, or of a wait with a timeout."""

    __slots__ = ("_native",)

    if TYPE_CHECKING:
        _loop: Any

    def __init__(
        self, loop: "Any", native: "Any", target: "Any", when: float, cancelled: bool
    ) -> None:
        self._native = native
        callback: Any = getattr(target, "_on_timeout", target)
        args: tuple[Any, ...] = ()
        if futures.isfuture(target):
            callback = futures._set_result_unless_cancelled  # type: ignore[attr-defined]
            args = (target, None)
        super().__init__(when, callback, args, loop)
        self._scheduled = True
        if cancelled:
            events.Handle.cancel(self)

    def cancel(self) -> None:
        if not self._cancelled:
            events.Handle.cancel(self)
            EventLoop._cancel_alarm(self._loop, self._native)

    def _run(self) -> None:
        EventLoop._run_waiting(self._loop, self._native)


# Their texts show the class for which they stand.
_Turn.__name__ = _Turn.__qualname__ = "Handle"
_Alarm.__name__ = _Alarm.__qualname__ = "TimerHandle"
