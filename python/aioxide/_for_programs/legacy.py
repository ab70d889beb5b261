"""Legacy mode: what programs written for Python 3.5 to 3.9 rely on and later versions took away.

`python -m aioxide --legacy program.py`, or AIOXIDE_LEGACY=1 in the environment where aioxide is
installed in asyncio's place, brings back

- the main thread's event loop, made by get_event_loop() when there is none,
- asyncio.coroutine, and generators as coroutines,
- wait() with coroutines,
- the argument `loop`,

each with the DeprecationWarning that it had. Off by default: then nothing of this is loaded.

The functions and classes that are in asyncio at that moment stay, with something around them; so it
does not matter which of them are aioxide's.
"""

# A wrapper shows the annotations of the asyncio function in it, and has none of its own.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-any-generics
# mypy: disable-error-code="attr-defined, assignment"

import asyncio
import collections.abc
import functools
import inspect
import sys
import threading
import types
import warnings
from asyncio import coroutines, events, futures, tasks

_LOOP = (
    "The loop argument is deprecated since Python 3.8, and scheduled for removal in Python 3.10."
)
_COROUTINES = (
    "The explicit passing of coroutine objects to asyncio.wait() is deprecated since Python 3.8, "
    "and scheduled for removal in Python 3.11."
)
_DECORATOR = '"@coroutine" decorator is deprecated since Python 3.8, use "async def" instead'

# Coroutine functions that took a loop, which had to be the running one.
_FUNCTIONS = (
    "sleep",
    "open_connection",
    "start_server",
    "open_unix_connection",
    "start_unix_server",
    "create_subprocess_exec",
    "create_subprocess_shell",
)
_CLASSES = (
    "Lock",
    "Event",
    "Condition",
    "Semaphore",
    "BoundedSemaphore",
    "Queue",
    "PriorityQueue",
    "LifoQueue",
)

# The functions that undo the changes, the last change first.
_undo: list = []


def begin(replace):
    """Begin legacy mode. `replace(pairs)` puts the second of each pair wherever asyncio has the
    first."""
    if _undo:
        return
    _keep_main_threads_loop()
    _take_generators()
    _set(coroutines, "coroutine", coroutine)
    _set(asyncio, "coroutine", coroutine)
    _set(asyncio, "__all__", (*asyncio.__all__, "coroutine"))
    for name in _CLASSES:
        _take_loop_in_init(getattr(asyncio, name))
    replace(
        [
            (asyncio.wait, _wait(asyncio.wait)),
            (asyncio.wait_for, _wait_for(asyncio.wait_for)),
            (asyncio.gather, _gather(asyncio.gather)),
            (asyncio.shield, _shield(asyncio.shield)),
            (asyncio.as_completed, _as_completed(asyncio.as_completed)),
            *(
                (getattr(asyncio, name), _without_loop(getattr(asyncio, name)))
                for name in _FUNCTIONS
            ),
        ]
    )


def end():
    """End legacy mode. The changes made by `replace` are undone by its owner."""
    while _undo:
        _undo.pop()()


def _set(owner, name, value):
    if name in vars(owner):
        before = vars(owner)[name]
        _undo.append(lambda: setattr(owner, name, before))
    else:
        _undo.append(lambda: delattr(owner, name))
    setattr(owner, name, value)


# The main thread's loop.


def _keep_main_threads_loop():
    policy = (
        getattr(events, "_BaseDefaultEventLoopPolicy", None) or events.BaseDefaultEventLoopPolicy
    )
    set_event_loop = policy.set_event_loop

    @functools.wraps(policy.get_event_loop)
    def get_loop(self):
        local = self._local
        is_unset = local._loop is None and not getattr(local, "_set_called", False)
        if is_unset and threading.current_thread() is threading.main_thread():
            warnings.warn(
                "There is no current event loop",
                DeprecationWarning,
                stacklevel=_level_of_program(),
            )
            self.set_event_loop(self.new_event_loop())
        if local._loop is None:
            name = threading.current_thread().name
            raise RuntimeError(f"There is no current event loop in thread {name!r}.")
        return local._loop

    @functools.wraps(set_event_loop)
    def set_loop(self, loop):
        self._local._set_called = True
        set_event_loop(self, loop)

    _set(policy, "get_event_loop", get_loop)
    _set(policy, "set_event_loop", set_loop)


