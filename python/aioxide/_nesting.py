"""Loops that run again while they run, for programs that have called nest_asyncio.apply().

nest_asyncio, and nest_asyncio2 that has taken its place, give the class of a loop other methods,
written for the queue and the heap of asyncio's own loop. Before that they look for the mark that
they leave, `_nest_patched`; the loop gives it (see `Loop._nest_patched`), and gets the methods
below in place of theirs.

A run inside another goes on with the same queue, iteration by iteration, until its own future is
done. Whose callback or step called it must not run meanwhile: its task is no longer the current one.
"""

import asyncio
import contextlib
import sys
import threading
from asyncio import events, futures, tasks


def allow(loop_class):
    """Let loops of this class run while they, or others, run in the same thread."""
    if loop_class._check_running is _check_thread:
        return
    run_forever, run_until_complete = loop_class.run_forever, loop_class.run_until_complete

    def nested_run_forever(self):
        with _room_for_another_run(self) as is_running:
            if not is_running:
                return run_forever(self)
            self._run_once()
            while not self._stopping:
                self._run_once()
            self._stopping = False

    def nested_run_until_complete(self, future):
        with _room_for_another_run(self) as is_running:
            if not is_running:
                return run_until_complete(self, future)
            self._check_closed()
            is_new = not futures.isfuture(future)
            future = tasks.ensure_future(future, loop=self)
            if is_new:
                # Its failure is raised here, also where the loop is stopped before.
                future._log_destroy_pending = False
            while not future.done():
                self._run_once()
                if self._stopping:
                    # Who stops the loop stops the runs outside of this one too.
                    break
            if not future.done():
                raise RuntimeError("Event loop stopped before Future completed.")
            return future.result()

    loop_class.run_forever = nested_run_forever
    loop_class.run_until_complete = nested_run_until_complete
    loop_class._check_running = _check_thread


def is_wanted():
    """Whether nest_asyncio.apply() has been called."""
    return hasattr(asyncio, "_nest_patched")


def _check_thread(self):
    if self._thread_id not in (None, threading.get_ident()):
        raise RuntimeError("This event loop is already running")


@contextlib.contextmanager
def _room_for_another_run(loop):
    """Who runs now pauses. Gives whether `loop` runs already."""
    _check_thread(loop)
    is_running = loop.is_running()
    running = events._get_running_loop()
    task = tasks.current_task(running) if running is not None else None
    hooks = sys.get_asyncgen_hooks()
    if task is not None:
        tasks._leave_task(running, task)
    # nest_asyncio has Tasks in Python made, whose books are others from 3.14 on.
    python_task = tasks._current_tasks.pop(running, None)
    if running is not loop:
        events._set_running_loop(None)
    try:
        yield is_running
    finally:
        sys.set_asyncgen_hooks(*hooks)
        events._set_running_loop(running)
        if task is not None:
            tasks._enter_task(running, task)
        if python_task is not None:
            tasks._current_tasks[running] = python_task
