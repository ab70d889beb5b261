"""Loops that wait by a selector of the program's own, or whose inner methods the program replaces.

Such a program does itself what the native loop does: another main loop (Qt, trio) watches the
descriptors, or a class has its own `_run_once()`. Its loop is asyncio's throughout: asyncio's
methods, queue, heap, self-pipe and transports, of the running version. Futures and tasks stay
native and treat it as any other loop.

The class of such a loop has `SelectorLoop` among its bases, just in front of `Loop`. `SelectorLoop`
has asyncio's own method wherever `Loop` or its native base has one. It is inserted when a class is
made that replaces an inner method, or when a loop is made with a selector of the program's own.
"""

import select
import selectors
import types
import weakref
from asyncio import unix_events

from .._aioxide import EventLoop, _leave_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# This is asyncio's class before install() puts ours under its name.
_SelectorEventLoop = unix_events._UnixSelectorEventLoop

# Methods that asyncio's loop calls on itself and native code does not, besides those that it
# replaces.
_NOT_CALLED = (
    "_accept_connection",
    "_accept_connection2",
    "_ready",
    "_run_forever_cleanup",
    "_run_forever_setup",
    "_scheduled",
    "_selector",
    "_sock_accept",
    "_sock_connect",
    "_sock_connect_cb",
    "_sock_read_done",
    "_sock_recv",
    "_sock_recv_into",
    "_sock_recvfrom",
    "_sock_recvfrom_into",
    "_sock_sendall",
    "_sock_sendto",
    "_sock_write_done",
)

# Methods that `Loop` has replaced and that are called wherever asyncio calls them.
_CALLED = ("_do_shutdown", "_internal_fds")

_native_classes: "weakref.WeakSet[type]" = weakref.WeakSet()
_loop_class: "Any" = None
_inner: "Any" = None
SelectorLoop: "Any" = None


def begin(loop_class: type) -> None:
    """Make the class from which the loops of this module derive."""
    global SelectorLoop, _inner, _loop_class
    theirs: dict[str, Any] = {}
    for base in reversed(_SelectorEventLoop.__mro__[:-1]):
        theirs.update(vars(base))
    ours = {**vars(EventLoop), **vars(loop_class)}
    names = [name for name in ours if not name.startswith("__")]
    _inner = {*_NOT_CALLED, *(name for name in names if name.startswith("_"))}.difference(_CALLED)
    namespace = {name: theirs[name] if name in theirs else _Absent() for name in names}
    namespace.update(
        __init__=_init,
        __module__=_SelectorEventLoop.__module__,
        __qualname__=_SelectorEventLoop.__qualname__,
        __doc__=_SelectorEventLoop.__doc__,
        __slots__=(),
        _is_asyncios=True,
    )
    SelectorLoop = type(_SelectorEventLoop.__name__, (loop_class,), namespace)
    _loop_class = loop_class
    _leave_out(SelectorLoop)


class _Absent:
    """Stands in front of an attribute of the native loop, so that asyncio's code sets its own."""

    __slots__ = ("name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> "Any":
        if instance is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self.name!r}")
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r}")


def _init(self: "Any", selector: "Any" = None) -> None:
    EventLoop._close_native(self)
    _SelectorEventLoop.__init__(self, selector)


def class_made(cls: type) -> None:
    """Called when a class derives from `Loop`: makes it asyncio's if it replaces a method that
    native code never calls."""
    if _loop_class is None or issubclass(cls, SelectorLoop):
        return
    for base in cls.__mro__:
        if base is _loop_class:
            return
        if not _inner.isdisjoint(vars(base)):
            _rebase(cls)
            return


def is_wanted(loop: "Any", selector: "Any") -> bool:
    """Whether a new loop is to be asyncio's."""
    return getattr(loop, "_is_asyncios", True) or _is_foreign(
        selectors.DefaultSelector if selector is None else type(selector)
    )


def make(loop: "Any", selector: "Any") -> None:
    """`__init__()` of a loop that is to be asyncio's, also of one that derives from asyncio's
    alone."""
    if isinstance(loop, _loop_class):
        if not isinstance(loop, SelectorLoop):
            _change_class(loop)
        EventLoop._close_native(loop)
    _SelectorEventLoop.__init__(loop, selector)


def change(loop: "Any", selector: "Any") -> None:
    """Give a native loop a selector of the program's own, before the loop has anything to do."""
    if loop.is_running() or loop._ready or loop._scheduled or EventLoop._list_watches(loop):
        raise RuntimeError(
            "aioxide's loop takes a selector of the program's own when it is made, or before "
            "anything is scheduled"
        )
    debug, task_factory, handler = loop._debug, loop._task_factory, loop._exception_handler
    _change_class(loop)
    make(loop, selector)
    loop._debug, loop._task_factory, loop._exception_handler = debug, task_factory, handler


def native_made(loop: "Any") -> None:
    """Note that a loop of a class of the program's is native."""
    _native_classes.add(type(loop))


def _is_foreign(kind: type) -> bool:
    """Whether selectors of a class may do more than ask the system.

    So may all but the standard library's, and these too if `select` is patched, as by gevent.
    """
    return (
        kind.__module__ != selectors.__name__
        or getattr(selectors, kind.__name__, None) is not kind
        or not isinstance(select.select, types.BuiltinFunctionType)
    )


def _change_class(loop: "Any") -> None:
    cls = type(loop)
    if cls is _loop_class:
        loop.__class__ = SelectorLoop
    elif _has_native_loops(cls):
        # The other loops of the class stay native. So this one gets a class of its own, of the same
        # name.
        loop.__class__ = vars(cls).get("_with_own_selector") or _make_sibling(cls)
    else:
        _rebase(cls)


def _has_native_loops(cls: type) -> bool:
    return cls in _native_classes or any(map(_has_native_loops, cls.__subclasses__()))


def _make_sibling(cls: "Any") -> "Any":
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    cls._with_own_selector = type(cls.__name__, (cls, SelectorLoop), {**names, "__slots__": ()})
    return cls._with_own_selector


def _rebase(cls: type) -> None:
    """Put SelectorLoop into a class's order of bases, in front of `Loop`."""
    bases = [SelectorLoop if base is _loop_class else base for base in cls.__bases__]
    if SelectorLoop not in bases:
        last = max(place for place, base in enumerate(bases) if issubclass(base, _loop_class))
        bases.insert(last + 1, SelectorLoop)
    cls.__bases__ = tuple(bases)
