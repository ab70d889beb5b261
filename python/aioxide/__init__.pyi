import asyncio
import sys
from asyncio import ALL_COMPLETED as ALL_COMPLETED
from asyncio import FIRST_COMPLETED as FIRST_COMPLETED
from asyncio import FIRST_EXCEPTION as FIRST_EXCEPTION
from asyncio import AbstractEventLoop as AbstractEventLoop
from asyncio import AbstractServer as AbstractServer
from asyncio import BaseEventLoop as BaseEventLoop
from asyncio import BaseProtocol as BaseProtocol
from asyncio import BaseTransport as BaseTransport
from asyncio import BrokenBarrierError as BrokenBarrierError
from asyncio import BufferedProtocol as BufferedProtocol
from asyncio import CancelledError as CancelledError
from asyncio import DatagramProtocol as DatagramProtocol
from asyncio import DatagramTransport as DatagramTransport
from asyncio import IncompleteReadError as IncompleteReadError
from asyncio import InvalidStateError as InvalidStateError
from asyncio import LimitOverrunError as LimitOverrunError
from asyncio import Protocol as Protocol
from asyncio import QueueEmpty as QueueEmpty
from asyncio import QueueFull as QueueFull
from asyncio import ReadTransport as ReadTransport
from asyncio import Runner as Runner
from asyncio import SendfileNotAvailableError as SendfileNotAvailableError
from asyncio import Server as Server
from asyncio import SubprocessProtocol as SubprocessProtocol
from asyncio import SubprocessTransport as SubprocessTransport
from asyncio import Timeout as Timeout
from asyncio import TimeoutError as TimeoutError  # noqa: A004 (asyncio's name)
from asyncio import Transport as Transport
from asyncio import WriteTransport as WriteTransport
from asyncio import _enter_task as _enter_task
from asyncio import _get_running_loop as _get_running_loop
from asyncio import _leave_task as _leave_task
from asyncio import _register_task as _register_task
from asyncio import _set_running_loop as _set_running_loop
from asyncio import _unregister_task as _unregister_task
from asyncio import as_completed as as_completed
from asyncio import create_subprocess_exec as create_subprocess_exec
from asyncio import create_subprocess_shell as create_subprocess_shell
from asyncio import gather as gather
from asyncio import get_event_loop as get_event_loop
from asyncio import get_event_loop_policy as get_event_loop_policy
from asyncio import get_running_loop as get_running_loop
from asyncio import iscoroutinefunction as iscoroutinefunction
from asyncio import isfuture as isfuture
from asyncio import set_event_loop as set_event_loop
from asyncio import set_event_loop_policy as set_event_loop_policy
from asyncio import shield as shield
from asyncio import timeout as timeout
from asyncio import timeout_at as timeout_at
from asyncio import wait as wait
from asyncio import wait_for as wait_for
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from . import threads as threads
from ._aioxide import Barrier as Barrier
from ._aioxide import BoundedSemaphore as BoundedSemaphore
from ._aioxide import Condition as Condition
from ._aioxide import Event as Event
from ._aioxide import Future as Future
from ._aioxide import Handle as Handle
from ._aioxide import LifoQueue as LifoQueue
from ._aioxide import Lock as Lock
from ._aioxide import PriorityQueue as PriorityQueue
from ._aioxide import Queue as Queue
from ._aioxide import Semaphore as Semaphore
from ._aioxide import Task as Task
from ._aioxide import TimerHandle as TimerHandle
from ._aioxide import all_tasks as all_tasks
from ._aioxide import create_task as create_task
from ._aioxide import current_task as current_task
from ._aioxide import ensure_future as ensure_future
from ._aioxide import iscoroutine as iscoroutine
from ._aioxide import sleep as sleep
from ._aioxide import to_thread as to_thread
from ._cold.futures import run_coroutine_threadsafe as run_coroutine_threadsafe
from ._cold.futures import wrap_future as wrap_future
from ._cold.loop import Loop as Loop
from ._cold.loop import Loop as SelectorEventLoop
from ._cold.streams import StreamReader as StreamReader
from ._cold.streams import StreamReaderProtocol as StreamReaderProtocol
from ._cold.streams import StreamWriter as StreamWriter
from ._cold.streams import open_connection as open_connection
from ._cold.streams import open_unix_connection as open_unix_connection
from ._cold.streams import start_server as start_server
from ._cold.streams import start_unix_server as start_unix_server
from ._ways_in.install import install as install
from ._ways_in.install import uninstall as uninstall
from ._ways_in.policy import EventLoopPolicy as EventLoopPolicy
from .threads._running import run_in_threads as run_in_threads

