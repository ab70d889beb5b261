"""The other end of a connection: plain sockets, protocols that keep a journal, child programs."""

import asyncio
import contextlib
import functools
import os
import socket
import subprocess
import sys
import textwrap


def socket_pair(family):
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


async def receive(peer, count=None):
    """`count` bytes from a plain socket or descriptor, or all of them up to the end of file."""
    read = functools.partial(os.read, peer) if isinstance(peer, int) else peer.recv
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


async def until(condition):
    """Waits until `condition()` holds."""
    while not condition():
        await asyncio.sleep(0.001)


async def settle():
    """Gives the loop some iterations to do what there is to do; not a matter of time alone."""
    for _ in range(5):
        await asyncio.sleep(0.001)


class Journal(asyncio.Protocol):
    """A protocol that writes down every call; `data_received` calls in a row count as one."""

    def __init__(self, record=None):
        self.calls = []
        self.received = bytearray()
        self.record = record
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, *call):
        self.calls.append(call if len(call) > 1 else call[0])
        if self.record is not None:
            self.record(*call)

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def data_received(self, data):
        if not self.calls or self.calls[-1] != "data_received":
            self.note("data_received")
        assert type(data) is bytes
        self.received += data

    def eof_received(self):
        self.note("eof_received")

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    def connection_lost(self, error):
        self.note("connection_lost", error and type(error).__name__)
        self.transport = None
        if not self.lost.done():
            self.lost.set_result(None)


class Serving(Journal):
    """The server's end; keeps itself in `made`, which the fixture of that name empties."""

    made = []

    def connection_made(self, transport):
        super().connection_made(transport)
        self.made.append(self)


class BufferedJournal(asyncio.BufferedProtocol):
    """Journal's counterpart for BufferedProtocol; the buffer has `size` bytes."""

    note = Journal.note
    connection_made = Journal.connection_made
    eof_received = Journal.eof_received
    pause_writing = Journal.pause_writing
    resume_writing = Journal.resume_writing
    connection_lost = Journal.connection_lost

    def __init__(self, record=None, size=1024):
        Journal.__init__(self, record)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        if not self.calls or self.calls[-1] != "buffer_updated":
            self.note("buffer_updated")
        self.received += self.buffer[:nbytes]


@contextlib.asynccontextmanager
async def connected(family, make=Journal):
    """A transport with a protocol on one end, a plain socket on the other."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair(family)
    connect = loop.create_unix_connection if family == "unix" else loop.create_connection
    with theirs:
        transport, protocol = await connect(make, sock=ours)
        try:
            yield transport, protocol, theirs
        finally:
            if last := transport.get_protocol():
                transport.abort()
                await last.lost
            # the loop closes the socket in the callback that calls connection_lost
            await asyncio.sleep(0)


PRELUDE = """\
import asyncio, sys, os, signal, time
import {name} as aio
"""


def program(aio, text, *arguments, check=True, interrupt_after=None, **options):
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
