"""TLS: the native protocol and transport as subclasses of asyncio's, and start_tls().

All their methods are native. asyncio's classes are among the bases because programs test for them,
mostly in exception handlers: isinstance(report["protocol"], sslproto.SSLProtocol).
"""

import ssl
from asyncio import sslproto, streams

from .. import _aioxide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SSLProtocol(_aioxide.SSLProtocol, sslproto.SSLProtocol):
    """Encrypts and decrypts between the transport below and the program's protocol."""

    __slots__ = ()


class _SSLProtocolTransport(_aioxide._SSLProtocolTransport, sslproto._SSLProtocolTransport):
    """The transport that the program writes to. The encrypted bytes leave through the transport
    below."""

    __slots__ = ()


SSLProtocol.__module__ = _SSLProtocolTransport.__module__ = "aioxide"


async def start_tls(
    loop: "Any",
    transport: "Any",
    protocol: "Any",
    context: ssl.SSLContext,
    server_side: bool,
    **options: "Any",
) -> "Any":
    """Put TLS between an open transport and a protocol; return the transport above TLS."""
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {context!r}"
        )
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    waiter = loop.create_future()
    tls = SSLProtocol(
        loop, protocol, context, waiter, server_side, call_connection_made=False, **options
    )
    # No bytes may come in before the transport below has been introduced.
    transport.pause_reading()
    if server_side:
        _take_over(protocol, tls)
    transport.set_protocol(tls)
    callbacks = (
        loop.call_soon(tls.connection_made, transport),
        loop.call_soon(transport.resume_reading),
    )
    try:
        await waiter
    except BaseException:
        transport.close()
        for callback in callbacks:
            callback.cancel()
        # The exception holds this frame, and the future holds the exception.
        waiter = None
        raise
    return tls._app_transport


def _take_over(protocol: "Any", tls: "Any") -> None:
    """Give the bytes that a StreamReader has received but not returned yet to the handshake."""
    if isinstance(protocol, streams.StreamReaderProtocol):
        reader = getattr(protocol, "_stream_reader", None)
        if reader is not None and reader._buffer:
            tls._feed(reader._buffer)
            reader._buffer.clear()
