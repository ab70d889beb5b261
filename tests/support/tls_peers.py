"""The other end of a TLS connection, and certificates for both, made for this run."""

import asyncio
import contextlib
import ctypes
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import trustme
from peers import Journal, socket_pair

HOST = "localhost"


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def certificate(name: str = HOST) -> trustme.LeafCert:
    """A certificate for `name`, of the authority that `client_context()` trusts."""
    return _authority().issue_cert(name)


def server_context(
    version: str | None = None, name: str = HOST, ask_client: bool = False
) -> ssl.SSLContext:
    """A server's context. If told to, it asks for a client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(name).configure_cert(context)
    if ask_client:
        _authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return _limited(context, version)


def client_context(
    version: str | None = None, trust: bool = True, name: str | None = None
) -> ssl.SSLContext:
    """A client's context. It shows the certificate of `name`, if one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust:
        _authority().configure_trust(context)
    if name is not None:
        certificate(name).configure_cert(context)
    return _limited(context, version)


def _limited(context: ssl.SSLContext, version: str | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    return context


class Peer:
    """TLS over a plain non-blocking socket, without any loop's help."""

    def __init__(
        self,
        sock: socket.socket,
        server_side: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.context = context or (server_context() if server_side else client_context())
        self.object = self.context.wrap_bio(
            self.incoming, self.outgoing, server_side, None if server_side else HOST
        )
        self.ended = False

    async def flush(self) -> None:
        data = self.outgoing.read()
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def fetch(self, size: int = 65536) -> int:
        """Receives what has arrived on the socket, at least a byte; ConnectionError at its end."""
        while True:
            try:
                data = self.sock.recv(size)
            except BlockingIOError:
                await asyncio.sleep(0.001)
                continue
            if not data:
                self.ended = True
                self.incoming.write_eof()
                raise ConnectionError("the socket is at its end")
            return self.incoming.write(data)

    async def do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """`call(*arguments)`, repeated as long as it wants more from the other side."""
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                await self.flush()
                await self.fetch()
            except ssl.SSLError:
                await self.flush()  # the alert
                raise
            else:
                await self.flush()
                return result

    async def handshake(self) -> None:
        await self.do(self.object.do_handshake)

    async def send(self, data: bytes) -> None:
        await self.do(self.object.write, data)

    async def receive(self, count: int | None = None) -> bytes:
        """`count` plain bytes, or all of them up to close_notify or the end of the socket."""
        data = bytearray()
        while count is None or len(data) < count:
            try:
                chunk = await self.do(self.object.read, (count and count - len(data)) or 65536)
            except (ConnectionError, ssl.SSLError):
                break
            if not chunk:
                break
            data += chunk
        return bytes(data)

    async def unwrap(self) -> None:
        """Sends close_notify and waits for the other side's."""
        await self.do(self.object.unwrap)

    def _openssl(self, function: str, *arguments: int) -> Any:
        """Calls a function of OpenSSL that the ssl module does not have, with the SSL pointer."""
        import _ssl

        # an SSLSocket in C begins with the object's header, a weak reference and the pointer
        session = self.object._sslobj  # type: ignore[attr-defined]
        address = id(session) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        pointer = ctypes.c_void_p.from_address(address)
        return getattr(ctypes.CDLL(_ssl.__file__), function)(pointer, *arguments)

    def update_keys(self) -> None:
        """Asks for new keys on both sides with the next record (TLS 1.3)."""
        assert self._openssl("SSL_key_update", 1) == 1

    def renegotiate(self) -> None:
        """Asks for a new handshake with the next record (TLS 1.2)."""
        assert self._openssl("SSL_renegotiate") == 1


@contextlib.asynccontextmanager
async def encrypted(
    family: str = "tcp",
    make: Callable[[], Any] = Journal,
    server_side: bool = False,
    context: ssl.SSLContext | None = None,
    peer_context: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Any, Any, Peer]]:
    """A TLS transport with a protocol on one end, a Peer after its handshake on the other."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair(family)
    with theirs:
        peer = Peer(theirs, not server_side, peer_context)
        shaking = loop.create_task(peer.handshake())
        if server_side:
            connecting = loop.connect_accepted_socket(
                make, ours, ssl=context or server_context(), **options
            )
        else:
            connect = loop.create_unix_connection if family == "unix" else loop.create_connection
            connecting = connect(
                make, sock=ours, ssl=context or client_context(), server_hostname=HOST, **options
            )
        try:
            transport, protocol = await connecting
        except BaseException:
            shaking.cancel()
            await asyncio.wait([shaking])
            shaking.cancelled() or shaking.exception()
            raise
        await shaking
        try:
            yield transport, protocol, peer
        finally:
            transport.abort()
            if protocol is not None and protocol.transport is not None:
                await protocol.lost
            await asyncio.sleep(0.001)
