"""Threads and tasks that wait before a queue of aioxide.threads."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable
from typing import Any


class Caller(threading.Thread):
    """A thread that makes one call, and what comes of it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        super().__init__()
        self.call = function, arguments
        self.result: Any = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        function, arguments = self.call
        del self.call
        try:
            self.result = function(*arguments)
        except Exception as error:
            self.error = error

    def end(self) -> Any:
        """The result of the call, or its exception."""
        self.join(20)
        assert not self.is_alive(), "the thread hangs"
        try:
            if self.error is not None:
                raise self.error
            return self.result
        finally:
            self.error = None


def waiting(queue: Any) -> tuple[int, int, int]:
    """How many wait to get, to put and to join."""
    exchange = queue._exchange
    getters, putters, joiners = exchange.getters, exchange.putters, exchange.joiners
    return len(getters.waiting), len(putters.waiting), len(joiners.waiting)


def wait_for_waiters(queue: Any, *expected: int) -> None:
    """Waits until that many wait to get, to put and to join."""
    while waiting(queue) != expected:
        time.sleep(0.001)


async def ended(task: "asyncio.Future[Any]") -> Any:
    """What a task has ended with."""
    with contextlib.suppress(asyncio.CancelledError):
        return await task
    return "cancelled"


def drop(tasks: list[Any]) -> None:
    """Lets go of pending tasks without a report."""
    for task in tasks:
        task._log_destroy_pending = False
    tasks.clear()
    gc.collect()
