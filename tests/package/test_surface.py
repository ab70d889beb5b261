"""What introspection says of every public object that install() replaces: as of asyncio's."""

import asyncio
import collections.abc
import inspect
import pydoc
import re
import typing

import pytest

from aioxide._ways_in import install

OURS = install.replacements()
NAMES = sorted(
    name
    for name, value in vars(asyncio).items()
    if not name.startswith("_") and id(value) in OURS
)
FUNCTIONS = [name for name in NAMES if not inspect.isclass(getattr(asyncio, name))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(asyncio, name))]

# Members whose signatures differ, and why.
OTHER_SIGNATURES = {
    # One function for all versions, which differ in what they pass on.
    "create_task",
    "SelectorEventLoop.create_task",
    "EventLoop.create_task",
}

# Members that asyncio's class has on its objects, or not at all.
MORE_MEMBERS = {
    # asyncio sets the lock's own methods on each Condition.
    "Condition.acquire",
    "Condition.locked",
    "Condition.release",
    # A field of asyncio's loops.
    "EventLoop.slow_callback_duration",
    "SelectorEventLoop.slow_callback_duration",
}


def pair(name):
    theirs = getattr(asyncio, name)
    return theirs, OURS[id(theirs)]


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def members(name):
    """Each public member of both classes: its name, asyncio's and ours."""
    theirs, ours = pair(name)
    for member in sorted(public(theirs)):
        yield f"{name}.{member}", getattr(theirs, member), getattr(ours, member)


def parameters(function):
    """The signature without annotations, and without the mark of parameters by position only,
    with which C functions have theirs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        (
            one.name,
            either if one.kind is inspect.Parameter.POSITIONAL_ONLY else one.kind,
            repr(one.default),
        )
        for one in signature.parameters.values()
    ]


def heading(function):
    """The line in which help() shows a function's parameters, without annotations."""
    lines = pydoc.plain(pydoc.render_doc(function)).splitlines()
    line = next(line for line in lines if line.startswith((f"{function.__name__}(", "async ")))
    return re.sub(r":[^,*]*?(?=[,)=])|->.*", "", line).strip()


def facts(thing):
    return {
        "callable": callable(thing),
        "coroutine function": inspect.iscoroutinefunction(thing),
        "class": inspect.isclass(thing),
        "data": inspect.isdatadescriptor(thing),
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    theirs, ours = pair(name)
    assert facts(ours) == facts(theirs)
    assert (ours.__name__, ours.__qualname__) == (theirs.__name__, theirs.__qualname__)
    assert ours.__doc__ or not theirs.__doc__
    assert ours.__module__.partition(".")[0] == "aioxide" or ours.__module__ == theirs.__module__
    if name not in OTHER_SIGNATURES:
        assert parameters(ours) == parameters(theirs)
        assert heading(ours) == heading(theirs)
    assert isinstance(typing.get_type_hints(ours), dict)


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name):
    theirs, ours = pair(name)
    assert ours.__doc__
    assert ours.__module__ in ("aioxide", theirs.__module__)
    if not issubclass(ours, asyncio.AbstractEventLoop):  # theirs is _UnixSelectorEventLoop
        assert ours.__name__ == ours.__qualname__ == theirs.__name__ == name
    assert inspect.isabstract(ours) == inspect.isabstract(theirs)
    assert parameters(ours) == parameters(theirs)
    more = {f"{name}.{member}" for member in public(ours) - public(theirs)}
    assert more <= MORE_MEMBERS
    assert public(theirs) <= public(ours)


@pytest.mark.parametrize("name", CLASSES)
def test_members(name):
    for full, theirs, ours in members(name):
        assert facts(ours) == facts(theirs), full
        if not callable(theirs):
            continue
        assert ours.__name__ == theirs.__name__, full
        assert ours.__doc__ or not theirs.__doc__, full
        expected = parameters(theirs)
        if full not in OTHER_SIGNATURES and expected is not None:
            assert parameters(ours) == expected, full


@pytest.mark.parametrize("name", CLASSES)
def test_abstract_classes(name):
    """isinstance() says the same, but for classes of which each side has its own."""
    theirs, ours = pair(name)
    for module in (asyncio, collections.abc):
        for other in vars(module).values():
            if inspect.isclass(other) and id(other) not in OURS:
                assert issubclass(ours, other) == issubclass(theirs, other), other


def test_this_is_not_of_nothing():
    assert len(FUNCTIONS) > 15 and len(CLASSES) > 12
