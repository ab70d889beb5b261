import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, TypeAlias

from _typeshed import StrPath

from .. import _aioxide

class StreamReader(_aioxide.StreamReader, asyncio.StreamReader): ...

class StreamWriter(_aioxide.StreamWriter, asyncio.StreamWriter):
    # asyncio's own, of the running version.
    if sys.version_info >= (3, 13):
        def __del__(self, warnings: ModuleType = ...) -> None: ...  # type: ignore[override, unused-ignore]
    else:
        def __del__(self) -> None: ...

class StreamReaderProtocol(_aioxide.StreamReaderProtocol, asyncio.StreamReaderProtocol): ...

PAIRS: list[tuple[object, object]]

_ClientConnected: TypeAlias = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]

async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = 65536,
    **kwds: Any,
) -> tuple[StreamReader, StreamWriter]: ...
async def start_server(
    client_connected_cb: _ClientConnected,
    host: str | list[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = 65536,
    **kwds: Any,
) -> asyncio.Server: ...
async def open_unix_connection(
    path: StrPath | None = None, *, limit: int = 65536, **kwds: Any
) -> tuple[StreamReader, StreamWriter]: ...
async def start_unix_server(
    client_connected_cb: _ClientConnected,
    path: StrPath | None = None,
    *,
    limit: int = 65536,
    **kwds: Any,
) -> asyncio.Server: ...
