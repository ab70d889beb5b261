"""Datagram endpoints for the tests: a protocol that keeps a journal, and plain sockets."""

import asyncio
import contextlib
import socket

import peers


class Journal(asyncio.DatagramProtocol):
    """Counterpart of the Journal of streams: writes down every call."""

    note = peers.Journal.note
    connection_made = peers.Journal.connection_made
    pause_writing = peers.Journal.pause_writing
    resume_writing = peers.Journal.resume_writing
    connection_lost = peers.Journal.connection_lost

    def __init__(self, record=None):
        peers.Journal.__init__(self, record)
        self.received = []

    def datagram_received(self, data, address):
        assert type(data) is bytes
        self.received.append((data, address))
        self.note("datagram_received", data)

    def error_received(self, error):
        self.note("error_received", type(error).__name__, getattr(error, "errno", None))


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
