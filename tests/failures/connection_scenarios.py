"""Scenarios over connections: transports, streams, servers, TLS."""

import contextlib
import os
import socket
import tempfile

from case import INCOMING, OUTGOING, BufferedJournal, Journal, Peer, amount
from tls_peers import client_context, server_context


async def _reading(case, family, make):
    ours, peer = case.pair(family)
    case.arm()
    protocol = make(case, "ours", INCOMING)
    connect = case.loop.create_unix_connection if family == "unix" else case.loop.create_connection
    with case.catch("ours", "create_connection"):
        await case.within(connect(lambda: protocol, sock=ours))
    if protocol.transport is None:
        ours.close()
        return
    for start, end in ((0, 10), (10, 30_000), (30_000, len(INCOMING))):
        await peer.send(INCOMING[start:end])
    peer.shut()
    await protocol.wait()
    await peer.drain(b"")


async def tcp_reading(case):
    await _reading(case, "tcp", Journal)


async def tcp_reading_buffered(case):
    await _reading(case, "tcp", BufferedJournal)


async def unix_reading(case):
    await _reading(case, "unix", Journal)


async def _writing(case, family, write):
    ours, peer = case.pair(family)
    case.arm()
    protocol = Journal(case, "ours", b"")
    connect = case.loop.create_unix_connection if family == "unix" else case.loop.create_connection
    with case.catch("ours", "create_connection"):
        await case.within(connect(lambda: protocol, sock=ours))
    if protocol.transport is None:
        ours.close()
        return
    with case.catch("ours", "write"):
        write(protocol.transport)
    await peer.drain(OUTGOING)
    peer.shut()
    await protocol.wait()


def _write_and_close(transport):
    transport.write(OUTGOING[:10])
    transport.write(OUTGOING[10:20])
    transport.write(OUTGOING[20:])
    transport.close()


def _write_lines(transport):
    pieces = [OUTGOING[start : start + 7_000] for start in range(0, len(OUTGOING), 7_000)]
    transport.writelines(pieces[:3])
    transport.writelines(pieces[3:])
    transport.write_eof()


async def tcp_writing(case):
    await _writing(case, "tcp", _write_and_close)


async def tcp_writing_lines(case):
    await _writing(case, "tcp", _write_lines)


async def unix_writing(case):
    await _writing(case, "unix", _write_lines)


async def held_writing(case):
    """Small writes in every iteration, which aioxide holds back to the end of it."""
    ours, peer = case.pair("tcp")
    case.arm()
    protocol = Journal(case, "ours", b"")
    with case.catch("ours", "create_connection"):
        await case.within(case.loop.create_connection(lambda: protocol, sock=ours))
    if protocol.transport is None:
        ours.close()
        return
    for start in range(0, 1_200, 40):
        for small in range(start, start + 40, 10):
            with case.catch("write", "write"):
                protocol.transport.write(OUTGOING[small : small + 10])
        await case.aio.sleep(0)
        peer.look()
    case.sides["write"] = [[line] for line in sorted({str(line) for line in case.sides["write"]})]
    protocol.transport.close()
    await peer.drain(OUTGOING[:1_200])
    await protocol.wait()


async def pausing(case):
    """Reading stops and goes on."""
    ours, peer = case.pair("tcp")
    case.arm()
    protocol = Journal(case, "ours", INCOMING)
    with case.catch("ours", "create_connection"):
        await case.within(case.loop.create_connection(lambda: protocol, sock=ours))
    if protocol.transport is None:
        ours.close()
        return
    for start in range(0, len(INCOMING), 10_000):
        with case.catch("ours", "pause_reading"):
            protocol.transport.pause_reading()
        await peer.send(INCOMING[start : start + 10_000])
        await case.aio.sleep(0.001)
        with case.catch("ours", "resume_reading"):
            protocol.transport.resume_reading()
        await case.aio.sleep(0.001)
    peer.shut()
    await protocol.wait()
    await peer.drain(b"")


