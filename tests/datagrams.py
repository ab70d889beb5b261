"""Datagram endpoints for the tests: a protocol that keeps a journal, and plain sockets."""

import asyncio
import contextlib
import socket


class Journal(asyncio.DatagramProtocol):
    """Writes down every call."""

    def __init__(self, record=None):
        self.calls = []
        self.received = []
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

    def datagram_received(self, data, address):
        assert type(data) is bytes
        self.received.append((data, address))
        self.note("datagram_received", data)

    def error_received(self, error):
        self.note("error_received", type(error).__name__, getattr(error, "errno", None))

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    def connection_lost(self, error):
        self.note("connection_lost", error and type(error).__name__)
        self.transport = None
        if not self.lost.done():
            self.lost.set_result(None)


@contextlib.asynccontextmanager
async def endpoint(make=Journal, **options):
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


def udp_socket(host="127.0.0.1"):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(10)
    return sock


def unix_pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def named_pair(folder, name):
    """Two Unix sockets with paths, the first connected to the second."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    for sock, end in (ours, "ours"), (theirs, "theirs"):
        sock.setblocking(False)
        sock.bind(str(folder / f"{name}-{end}"))
    ours.connect(theirs.getsockname())
    return ours, theirs
