"""The classes of streams: the code that handles bytes is native, connecting and closing are
asyncio's own.

Each derives from a native class and from asyncio's of the running version, in this order.
"""

import asyncio
import types
from asyncio import streams as _streams

from .. import _aioxide

_LIMIT = _streams._DEFAULT_LIMIT


class StreamReader(_aioxide.StreamReader, _streams.StreamReader):
    """Bytes that come in, for coroutines to read."""

    __module__ = "aioxide"


class StreamWriter(_aioxide.StreamWriter, _streams.StreamWriter):
    """Bytes that go out through a transport."""

    __module__ = "aioxide"

    __del__ = _streams.StreamWriter.__del__


class StreamReaderProtocol(_aioxide.StreamReaderProtocol, _streams.StreamReaderProtocol):
    """The protocol between a transport and a StreamReader."""

    __module__ = "aioxide"

    # This is asyncio's code. It makes a writer of the class that it finds among its globals.
    connection_made = types.FunctionType(
        _streams.StreamReaderProtocol.connection_made.__code__,
        {**vars(_streams), "StreamWriter": StreamWriter},
    )

    __del__ = _streams.StreamReaderProtocol.__del__


for _class in StreamReader, StreamWriter, StreamReaderProtocol:
    _aioxide._keep_class(_class)


async def open_connection(host=None, port=None, *, limit=_LIMIT, **kwds):
    """Connect to a host; return a StreamReader and a StreamWriter.

    `limit` is the reader's, in bytes. Other arguments go to loop.create_connection().
    """
    loop = asyncio.get_running_loop()
    reader, protocol = _client(loop, limit)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(client_connected_cb, host=None, port=None, *, limit=_LIMIT, **kwds):
    """Listen; for each connection call client_connected_cb(reader, writer), function or coroutine.

    `limit` is the readers', in bytes. Other arguments go to loop.create_server(), whose server is
    returned.
    """
    loop = asyncio.get_running_loop()
    factory = _protocol_factory(loop, client_connected_cb, limit)
    return await loop.create_server(factory, host, port, **kwds)


async def open_unix_connection(path=None, *, limit=_LIMIT, **kwds):
    """As open_connection(), to a Unix socket."""
    loop = asyncio.get_running_loop()
    reader, protocol = _client(loop, limit)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(client_connected_cb, path=None, *, limit=_LIMIT, **kwds):
    """As start_server(), on a Unix socket."""
    loop = asyncio.get_running_loop()
    factory = _protocol_factory(loop, client_connected_cb, limit)
    return await loop.create_unix_server(factory, path, **kwds)


def _client(loop, limit):
    reader = StreamReader(limit=limit, loop=loop)
    return reader, StreamReaderProtocol(reader, loop=loop)


def _protocol_factory(loop, client_connected_cb, limit):
    def factory():
        reader = StreamReader(limit=limit, loop=loop)
        return StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return factory


_NAMES = (
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
)

# Pairs of asyncio's objects, as they were when this module was imported, and ours.
PAIRS = [(vars(_streams)[name], globals()[name]) for name in _NAMES if name in vars(_streams)]

for _, _function in PAIRS[3:]:
    _function.__module__ = "aioxide"
