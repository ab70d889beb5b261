"""asyncio in Rust: a drop-in event loop, Future and Task.

Three ways in, from the smallest change to none at all:

    aioxide.run(main())               instead of asyncio.run(main())
    aioxide.install()                 asyncio's own names now mean aioxide's objects
    python -m aioxide program.py      an unchanged program

Importing this package replaces nothing in asyncio.
"""

import asyncio as _asyncio

from ._aioxide import (
    Future,
    Handle,
    Task,
    TimerHandle,
    all_tasks,
    create_task,
    current_task,
    sleep,
)
from ._install import install, uninstall
from ._loop import Loop
from ._streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)

__version__ = "0.1.0"

__all__ = (
    "EventLoopPolicy",
    "Future",
    "Handle",
    "Loop",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TimerHandle",
    "__version__",
    "all_tasks",
    "create_task",
    "current_task",
    "install",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "sleep",
    "start_server",
    "start_unix_server",
    "uninstall",
)


def new_event_loop():
    """Make an event loop: a `loop_factory` for asyncio.Runner and its like."""
    return Loop()


def run(main, *, debug=None, loop_factory=None):
    """Run a coroutine on a new loop and return its result, as asyncio.run() does.

    `loop_factory` is there for calls written for asyncio.run(); without it the loop is aioxide's.
    """
    if _asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with _asyncio.Runner(debug=debug, loop_factory=loop_factory or new_event_loop) as runner:
        return runner.run(main)


def __getattr__(name):
    # Policies go away in Python 3.16; who does not ask for one need not know.
    if name == "EventLoopPolicy":
        from ._policy import EventLoopPolicy

        globals()[name] = EventLoopPolicy
        return EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
