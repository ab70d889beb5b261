"""The default executor: a ThreadPoolExecutor whose threads run a native loop.

Its interface, its shutdown and its end with the interpreter are `concurrent.futures`' own. Calls of
the loop go straight into the native queue; those of a program that calls `submit()` come as the
work items of the running version, and are run as it runs them.
"""

import functools
import os
import sys
import threading
import types
import weakref
from asyncio import futures
from concurrent.futures import Future, ThreadPoolExecutor, thread

from . import _aioxide

# A tool that wants to see each submit() puts its own in the class's place: then it sees each.
_submit: object = ThreadPoolExecutor.submit
if not isinstance(_submit, types.FunctionType) or _submit.__globals__ is not vars(thread):
    _submit = None

_executors: weakref.WeakSet = weakref.WeakSet()


class ThreadPool(ThreadPoolExecutor):
    """A ThreadPoolExecutor with a native queue."""

    def __init__(self, max_workers=None, thread_name_prefix=""):
        super().__init__(max_workers, thread_name_prefix)
        self._work_queue = _aioxide._JobQueue(self._max_workers, type(self), _submit)
        _executors.add(self)

    def _begin_thread(self):
        """One more thread, before a call of the loop that would have to wait without it."""
        with self._shutdown_lock, thread._global_shutdown_lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if thread._shutdown:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            self._add_thread()

    def _adjust_thread_count(self):
        # What submit() calls, with both locks, when it has put its item.
        if self._work_queue.lacks_thread():
            self._add_thread()

    def _add_thread(self):
        queue = self._work_queue

        def lost(_):
            # Nobody can shut the executor down any more; its threads look whether to end.
            queue.put(None)

        worker = threading.Thread(
            name=f"{self._thread_name_prefix}_{len(self._threads)}",
            target=queue.work,
            args=(weakref.ref(self, lost),),
        )
        worker.start()
        self._threads.add(worker)
        queue.threads = len(self._threads)
        thread._threads_queues[worker] = queue


def make_default():
    """What a loop without an executor makes for itself."""
    return ThreadPool(thread_name_prefix="asyncio")


def is_ending(reference):
    """Whether a thread that was told to look is to end: the interpreter does, or its executor is
    shut down or gone."""
    executor = reference()
    if thread._shutdown or executor is None or executor._shutdown:
        if executor is not None:
            executor._shutdown = True
        return True
    return False


if sys.version_info >= (3, 14):
    # What work items ask to run them; it has nothing to begin with.
    _context = thread.WorkerContext(int, ())

    def run_item(item):
        """Run a work item of submit()."""
        item.run(_context)

else:

    def run_item(item):
        """Run a work item of submit()."""
        item.run()


def chain(future, result, exception, cancelled):
    """Hand an outcome to a future in the way of asyncio's wrap_future()."""
    source = Future()
    if cancelled:
        source.cancel()
        source.set_running_or_notify_cancel()
    elif exception is not None:
        source.set_exception(exception)
    else:
        source.set_result(result)
    if not future.done():
        futures._chain_future(source, future)


def run_in_loop(loop, context, func, args, kwargs):
    """run_in_executor() of any loop, for to_thread()."""
    call = functools.partial(context.run, func, *args, **(kwargs or {}))
    return loop.run_in_executor(None, call)


def _forget_threads():
    # They are the parent's.
    for executor in _executors:
        executor._threads.clear()
        executor._work_queue.forget_threads()


os.register_at_fork(after_in_child=_forget_threads)
