import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

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
from ._aioxide import sleep as sleep
from ._install import install as install
from ._install import uninstall as uninstall
from ._loop import Loop as Loop
from ._policy import EventLoopPolicy as EventLoopPolicy

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
    "Task",
    "TimerHandle",
    "__version__",
    "all_tasks",
    "create_task",
    "current_task",
    "install",
    "new_event_loop",
    "run",
    "sleep",
    "uninstall",
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