async def streams(case):
    ours, peer = case.pair("tcp")
    lines = INCOMING[:5_000].replace(b"\n", b"x") + b"\n"
    case.arm()
    with case.catch("ours", "open_connection"):
        reader, writer = await case.within(case.aio.open_connection(sock=ours))
        case.keep(writer.transport)
        with case.catch("ours", "read"):
            await peer.send(lines + INCOMING)
            case.note("ours", amount(await case.within(reader.readline()), lines))
            case.note("ours", amount(await case.within(reader.readexactly(20_000)), INCOMING[:20_000]))
            peer.shut()
            case.note("ours", amount(await case.within(reader.read()), INCOMING[20_000:]))
            case.note("ours", await case.within(reader.read(10)))
        with case.catch("ours", "write"):
            writer.write(OUTGOING[:100])
            writer.write(OUTGOING[100:200])
            writer.write(OUTGOING[200:])
            drained = case.aio.ensure_future(writer.drain())
            await peer.receive(len(OUTGOING))
            await case.within(drained)
        with case.catch("ours", "close"):
            writer.close()
            await case.within(writer.wait_closed())
        await peer.drain(OUTGOING)
    ours.close()


async def _connecting(case, listener, connect):
    accepted = []
    protocol = Journal(case, "ours", INCOMING)

    def accept():
        with contextlib.suppress(BlockingIOError), case.paused():
            sock, _ = listener.accept()
            accepted.append(case.exempt(sock))
            sock.send(INCOMING)
            sock.shutdown(socket.SHUT_WR)

    case.arm()
    task = case.aio.ensure_future(connect(lambda: protocol))
    looks = 0
    while not accepted and looks < 10:
        accept()
        looks += 1
        await case.aio.sleep(0.001)
    with case.catch("ours", "create_connection"):
        await case.within(task)
    if protocol.transport is not None:
        await protocol.wait()


async def connecting(case):
    listener = case.exempt(socket.create_server(("127.0.0.1", 0)))
    address = listener.getsockname()
    await _connecting(case, listener, lambda make: case.loop.create_connection(make, *address))


async def connecting_unix(case):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "1.sock")
        listener = case.exempt(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()
        await _connecting(case, listener, lambda make: case.loop.create_unix_connection(make, path))
        case.stop()


class Echo(Journal):
    """The server's end of a connection, which sends everything back."""

    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


async def _serving(case, make_server, connect):
    made = []

    def factory():
        made.append(Echo(case, f"server {len(made)}", b"ping"))
        return made[-1]

    case.arm()
    with case.catch("server", "create_server"):
        server = await case.within(make_server(factory))
    if "server" not in locals():
        return
    address = server.sockets[0].getsockname()
    for index in range(3):
        peer = connect(address)
        if peer is None:
            case.note(f"client {index}", "refused")
            continue
        await peer.send(b"ping")
        await peer.receive(4)
        peer.shut()
        looks = 0
        while not (peer.end or peer.received) and "report" in case.sides and looks < 100:
            # the server tries again a little later
            await case.aio.sleep(0.001)
            peer.look()
            looks += 1
        await peer.drain(b"ping", f"client {index}")
    for protocol in made:
        await protocol.wait()
    with case.catch("server", "close"):
        server.close()
        await case.within(server.wait_closed())


def _peer(case, family, address):
    with case.paused():
        sock = socket.socket(family)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            return None
        return Peer(case, case.exempt(sock))


async def server(case):
    await _serving(
        case,
        lambda make: case.loop.create_server(make, "127.0.0.1", 0),
        lambda address: _peer(case, socket.AF_INET, address),
    )


async def unix_server(case):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "1.sock")
        await _serving(
            case,
            lambda make: case.loop.create_unix_server(make, path),
            lambda address: _peer(case, socket.AF_UNIX, address),
        )
        case.stop()


async def both_ends(case):
    """A server and a client of streams on one loop; either may meet the failure."""
    done = case.loop.create_future()

    async def serve(reader, writer):
        case.keep(writer.transport)
        with case.catch("server", "serve"):
            got = await reader.read()
            case.note("server", amount(got, OUTGOING))
            writer.write(INCOMING)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        if not done.done():
            done.set_result(None)

    server = await case.aio.start_server(serve, "127.0.0.1", 0)
    case.arm()
    with case.catch("client", "open_connection"):
        address = server.sockets[0].getsockname()
        reader, writer = await case.within(case.aio.open_connection(*address))
        case.keep(writer.transport)
        with case.catch("client", "write"):
            writer.write(OUTGOING)
            await case.within(writer.drain())
            writer.write_eof()
        with case.catch("client", "read"):
            case.note("client", amount(await case.within(reader.read()), INCOMING))
        with case.catch("client", "close"):
            writer.close()
            await case.within(writer.wait_closed())
        with case.catch("server", "end"):
            await case.within(done)
    case.stop()
    server.close()


