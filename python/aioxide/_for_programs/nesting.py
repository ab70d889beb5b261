"""Loops that run again while they run, for programs that have called nest_asyncio.apply().

nest_asyncio, and its successor nest_asyncio2, give the class of a loop other methods, written for
the queue and the heap of asyncio's own loop. Before that they look for the mark that they leave,
`_nest_patched`. The loop has it (see `Loop._nest_patched`), and gets the methods below in place of
theirs.

An inner run goes on with the same queue, iteration by iteration, until its own future is done. The
callback or step that called it must not run meanwhile: its task is no longer the current one.
"""

import asyncio
import contextlib
import sys
import threading
from asyncio import events, futures, tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def allow(loop_class: "Any") -> None:
    """Let loops of this class run while they, or others, run in the same thread."""
    if loop_class._check_running is _check_thread:
        return
    run_forever, run_until_complete = loop_class.run_forever, loop_class.run_until_complete

    def nested_run_forever(self: "Any") -> None:
        with _room_for_another_run(self) as is_running:
            if not is_running:
                run_forever(self)
                return
            self._run_once()
            while not self._stopping:
                self._run_once()
            self._stopping = False

    def nested_run_until_complete(self: "Any", future: "Any") -> "Any":
        with _room_for_another_run(self) as is_running:
            if not is_running:
                return run_until_complete(self, future)
            self._check_closed()
            is_new = not futures.isfuture(future)
            future = tasks.ensure_future(future, loop=self)
            if is_new:
                # The failure of the future is raised here, also where the loop is stopped before.
                future._log_destroy_pending = False
            while not future.done():
                self._run_once()
                if self._stopping:
                    # Stopping the loop stops the outer runs too.
                    break
            if not future.done():
                raise RuntimeError("Event loop stopped before Future completed.")
            return future.result()

    loop_class.run_forever = nested_run_forever
    loop_class.run_until_complete = nested_run_until_complete
    loop_class._check_running = _check_thread


def is_wanted() -> bool:
    """Whether nest_asyncio.apply() has been called."""
    return hasattr(asyncio, "_nest_patched")


def _check_thread(self: "Any") -> None:
    if self._thread_id not in (None, threading.get_ident()):
        raise RuntimeError("This event loop is already running")


@contextlib.contextmanager
def _room_for_another_run(loop: "Any") -> "Iterator[bool]":
    """Pause the running loop and its task. Yields whether `loop` runs already."""
    _check_thread(loop)
    is_running = loop.is_running()
    running: Any = events._get_running_loop()
    task = tasks.current_task(running) if running is not None else None
    hooks = sys.get_asyncgen_hooks()
    if task is not None:
        tasks._leave_task(running, task)
    # nest_asyncio makes asyncio use Tasks in Python, which since 3.14 are registered elsewhere.
    python_task = tasks._current_tasks.pop(running, None)  # type: ignore[attr-defined]
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
            tasks._current_tasks[running] = python_task  # type: ignore[attr-defined]
