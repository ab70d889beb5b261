import asyncio

# Other classes and functions than asyncio's, and used as those are.
from asyncio import Barrier as Barrier
from asyncio import BoundedSemaphore as BoundedSemaphore
from asyncio import Condition as Condition
from asyncio import Event as Event
from asyncio import LifoQueue as LifoQueue
from asyncio import Lock as Lock
from asyncio import PriorityQueue as PriorityQueue
from asyncio import Queue as Queue
from asyncio import Semaphore as Semaphore
from asyncio import as_completed as as_completed
from asyncio import gather as gather
from asyncio import shield as shield
from asyncio import timeout as timeout
from asyncio import timeout_at as timeout_at
from asyncio.transports import _FlowControlMixin
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, ParamSpec, Protocol, TypeGuard, TypeVar, final, overload

from typing_extensions import disjoint_base

_T = TypeVar("_T")
_P = ParamSpec("_P")
_T_co = TypeVar("_T_co", covariant=True)

# The native part of a loop, never met alone: _loop.Loop has asyncio's class as its other base.
@disjoint_base
class EventLoop(asyncio.SelectorEventLoop): ...

@disjoint_base
class Future(asyncio.Future[_T]): ...

@disjoint_base
class Task(Future[_T_co], asyncio.Task[_T_co]): ...  # type: ignore[misc, type-var]

@disjoint_base
class Handle(asyncio.Handle): ...

@disjoint_base
class TimerHandle(asyncio.TimerHandle): ...

@disjoint_base
class StreamTransport(asyncio.Transport): ...

# Not asyncio.DatagramTransport on 3.11, where asyncio's own is a Transport alone.
@disjoint_base
class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport): ...

@disjoint_base
class ReadPipeTransport(asyncio.ReadTransport): ...

@disjoint_base
class WritePipeTransport(asyncio.Transport): ...

@final
class SubprocessTransport(asyncio.SubprocessTransport): ...

# The native parts of TLS, never met alone: the classes in _tls have asyncio's as their other bases.
@disjoint_base
class SSLProtocol(asyncio.BufferedProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def get_buffer(self, n: int) -> memoryview: ...

@disjoint_base
class _SSLProtocolTransport(_FlowControlMixin):
    def get_read_buffer_limits(self) -> tuple[int, int]: ...
    def get_read_buffer_size(self) -> int: ...
    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

# The native parts of streams, never met alone: the classes in _streams have asyncio's as their other
# bases.
@disjoint_base
class StreamReader(asyncio.StreamReader): ...

@disjoint_base
class StreamWriter(asyncio.StreamWriter):
    def __del__(self) -> None: ...  # type: ignore[override, unused-ignore]

@disjoint_base
class StreamReaderProtocol(asyncio.StreamReaderProtocol): ...

# A native function that is a coroutine function to all who ask, but no types.FunctionType.
class _Sleep(Protocol):
    @overload
    async def __call__(self, delay: float) -> None: ...
    @overload
    async def __call__(self, delay: float, result: _T) -> _T: ...

sleep: _Sleep

class _ToThread(Protocol):
    async def __call__(
        self, func: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T: ...

to_thread: _ToThread

# The calls that wait for the threads of a default executor.
@final
class _JobQueue:
    threads: int
    def __init__(self, most: int, class_: type, submit: object) -> None: ...
    def put(self, item: object, /) -> None: ...
    def get_nowait(self) -> Any: ...
    def empty(self) -> bool: ...
    def qsize(self) -> int: ...
    def work(self, executor: object, /) -> None: ...
    def lacks_thread(self) -> bool: ...
    def forget_threads(self) -> None: ...

def ensure_future(
    coro_or_future: Awaitable[_T], *, loop: asyncio.AbstractEventLoop | None = None
) -> asyncio.Future[_T]: ...
def iscoroutine(obj: object) -> TypeGuard[Coroutine[Any, Any, Any]]: ...

def create_task(
    coro: Coroutine[Any, Any, _T],
    *,
    name: str | None = None,
    context: Context | None = None,
    **kwargs: Any,
) -> asyncio.Task[_T]: ...
def current_task(loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Task[object] | None: ...
def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[object]]: ...
