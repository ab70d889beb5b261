import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")

def run_in_threads(
    main: Callable[[int], Awaitable[_T]],
    *,
    loops: int | None = None,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> list[_T]: ...