__all__: tuple[str, ...] = (
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
__all__ += (
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "AbstractEventLoop",
    "AbstractServer",
    "BaseEventLoop",
    "BaseProtocol",
    "BaseTransport",
    "BrokenBarrierError",
    "BufferedProtocol",
    "CancelledError",
    "DatagramProtocol",
    "DatagramTransport",
    "IncompleteReadError",
    "InvalidStateError",
    "LimitOverrunError",
    "Protocol",
    "QueueEmpty",
    "QueueFull",
    "ReadTransport",
    "Runner",
    "SelectorEventLoop",
    "SendfileNotAvailableError",
    "Server",
    "SubprocessProtocol",
    "SubprocessTransport",
    "Timeout",
    "TimeoutError",
    "Transport",
    "WriteTransport",
    "_enter_task",
    "_get_running_loop",
    "_leave_task",
    "_register_task",
    "_set_running_loop",
    "_unregister_task",
    "as_completed",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "gather",
    "get_event_loop",
    "get_event_loop_policy",
    "get_running_loop",
    "iscoroutinefunction",
    "isfuture",
    "set_event_loop",
    "set_event_loop_policy",
    "shield",
    "timeout",
    "timeout_at",
    "wait",
    "wait_for",
)

if sys.version_info >= (3, 12):
    from asyncio import TaskGroup as TaskGroup
    from asyncio import create_eager_task_factory as create_eager_task_factory
    from asyncio import eager_task_factory as eager_task_factory

    __all__ += (
        "TaskGroup",
        "create_eager_task_factory",
        "eager_task_factory",
    )

if sys.version_info >= (3, 13):
    from asyncio import QueueShutDown as QueueShutDown

    from ._cold.loop import Loop as EventLoop

    __all__ += (
        "EventLoop",
        "QueueShutDown",
    )

if sys.version_info >= (3, 14):
    from asyncio import FrameCallGraphEntry as FrameCallGraphEntry
    from asyncio import FutureCallGraph as FutureCallGraph
    from asyncio import capture_call_graph as capture_call_graph
    from asyncio import format_call_graph as format_call_graph
    from asyncio import future_add_to_awaited_by as future_add_to_awaited_by
    from asyncio import future_discard_from_awaited_by as future_discard_from_awaited_by
    from asyncio import print_call_graph as print_call_graph

    __all__ += (
        "FrameCallGraphEntry",
        "FutureCallGraph",
        "capture_call_graph",
        "format_call_graph",
        "future_add_to_awaited_by",
        "future_discard_from_awaited_by",
        "print_call_graph",
    )

if sys.version_info < (3, 14):
    from asyncio import AbstractChildWatcher as AbstractChildWatcher
    from asyncio import AbstractEventLoopPolicy as AbstractEventLoopPolicy
    from asyncio import DefaultEventLoopPolicy as DefaultEventLoopPolicy
    from asyncio import FastChildWatcher as FastChildWatcher
    from asyncio import MultiLoopChildWatcher as MultiLoopChildWatcher
    from asyncio import PidfdChildWatcher as PidfdChildWatcher
    from asyncio import SafeChildWatcher as SafeChildWatcher
    from asyncio import ThreadedChildWatcher as ThreadedChildWatcher
    from asyncio import get_child_watcher as get_child_watcher
    from asyncio import set_child_watcher as set_child_watcher

    __all__ += (
        "AbstractChildWatcher",
        "AbstractEventLoopPolicy",
        "DefaultEventLoopPolicy",
        "FastChildWatcher",
        "MultiLoopChildWatcher",
        "PidfdChildWatcher",
        "SafeChildWatcher",
        "ThreadedChildWatcher",
        "get_child_watcher",
        "set_child_watcher",
    )

_T = TypeVar("_T")

__version__: str

def new_event_loop() -> Loop: ...
def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T: ...
