"""The other end of a connection: plain sockets, protocols that keep a journal, child programs."""

import asyncio
import contextlib
import functools
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any, ClassVar


def socket_pair(family: str) -> tuple[socket.socket, socket.socket]:
    """Two connected stream sockets, "tcp" or "unix", both non-blocking."""
    if family == "unix":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            theirs = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def receive(peer: socket.socket | int, count: int | None = None) -> bytes:
    """`count` bytes from a plain socket or descriptor, or all of them up to the end of file."""
    read: Callable[[int], bytes] = (
        functools.partial(os.read, peer) if isinstance(peer, int) else peer.recv
    )
    data = bytearray()
    while count is None or len(data) < count:
        try:
            chunk = read(65536 if count is None else min(65536, count - len(data)))
        except BlockingIOError:
            await asyncio.sleep(0.001)
            continue
        if not chunk:
            break
        data += chunk
    return bytes(data)


async def until(condition: Callable[[], object]) -> None:
    """Waits until `condition()` holds."""
    while not condition():
        await asyncio.sleep(0.001)


async def settle() -> None:
    """Gives the loop some iterations to do what is pending; it does not depend on time alone."""
    for _ in range(5):
        await asyncio.sleep(0.001)


class Notes:
    """The part of a protocol that writes down every call and waits for the last one."""

    def __init__(self, record: Callable[..., object] | None = None) -> None:
        self.calls: list[Any] = []
        self.received: Any = bytearray()
        self.record = record
        self.transport: Any = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(self, *call: Any) -> None:
        self.calls.append(call if len(call) > 1 else call[0])
        if self.record is not None:
            self.record(*call)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.note("connection_made")

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("connection_lost", exc and type(exc).__name__)
        self.transport = None
        if not self.lost.done():
            self.lost.set_result(None)


class Journal(Notes, asyncio.Protocol):
    """A protocol that writes down every call; `data_received` calls in a row count as one."""

    def data_received(self, data: bytes) -> None:
        if not self.calls or self.calls[-1] != "data_received":
            self.note("data_received")
        assert type(data) is bytes
        self.received += data

    def eof_received(self) -> None:
        self.note("eof_received")


class Serving(Journal):
    """The server's end; keeps itself in `made`, which the fixture of that name empties."""

    made: ClassVar[list[Any]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.made.append(self)


class BufferedJournal(Notes, asyncio.BufferedProtocol):
    """Journal's counterpart for BufferedProtocol; the buffer has `size` bytes."""

    def __init__(self, record: Callable[..., object] | None = None, size: int = 1024) -> None:
        super().__init__(record)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self.calls or self.calls[-1] != "buffer_updated":
            self.note("buffer_updated")
        self.received += self.buffer[:nbytes]

    def eof_received(self) -> None:
        self.note("eof_received")


@contextlib.asynccontextmanager
async def connected(
    family: str, make: Callable[[], Any] = Journal
) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """A transport with a protocol on one end, a plain socket on the other."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair(family)
    connect = loop.create_unix_connection if family == "unix" else loop.create_connection
    with theirs:
        transport, protocol = await connect(make, sock=ours)
        try:
            yield transport, protocol, theirs
        finally:
            last: Any = transport.get_protocol()
            if last:
                transport.abort()
                await last.lost
            # the loop closes the socket in the callback that calls connection_lost
            await asyncio.sleep(0)


PRELUDE = """\
import asyncio, sys, os, signal, time
import {name} as aio
"""


def program(
    aio: ModuleType,
    text: str,
    *arguments: str,
    check: bool = True,
    interrupt_after: str | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs `text` as a program of its own with the module under test as `aio`.

    With `interrupt_after`, the child gets SIGINT as soon as it has printed that line.
    """
    source = PRELUDE.format(name=aio.__name__) + textwrap.dedent(text)
    child = subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **options.pop("env", {})},
        text=True,
        **options,
    )
    with child:
        try:
            lines = []
            if interrupt_after is not None:
                assert child.stdout is not None
                for line in child.stdout:
                    lines.append(line)
                    if line.strip() == interrupt_after:
                        child.send_signal(2)
                        break
            out, err = child.communicate(timeout=100)
        finally:
            child.kill()
    out = "".join(lines) + out
    if check:
        assert child.returncode == 0, err
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)
