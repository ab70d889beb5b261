"""TLS: the native protocol and transport as subclasses of asyncio's, and start_tls().

Both are native through and through. asyncio's classes are among their bases because programs ask
for them, in exception handlers mostly: isinstance(report["protocol"], sslproto.SSLProtocol).
"""

import ssl
from asyncio import sslproto, streams

from . import _aioxide


class SSLProtocol(_aioxide.SSLProtocol, sslproto.SSLProtocol):
    """Encrypts and decrypts between the transport below and the program's protocol."""

    __slots__ = ()


class _SSLProtocolTransport(_aioxide._SSLProtocolTransport, sslproto._SSLProtocolTransport):
    """What the program writes to; the encrypted bytes leave through the transport below."""

    __slots__ = ()


SSLProtocol.__module__ = _SSLProtocolTransport.__module__ = "aioxide"


async def start_tls(loop, transport, protocol, context, server_side, **options):
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
    # Nothing may come in before the transport below has been introduced.
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


def _take_over(protocol, tls):
    """What a StreamReader has read but not handed out yet belongs to the handshake."""
    if isinstance(protocol, streams.StreamReaderProtocol):
        reader = getattr(protocol, "_stream_reader", None)
        if reader is not None and reader._buffer:
            tls._feed(reader._buffer)
            reader._buffer.clear()
