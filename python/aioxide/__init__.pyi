import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ._aioxide import Future as Future
from ._aioxide import Handle as Handle
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
from ._streams import StreamReader as StreamReader
from ._streams import StreamReaderProtocol as StreamReaderProtocol
from ._streams import StreamWriter as StreamWriter
from ._streams import open_connection as open_connection
from ._streams import open_unix_connection as open_unix_connection
from ._streams import start_server as start_server
from ._streams import start_unix_server as start_unix_server

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

_T = TypeVar("_T")

__version__: str

def new_event_loop() -> Loop: ...
def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T: ...
