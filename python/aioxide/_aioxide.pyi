import asyncio

# Other classes than asyncio's, and used as those are.
from asyncio import Barrier as Barrier
from asyncio import BoundedSemaphore as BoundedSemaphore
from asyncio import Condition as Condition
from asyncio import Event as Event
from asyncio import LifoQueue as LifoQueue
from asyncio import Lock as Lock
from asyncio import PriorityQueue as PriorityQueue
from asyncio import Queue as Queue
from asyncio import Semaphore as Semaphore
from asyncio.transports import _FlowControlMixin
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVar, final, overload

from typing_extensions import disjoint_base

_T = TypeVar("_T")
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

# A native function that is a coroutine function to all who ask, but no types.FunctionType.
class _Sleep(Protocol):
    @overload
    async def __call__(self, delay: float) -> None: ...
    @overload
    async def __call__(self, delay: float, result: _T) -> _T: ...

sleep: _Sleep

def create_task(
    coro: Coroutine[Any, Any, _T],
    *,
    name: str | None = None,
    context: Context | None = None,
    **kwargs: Any,
) -> asyncio.Task[_T]: ...
def current_task(loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Task[object] | None: ...
def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[object]]: ...
