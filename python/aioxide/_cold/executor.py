"""The default executor: a ThreadPoolExecutor whose threads run a native loop.

Its interface, its shutdown and its end with the interpreter are those of `concurrent.futures`.
Calls of the loop go straight into the native queue. Calls by `submit()` come as work items of the
running version, and are run as it runs them.
"""

import functools
import os
import sys
import threading
import types
import weakref
from asyncio import futures
from concurrent.futures import Future, ThreadPoolExecutor, thread

from .. import _aioxide

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Callable
    from typing import Any

# If a tool has patched ThreadPoolExecutor.submit, every call goes through the patch.
_submit: object = ThreadPoolExecutor.submit
if not isinstance(_submit, types.FunctionType) or _submit.__globals__ is not vars(thread):
    _submit = None

_executors: "weakref.WeakSet[ThreadPool]" = weakref.WeakSet()


class ThreadPool(ThreadPoolExecutor):
    """A ThreadPoolExecutor with a native queue."""

    _threads: "set[threading.Thread]"
    _work_queue: "Any"

    def __init__(self, max_workers: "int | None" = None, thread_name_prefix: str = "") -> None:
        super().__init__(max_workers, thread_name_prefix)
        self._work_queue = _aioxide._JobQueue(self._max_workers, type(self), _submit)
        _executors.add(self)

    def _begin_thread(self) -> None:
        """Start one more thread, before a call of the loop that would have to wait without it."""
        with self._shutdown_lock, thread._global_shutdown_lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if thread._shutdown:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            self._add_thread()

    def _adjust_thread_count(self) -> None:
        # submit() calls this, holding both locks, after it has put its item.
        if self._work_queue.lacks_thread():
            self._add_thread()

    def _add_thread(self) -> None:
        queue = self._work_queue

        def lost(_: object) -> None:
            # Nothing can shut the executor down any more, so its threads must check whether to end.
            queue.put(None)

        worker = threading.Thread(
            name=f"{self._thread_name_prefix}_{len(self._threads)}",
            target=queue.work,
            args=(weakref.ref(self, lost),),
        )
        worker.start()
        self._threads.add(worker)
        queue.threads = len(self._threads)
        thread._threads_queues[worker] = queue  # type: ignore[index]


def make_default() -> ThreadPool:
    """Make the executor of a loop that has none."""
    return ThreadPool(thread_name_prefix="asyncio")


def is_ending(reference: "Callable[[], Any]") -> bool:
    """Whether a thread that was told to check must end: the interpreter ends, or the thread's
    executor is shut down or gone."""
    executor = reference()
    if thread._shutdown or executor is None or executor._shutdown:
        if executor is not None:
            executor._shutdown = True
        return True
    return False


if sys.version_info >= (3, 14):
    # Work items ask it to run them. It runs no initializer.
    _context = thread.WorkerContext(int, ())

    def run_item(item: "Any") -> None:
        """Run a work item of submit()."""
        item.run(_context)

else:

    def run_item(item: "Any") -> None:
        """Run a work item of submit()."""
        item.run()


def chain(
    future: "asyncio.Future[Any]",
    result: object,
    exception: "BaseException | None",
    cancelled: bool,
) -> None:
    """Hand an outcome to a future as asyncio's wrap_future() does."""
    source: Future[Any] = Future()
    if cancelled:
        source.cancel()
        source.set_running_or_notify_cancel()
    elif exception is not None:
        source.set_exception(exception)
    else:
        source.set_result(result)
    if not future.done():
        futures._chain_future(source, future)  # type: ignore[attr-defined]


def run_in_loop(
    loop: "asyncio.AbstractEventLoop",
    context: "contextvars.Context",
    func: "Callable[..., Any]",
    args: "tuple[Any, ...]",
    kwargs: "dict[str, Any] | None",
) -> "asyncio.Future[Any]":
    """As run_in_executor() of any loop, for to_thread()."""
    call = functools.partial(context.run, func, *args, **(kwargs or {}))
    return loop.run_in_executor(None, call)


def _forget_threads() -> None:
    # The threads are the parent's.
    for executor in _executors:
        executor._threads.clear()
        executor._work_queue.forget_threads()


os.register_at_fork(after_in_child=_forget_threads)
