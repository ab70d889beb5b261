"""asyncio in Rust: a drop-in event loop, Future and Task.

Ways in, from the smallest change to none at all:

    aioxide.run(main())               instead of asyncio.run(main())
    import aioxide as asyncio         every public name of asyncio, native where there is one
    aioxide.install()                 asyncio's own names now mean aioxide's objects
    python -m aioxide program.py      an unchanged program

Importing this package replaces nothing in asyncio.
"""

import asyncio as _asyncio
import sys as _sys
from types import ModuleType as _ModuleType

# In the place of asyncio.threads, from which asyncio has to_thread().
from . import threads as threads
from ._aioxide import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Future,
    Handle,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    Semaphore,
    Task,
    TimerHandle,
    __version__,
    all_tasks,
    create_task,
    current_task,
    ensure_future,
    iscoroutine,
    sleep,
    to_thread,
)
from ._cold.futures import run_coroutine_threadsafe, wrap_future
from ._cold.loop import Loop
from ._cold.streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from ._ways_in import policy as _policy
from ._ways_in.attributes import make_quick as _make_quick
from ._ways_in.install import DEPRECATED as _DEPRECATED
from ._ways_in.install import install, replacements, uninstall
from ._ways_in.policy import EventLoopPolicy
from .threads._running import run_in_threads

__all__ = (
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "LifoQueue",
    "Lock",
    "Loop",
    "PriorityQueue",
    "Queue",
    "Semaphore",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TimerHandle",
    "__version__",
    "all_tasks",
    "create_task",
    "current_task",
    "ensure_future",
    "install",
    "iscoroutine",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "run_coroutine_threadsafe",
    "run_in_threads",
    "sleep",
    "start_server",
    "start_unix_server",
    "to_thread",
    "uninstall",
    "wrap_future",
)


def new_event_loop():
    """Make an event loop: a `loop_factory` for asyncio.Runner and its like."""
    return Loop()


def run(main, *, debug=None, loop_factory=None):
    """Run a coroutine on a new loop and return its result, as asyncio.run() does.

    The loop is aioxide's, unless `loop_factory` makes another or the program has set a policy of
    its own, which then makes it.
    """
    if _asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with _policy.make_runner(debug, loop_factory) as runner:
        return runner.run(main)


def _add_names_of_asyncio():
    """Add every public name of asyncio that is not here yet: aioxide's object where there is
    one."""
    ours = replacements()
    public = set(_asyncio.__all__)
    for name, value in vars(_asyncio).items():
        its = not isinstance(value, _ModuleType) or value.__name__.startswith("asyncio.")
        if name in public or (its and not name.startswith("_")):
            globals().setdefault(name, ours.get(id(value), value))
    return (*__all__, *(name for name in _asyncio.__all__ if name not in __all__))


__all__ = _add_names_of_asyncio()


def __dir__():
    return sorted({*globals(), *__all__})


if _sys.version_info >= (3, 14):

    def __getattr__(name):
        # asyncio warns of it.
        if name in _DEPRECATED:
            return getattr(_asyncio, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    _make_quick(_sys.modules[__name__], _DEPRECATED)