def _level_of_program():
    """The stack level of the first caller outside asyncio and aioxide, for a warning about its
    caller's code."""
    level, frame = 2, sys._getframe(2)
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("asyncio", "aioxide"):
            break
        frame = frame.f_back
        level += 1
    return level


# Coroutines made from generators.


def _take_generators():
    kinds = coroutines._COROUTINE_TYPES
    if types.GeneratorType not in kinds:
        _set(coroutines, "_COROUTINE_TYPES", (*kinds, types.GeneratorType))
        _undo.append(lambda: coroutines._iscoroutine_typecache.discard(types.GeneratorType))


def coroutine(func):
    """Decorator: make a coroutine function of a generator function, or of one that returns an
    awaitable."""
    warnings.warn(_DECORATOR, DeprecationWarning, stacklevel=2)
    if inspect.iscoroutinefunction(func):
        return func
    if inspect.isgeneratorfunction(func):
        made = types.coroutine(func)
    else:

        @types.coroutine
        @functools.wraps(func)
        def made(*args, **kwargs):
            result = func(*args, **kwargs)
            if futures.isfuture(result) or inspect.isgenerator(result):
                return (yield from result)
            if isinstance(result, collections.abc.Awaitable):
                return (yield from result.__await__())
            return result

    made._is_coroutine = coroutines._is_coroutine
    return made


coroutine.__module__ = "asyncio.coroutines"


# wait() with coroutines, and the argument `loop`.


def _warn_of(loop):
    if loop is not None:
        warnings.warn(_LOOP, DeprecationWarning, stacklevel=3)


def _is_one(fs):
    """Whether the argument is a single future or coroutine, which the function itself refuses."""
    if isinstance(fs, types.GeneratorType):
        return bool(fs.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return futures.isfuture(fs) or coroutines.iscoroutine(fs)


def _wait(wait):
    @functools.wraps(wait)
    async def wrapper(fs, *, loop=None, **options):
        _warn_of(loop)
        if not _is_one(fs):
            # The order is that of the list; a coroutine that occurs twice is waited for once.
            fs = list(dict.fromkeys(fs))
            if any(map(coroutines.iscoroutine, fs)):
                warnings.warn(_COROUTINES, DeprecationWarning, stacklevel=2)
                loop = loop or events.get_running_loop()
                fs = [tasks.ensure_future(future, loop=loop) for future in fs]
        return await wait(fs, **options)

    return wrapper


@types.coroutine
def _awaitable(generator):
    return (yield from generator)


def _wait_for(wait_for):
    @functools.wraps(wait_for)
    async def wrapper(fut, timeout, *, loop=None):
        _warn_of(loop)
        if isinstance(fut, types.GeneratorType):
            fut = _awaitable(fut)
        return await wait_for(fut, timeout)

    return wrapper


def _gather(gather):
    @functools.wraps(gather)
    def wrapper(*coros_or_futures, loop=None, **options):
        if loop is None:
            return gather(*coros_or_futures, **options)
        _warn_of(loop)
        if not coros_or_futures:
            empty = loop.create_future()
            empty.set_result([])
            return empty
        made = {one: tasks.ensure_future(one, loop=loop) for one in dict.fromkeys(coros_or_futures)}
        return gather(*(made[one] for one in coros_or_futures), **options)

    return wrapper


def _shield(shield):
    @functools.wraps(shield)
    def wrapper(arg, *, loop=None):
        if loop is None:
            return shield(arg)
        _warn_of(loop)
        return shield(tasks.ensure_future(arg, loop=loop))

    return wrapper


def _as_completed(as_completed):
    @functools.wraps(as_completed)
    def wrapper(fs, *, loop=None, **options):
        _warn_of(loop)
        if not _is_one(fs):
            fs = list(fs)
            if loop is not None:
                fs = [tasks.ensure_future(future, loop=loop) for future in dict.fromkeys(fs)]
        return as_completed(fs, **options)

    return wrapper


def _without_loop(function):
    @functools.wraps(function)
    def wrapper(*args, loop=None, **kwargs):
        _warn_of(loop)
        return function(*args, **kwargs)

    wrapper._is_coroutine = coroutines._is_coroutine
    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(wrapper)
    return wrapper


def _take_loop_in_init(cls):
    # Subclasses without an __init__ of their own inherit this one.
    init = cls.__init__
    if "__init__" not in vars(cls):
        return

    @functools.wraps(init)
    def wrapper(self, *args, loop=None, **kwargs):
        _warn_of(loop)
        init(self, *args, **kwargs)

    _set(cls, "__init__", wrapper)