SERVER_CONTEXT, CLIENT_CONTEXT = server_context(), client_context()


class TlsJournal(Journal):
    """How a connection ends that has brought everything is left out.

    Both ends say goodbye at the same time, and which is first is a matter of luck.
    """

    def eof_received(self):
        pass

    def connection_lost(self, error):
        super().connection_lost(error if bytes(self.received) != self.expected else None)


class TlsEcho(TlsJournal):
    def data_received(self, data):
        super().data_received(data)
        self.answer()

    def answer(self):
        # start_tls() returns after the first bytes may have come
        if self.transport is not None and len(self.received) >= 20_000:
            self.transport.write(INCOMING)
            self.transport.close()


async def _tls_client(case, connect):
    protocol = TlsJournal(case, "client", INCOMING)
    with case.catch("client", "connect"):
        await case.within(connect(protocol))
    if protocol.transport is None:
        return
    with case.catch("client", "write"):
        protocol.transport.write(OUTGOING[:10])
        protocol.transport.write(OUTGOING[10:20_000])
    await protocol.wait()


async def tls(case):
    """TLS from the first byte, both ends on one loop."""
    made = []

    def make():
        made.append(TlsEcho(case, "server", OUTGOING[:20_000]))
        return made[-1]

    server = await case.loop.create_server(make, "127.0.0.1", 0, ssl=SERVER_CONTEXT)
    case.arm()
    host, port = server.sockets[0].getsockname()
    await _tls_client(
        case,
        lambda protocol: case.loop.create_connection(
            lambda: protocol, host, port, ssl=CLIENT_CONTEXT, server_hostname="localhost"
        ),
    )
    for protocol in made:
        if protocol.transport is not None:
            await protocol.wait()
    case.stop()
    server.close()


async def start_tls(case):
    """TLS over a connection that is there already."""
    tasks = []

    class Upgrading(Journal):
        def connection_made(self, transport):
            tasks.append(case.loop.create_task(self.upgrade(transport)))

        async def upgrade(self, transport):
            protocol = TlsEcho(case, "server", OUTGOING[:20_000])
            with case.catch("server", "start_tls"):
                new = await case.loop.start_tls(transport, protocol, SERVER_CONTEXT, server_side=True)
                protocol.transport = case.keep(new, protocol)
                protocol.answer()
                await protocol.wait()

    server = await case.loop.create_server(lambda: Upgrading(case, "server", b""), "127.0.0.1", 0)
    case.arm()

    async def connect(protocol):
        transport, _ = await case.loop.create_connection(
            lambda: Journal(case, "plain", b""), *server.sockets[0].getsockname()
        )
        new = await case.loop.start_tls(
            transport, protocol, CLIENT_CONTEXT, server_hostname="localhost"
        )
        protocol.transport = case.keep(new, protocol)

    await _tls_client(case, connect)
    for task in tasks:
        with case.catch("server", "end"):
            await case.within(task)
    case.stop()
    server.close()


async def sending_file(case):
    """loop.sendfile() over a transport."""
    with tempfile.TemporaryFile() as file:
        file.write(OUTGOING)
        file.flush()
        file.seek(0)
        ours, peer = case.pair("tcp")
        case.arm()
        protocol = Journal(case, "ours", b"")
        with case.catch("ours", "create_connection"):
            await case.within(case.loop.create_connection(lambda: protocol, sock=ours))
        if protocol.transport is None:
            ours.close()
            return
        task = case.aio.ensure_future(case.loop.sendfile(protocol.transport, file))
        await peer.receive(len(OUTGOING))
        with case.catch("ours", "sendfile"):
            case.note("ours", "sent", await case.within(task))
        with case.catch("ours", "write"):
            protocol.transport.write(b"end")
        protocol.transport.close()
        await peer.drain(OUTGOING + b"end")
        await protocol.wait()
        case.stop()


SCENARIOS = [
    tcp_reading, tcp_reading_buffered, unix_reading, tcp_writing, tcp_writing_lines, unix_writing,
    held_writing, pausing, streams, connecting, connecting_unix, server, unix_server, both_ends,
    tls, start_tls, sending_file,
]  # fmt: skip
