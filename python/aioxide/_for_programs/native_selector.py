"""`loop._selector` of a native loop, for programs that use it.

They read the watched descriptors, wait by `select()`, or put another function in its place to steer
the loop's time. That function is then called in each iteration, as asyncio would call it. Only the
loop's own methods add and remove descriptors.
"""

import selectors
from collections.abc import Mapping

from .._aioxide import EventLoop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    _Watches = Mapping[Any, "Key"]
else:
    _Watches = Mapping


class NativeSelector(selectors.BaseSelector):
    """Stands for the selector of a native loop."""

    def __init__(self, loop: "Any") -> None:
        self._loop = loop

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "select":
            EventLoop._set_select(self._loop, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name == "select":
            EventLoop._set_select(self._loop, None)

    def select(self, timeout: "float | None" = None) -> "list[tuple[Any, int]]":
        """Wait until a watched descriptor is ready. The loop itself learns which are ready."""
        watched = _Watched(self._loop)
        return [
            (watched.get(fd) or _key(fd, fd), mask)
            for fd, mask in EventLoop._poll(self._loop, timeout)
        ]

    def get_map(self) -> "_Watched":
        """The watched files, by descriptor."""
        return _Watched(self._loop)

    def _refuse(self, *args: "Any", **kwargs: "Any") -> "Any":
        raise NotImplementedError(
            "aioxide's loop watches descriptors through add_reader() and add_writer() alone"
        )

    register = unregister = modify = _refuse


class _Watched(_Watches):
    def __init__(self, loop: "Any") -> None:
        self._watches = EventLoop._list_watches(loop)

    def __len__(self) -> int:
        return len(self._watches)

    def __iter__(self) -> "Iterator[Any]":
        return (fd for fd, *_ in self._watches)

    def __getitem__(self, fileobj: object) -> "Key":
        for fd, file, reader, writer in self._watches:
            if fileobj in (fd, file):
                return _key(file, fd, reader, writer)
        raise KeyError(f"{fileobj!r} is not registered")


def _key(file: "Any", fd: int, reader: object = None, writer: object = None) -> "Key":
    events = bool(reader) * selectors.EVENT_READ | bool(writer) * selectors.EVENT_WRITE
    return Key(file, fd, events, (reader, writer))


class Key(selectors.SelectorKey):
    """A key whose readiness was passed to the loop before the program sees it."""

    __slots__ = ()
