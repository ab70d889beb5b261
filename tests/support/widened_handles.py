"""Gives asyncio's handles other slots than CPython's, before aioxide is imported."""

import asyncio
import inspect
from asyncio import events


def widen(what: str) -> None:
    """Makes the classes anew from their source text, with more slots or with properties.

    What has other slots: "moved", a first one of Handle; "parted", one of Handle between the
    others; "timer", one behind those of TimerHandle; "unrelated", only the Handle from which
    TimerHandle derives; "property": Handle has `_callback` no longer as a slot. "none" makes the
    classes anew as they were.
    """
    more = {"moved": "_above_all", "parted": "_between", "unrelated": "_above_all"}.get(what)
    text = inspect.getsource(events.Handle)
    timer_text = inspect.getsource(events.TimerHandle)
    first = events.Handle
    if more is not None:
        text = text.replace("__slots__ = (", f"__slots__ = ({more!r}, ", 1)
    if what == "timer":
        timer_text = timer_text.replace("__slots__ = [", "__slots__ = ['_last', ", 1)
    exec(text, vars(events))
    if what == "property":
        names = {"__slots__": ("_kept",), "_callback": property(getattr_kept, setattr_kept)}
        events.Handle = type("Handle", (events.Handle,), names)  # type: ignore[assignment, misc]
    exec(timer_text, vars(events))
    if hasattr(events, "_ThreadSafeHandle"):
        exec(inspect.getsource(events._ThreadSafeHandle), vars(events))
    if what == "unrelated":
        events.Handle = first  # type: ignore[misc]
    asyncio.Handle = events.Handle  # type: ignore[misc]
    asyncio.TimerHandle = events.TimerHandle  # type: ignore[misc]


def getattr_kept(handle: object) -> object:
    return getattr(handle, "_kept", None)


def setattr_kept(handle: object, value: object) -> None:
    object.__setattr__(handle, "_kept", value)
