"""The observable state of a loop: records for comparing two loops, and the objects that are left
afterwards."""

import asyncio
import contextlib
import gc
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Self

KINDS = (
    asyncio.AbstractEventLoop,
    asyncio.AbstractServer,
    asyncio.BaseTransport,
    asyncio.Future,
    asyncio.Handle,
)


def live_objects() -> list[object]:
    """The loops, transports, servers, handles, futures and tasks that the collector knows."""
    return [item for item in gc.get_objects() if issubclass(type(item), KINDS)]


def descriptors() -> dict[int, str]:
    """The open descriptors of this process, each with its file."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            # a file that was deleted, by any code, is still behind the same descriptor
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}").removesuffix(" (deleted)")
    return {fd: name for fd, name in found.items() if not name.endswith("/fd")}


def finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels the tasks that are left on `loop`, then closes it, as asyncio.Runner does."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            # The timeout lets a test that has lost a task fail instead of hanging.
            loop.run_until_complete(asyncio.wait(left, timeout=5))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


_RULES = [
    (re.compile(r"0x[0-9a-fA-F]+"), "0x?"),
    (re.compile(r"\bTask-\d+"), "Task-?"),
    (re.compile(r"\b(fd|pid)=\d+"), r"\1=?"),
    (re.compile(r"\bdescriptor \d+"), "descriptor ?"),
    (re.compile(r"(Object created at \(most recent call last\)):\n(?:  .*\n?)*"), r"\1"),
    (re.compile(r"<(?:\w+\.)*(?:_UnixSelectorEventLoop|Loop) "), "<loop "),
    (re.compile(r"\b\d+\.\d{3,} seconds"), "? seconds"),
    (re.compile(r"\b(?:aioxide|_asyncio)\.(Future|Task|Handle|TimerHandle)\b"), r"\1"),
    (re.compile(r"<(?:_asyncio\.)?TaskStepMethWrapper object at 0x\?>"), "Task.task_step"),
    # the class's name, which differs by design; reprlib may have cut it short
    (re.compile(r"\b(?:_SelectorSocketTransport|StreamTransport)\b"), "Transport"),
    (re.compile(r"\b(?:_Unix|Base)?(Subprocess|ReadPipe|WritePipe)Transport\b"), r"\1"),
    (re.compile(r"\b_?(?:Selector)?DatagramTransport\b"), "DatagramTransport"),
    (re.compile(r"<(?:_SelectorSoc|StreamTransp)\.\.\."), "<Transport..."),
    # a native loop has no Python frame of its own to name
    (re.compile(r" created at [^<>\s]+:\d+"), " created at ?"),
    (re.compile(r"/\d+\.sock\b"), "/?.sock"),
    (re.compile(r"'127\.0\.0\.1', \d+"), "'127.0.0.1', ?"),
    (re.compile(r"when=\d+(\.\d+)?"), "when=?"),
]


def plain(value: Any) -> Any:
    """`value` in a form that compares equal across two runs and two implementations."""
    if isinstance(value, BaseException):
        return (type(value).__name__, *(plain(arg) for arg in value.args))
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    if isinstance(value, (set, frozenset)):
        return tuple(sorted((plain(item) for item in value), key=repr))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if value is None or isinstance(value, (bool, int, float, bytes)):
        return value
    if isinstance(value, type):
        return value.__name__
    text = value if isinstance(value, str) else repr(value)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


class Case:
    """One run of a scenario: the module under test, a loop of it, and the record.

    The record also has the reports to the exception handler, the warnings and the messages of
    asyncio's logger.
    """

    def __init__(self, aio: ModuleType, debug: bool) -> None:
        self.aio = aio
        self.records: list[Any] = []
        self.loop: Any = aio.new_event_loop()
        self.loop.set_debug(debug)
        # On a busy machine any callback can be slow; a test of slow callbacks sets its own limit.
        self.loop.slow_callback_duration = 600
        self.loop.set_exception_handler(self.report)
        self._stack = contextlib.ExitStack()

    def record(self, *values: object) -> None:
        self.records.append(plain(values))

    def report(self, loop: object, report: dict[str, Any]) -> None:
        """The loop's exception handler."""
        keys = sorted(set(report) - {"source_traceback"})
        self.record("report", report["message"], report.get("exception"), keys)

    @contextlib.contextmanager
    def catch(self, what: object = "raised", text: bool = True) -> Iterator[None]:
        """Records the exception that ends the block, or that none did.

        Without `text` it records the type alone: CPython words wrong arguments differently for
        functions in C and in Python.
        """
        try:
            yield
        except BaseException as error:
            self.record(what, error if text else type(error))
        else:
            self.record(what, None)

    def __enter__(self) -> Self:
        self._stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("always")
        warnings.showwarning = self._warning
        self._stack.enter_context(Loggings(logging.WARNING, self._logged))
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if not self.loop.is_closed():
                finish(self.loop)
            self.loop = None
            if error[0] is None:
                gc.collect()
        finally:
            self._stack.close()

    def _warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        self.record("warning", category, str(message))

    def _logged(self, record: logging.LogRecord) -> None:
        self.record("log", record.levelname, record.getMessage())


class Loggings(logging.Handler):
    """Within `with`, the messages of asyncio's logger, as a list."""

    def __init__(
        self,
        level: int = logging.DEBUG,
        call: Callable[[logging.LogRecord], None] | None = None,
    ) -> None:
        super().__init__(level)
        self.messages: list[str] = []
        self.call = call

    def emit(self, record: logging.LogRecord) -> None:
        if self.call is not None:
            self.call(record)
        else:
            self.messages.append(record.getMessage())

    def __enter__(self) -> list[str]:
        logger = logging.getLogger("asyncio")
        self.old = logger.propagate, logger.level
        # a Case records the messages: the checks around it need not see them again
        self.outer = logger.handlers[:] if self.call is not None else []
        for handler in self.outer:
            logger.removeHandler(handler)
        logger.addHandler(self)
        logger.propagate = False
        return self.messages

    def __exit__(self, *error: object) -> None:
        logger = logging.getLogger("asyncio")
        logger.removeHandler(self)
        for handler in self.outer:
            logger.addHandler(handler)
        logger.propagate = self.old[0]
