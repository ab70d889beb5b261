"""Datagram endpoints for the tests: a protocol that keeps a journal, and plain sockets."""

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import peers


class Journal(peers.Notes, asyncio.DatagramProtocol):
    """As the Journal of streams: writes down every call."""

    def __init__(self, record: Callable[..., object] | None = None) -> None:
        super().__init__(record)
        self.received: list[tuple[bytes, Any]] = []

    def datagram_received(self, data: bytes, address: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, address))
        self.note("datagram_received", data)

    def error_received(self, error: Exception) -> None:
        self.note("error_received", type(error).__name__, getattr(error, "errno", None))


@contextlib.asynccontextmanager
async def endpoint(
    make: Callable[[], Any] = Journal, **options: Any
) -> AsyncIterator[tuple[asyncio.DatagramTransport, Any]]:
    loop = asyncio.get_running_loop()
    if not {"sock", "remote_addr", "local_addr"} & set(options):
        options["local_addr"] = ("127.0.0.1", 0)
    transport, protocol = await loop.create_datagram_endpoint(make, **options)
    try:
        yield transport, protocol
    finally:
        if transport.get_protocol() is not None:
            transport.abort()
            await protocol.lost
        await asyncio.sleep(0)


def udp_socket(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(10)
    return sock


def unix_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def named_pair(folder: pathlib.Path, name: str) -> tuple[socket.socket, socket.socket]:
    """Two Unix sockets with paths, the first connected to the second."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    for sock, end in (ours, "ours"), (theirs, "theirs"):
        sock.setblocking(False)
        sock.bind(str(folder / f"{name}-{end}"))
    ours.connect(theirs.getsockname())
    return ours, theirs
