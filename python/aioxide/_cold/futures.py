"""wrap_future() and run_coroutine_threadsafe(): between asyncio's futures and those of threads.

The code is cold: the outcome comes from another thread, which costs a thousand times as much.
"""

import concurrent.futures
from asyncio import events, futures

from .._aioxide import ensure_future, iscoroutine


def wrap_future(future, *, loop=None):
    """A future of the loop that ends as the concurrent.futures.Future does, and cancels it when it
    is cancelled itself."""
    if futures.isfuture(future):
        return future
    assert isinstance(future, concurrent.futures.Future), (
        f"concurrent.futures.Future is expected, got {future!r}"
    )
    if loop is None:
        loop = events.get_event_loop()
    wrapped = loop.create_future()
    futures._chain_future(future, wrapped)
    return wrapped


def run_coroutine_threadsafe(coro, loop):
    """Run a coroutine in a loop of another thread; return a concurrent.futures.Future."""
    if not iscoroutine(coro):
        raise TypeError("A coroutine object is required")
    future = concurrent.futures.Future()
    loop.call_soon_threadsafe(_start, coro, loop, future)
    return future


def _start(coro, loop, future):
    """Make the task in the loop's thread; the future gets its outcome. If the task cannot be made,
    the future gets the exception, and the loop's exception handler is called."""
    try:
        task = ensure_future(coro, loop=loop)
        futures._chain_future(task, future)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
        raise


wrap_future.__module__ = run_coroutine_threadsafe.__module__ = "aioxide"
