"""start_tls(): TLS over a connection that is open already, once and twice."""

import asyncio
import socket
import ssl
import sys

import pytest

from peers import BufferedJournal, Journal, connected, receive, settle, socket_pair, until
from tls_peers import HOST, Peer, client_context, encrypted, server_context

# plain bytes that a StreamReader has read stay with it, and the handshake waits for ever
LOSES_BUFFERED = sys.version_info < (3, 14)


@pytest.fixture(params=["client", "server"])
def server_side(request):
    return request.param == "server"


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


async def upgrade(transport, protocol, peer_socket, server_side, **options):
    """Both ends start TLS; returns the new transport and the other end."""
    loop = asyncio.get_running_loop()
    peer = Peer(peer_socket, not server_side)
    shaking = loop.create_task(peer.handshake())
    context = server_context() if server_side else client_context()
    name = None if server_side else HOST
    transport = await loop.start_tls(
        transport, protocol, context, server_side=server_side, server_hostname=name, **options
    )
    await shaking
    return transport, peer


@pytest.mark.parametrize("make", [Journal, BufferedJournal])
def test_an_upgrade(agree, family, server_side, make, debug):
    async def scenario(case):
        async with connected(family, lambda: make(case.record)) as (plain, protocol, sock):
            plain.write(b"plain")
            case.record(await receive(sock, 5))
            transport, peer = await upgrade(plain, protocol, sock, server_side)
            assert plain.get_protocol() is transport._ssl_protocol
            protocol.transport = transport
            transport.write(b"secret")
            case.record(await peer.receive(6))
            await peer.send(b"answer")
            await until(lambda: protocol.received)
            case.record(protocol.received, transport.get_extra_info("cipher"))
            transport.close()
            await peer.unwrap()
            await protocol.lost

    agree(scenario, debug)


def test_plain_bytes_read_before_stay_plain(agree):
    async def scenario(case):
        async with connected("tcp") as (plain, protocol, sock):
            sock.send(b"plain")
            await until(lambda: protocol.received)
            plain.pause_reading()
            transport, peer = await upgrade(plain, protocol, sock, True)
            protocol.transport = transport
            peer.object.write(b"secret")
            await peer.flush()
            await until(lambda: len(protocol.received) == 11)
            case.record(protocol.received)
            transport.close()
            await peer.unwrap()
            await protocol.lost

    agree(scenario)


def test_a_hello_that_was_read_already(agree):
    async def scenario(case):
        async def serve(reader, writer):
            case.record(await reader.readline())
            # the handshake's first bytes arrive before it is expected
            await until(lambda: reader._buffer)
            await writer.start_tls(server_context())
            case.record(await reader.readline())
            writer.write(b"answer\n")
            await writer.drain()
            writer.close()
            served.set()

        served = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        with sock:
            sock.send(b"STARTTLS\n")
            peer = Peer(sock)
            await peer.handshake()
            await peer.send(b"question\n")
            case.record(await peer.receive(7))
            await peer.unwrap()
            await served.wait()
        server.close()
        await server.wait_closed()
        await settle()

    agree(scenario, asyncio_is_wrong=LOSES_BUFFERED)


def test_streams_start_tls(agree):
    async def scenario(case):
        async def serve(reader, writer):
            writer.write(b"ready\n")
            await writer.start_tls(server_context())
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        case.record(await reader.readline())
        await writer.start_tls(client_context(), server_hostname=HOST)
        writer.write(b"secret\n")
        case.record(await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await settle()

    agree(scenario)


def test_wrong_arguments(agree):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        async with connected("tcp") as (transport, protocol, sock):
            with case.catch():
                await loop.start_tls(transport, protocol, None)
            with case.catch():
                await loop.start_tls(transport, protocol, "context")
            with case.catch():
                await loop.start_tls(None, protocol, client_context())
            with case.catch():
                await loop.start_tls(asyncio.Transport(), protocol, client_context())
            for timeout in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
                with case.catch():
                    await loop.start_tls(transport, protocol, client_context(), **{timeout: 0})
            case.record(transport.is_reading(), transport.get_protocol() is protocol)

    agree(scenario)


def test_the_handshake_fails(agree, debug):
    async def scenario(case):
        async with connected("tcp", lambda: Journal(case.record)) as (plain, protocol, sock):
            peer = Peer(sock, True)
            shaking = asyncio.ensure_future(peer.handshake())
            with case.catch(text=False):
                await asyncio.get_running_loop().start_tls(
                    plain, protocol, client_context(trust=False), server_hostname=HOST
                )
            with case.catch("the peer's", text=False):
                await shaking
            await settle()
            case.record(plain.is_closing(), protocol.calls)
            protocol.lost.done() or protocol.lost.set_result(None)

    agree(scenario, debug)


def test_the_handshake_times_out(agree, server_side):
    async def scenario(case):
        async with connected("tcp") as (plain, protocol, sock):
            context = server_context() if server_side else client_context()
            with case.catch():
                await asyncio.get_running_loop().start_tls(
                    plain, protocol, context, server_side=server_side,
                    server_hostname=None if server_side else HOST, ssl_handshake_timeout=0.02,
                )  # fmt: skip
            await settle()
            case.record(plain.is_closing())
            protocol.lost.done() or protocol.lost.set_result(None)

    agree(scenario)


@pytest.mark.parametrize("steps", range(4))
def test_a_cancelled_upgrade(agree, steps):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        async with connected("tcp") as (plain, protocol, sock):
            starting = loop.create_task(
                loop.start_tls(plain, protocol, client_context(), server_hostname=HOST)
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            starting.cancel()
            with case.catch(text=False):
                await starting
            await settle()
            case.record(plain.is_closing())
            protocol.lost.done() or protocol.lost.set_result(None)

    agree(scenario)


@pytest.mark.aioxide_alone  # there nobody is told
@pytest.mark.parametrize("how", ["cancelled", "times out", "ends"])
def test_an_upgrade_given_up_ends_the_connection(run, server_side, how):
    async def main():
        loop = asyncio.get_running_loop()
        async with connected("tcp") as (plain, protocol, sock):
            context = server_context() if server_side else client_context()
            starting = loop.create_task(
                loop.start_tls(
                    plain, protocol, context, server_side=server_side,
                    server_hostname=None if server_side else HOST,
                    ssl_handshake_timeout=0.02 if how == "times out" else 60,
                )  # fmt: skip
            )
            await settle()
            if how == "cancelled":
                starting.cancel()
            elif how == "ends":
                sock.close()
            await asyncio.wait([starting])
            assert starting.cancelled() or isinstance(starting.exception(), OSError)
            await protocol.lost
            await settle()
            assert [call[0] for call in protocol.calls[1:]] == ["connection_lost"]

    run(main)


class Tunnel(Peer):
    """A Peer whose socket is another Peer: what it sends is encrypted once more."""

    def __init__(self, below, server_side):
        super().__init__(None, server_side)
        self.below = below

    async def flush(self):
        if data := self.outgoing.read():
            await self.below.send(data)

    async def fetch(self, size=65536):
        data = await self.below.do(self.below.object.read, size)
        if not data:
            self.incoming.write_eof()
            raise ConnectionError("the connection below is at its end")
        return self.incoming.write(data)


def test_tls_in_tls(agree, server_side, debug):
    data = bytes(range(256)) * 1000

    async def scenario(case):
        loop = asyncio.get_running_loop()
        make = lambda: Journal(case.record)  # noqa: E731
        async with encrypted("tcp", make, server_side) as (outer, protocol, below):
            peer = Tunnel(below, not server_side)
            shaking = loop.create_task(peer.handshake())
            context = server_context() if server_side else client_context()
            inner = await loop.start_tls(
                outer, protocol, context, server_side=server_side,
                server_hostname=None if server_side else HOST,
            )  # fmt: skip
            await shaking
            protocol.transport = inner
            inner.write(data)
            assert await peer.receive(len(data)) == data
            await peer.send(data)
            await until(lambda: len(protocol.received) == len(data))
            assert protocol.received == data
            assert inner.get_extra_info("ssl_object") is not outer.get_extra_info("ssl_object")
            assert inner.get_extra_info("peername") == outer.get_extra_info("peername")
            inner.pause_reading()
            case.record(inner.is_reading(), outer.is_reading(), inner.is_closing())
            inner.resume_reading()
            inner.close()
            await peer.unwrap()
            await below.unwrap()
            await protocol.lost

    agree(scenario, debug)


def test_tls_over_a_transport_of_the_programs_own(agree):
    """A transport that is none of the loop's: it carries the bytes by hand."""

    class Carrier(asyncio.Transport):
        _start_tls_compatible = True

        def __init__(self):
            super().__init__({"name": "carrier"})
            self.protocol = None
            self.sent = []
            self.closing = False

        def set_protocol(self, protocol):
            self.protocol = protocol

        def get_protocol(self):
            return self.protocol

        def is_closing(self):
            return self.closing

        def pause_reading(self):
            pass

        def resume_reading(self):
            pass

        def write(self, data):
            assert type(data) is bytes
            self.sent.append(data)

        def close(self):
            self._force_close(None)

        def abort(self):
            self._force_close(None)

        def _force_close(self, error):
            if not self.closing:
                self.closing = True
                asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

        def deliver(self, data):
            while data:
                buffer = self.protocol.get_buffer(-1)
                size = min(len(buffer), len(data), 1000)
                buffer[:size] = data[:size]
                self.protocol.buffer_updated(size)
                data = data[size:]

    async def scenario(case):
        loop = asyncio.get_running_loop()
        carrier, protocol = Carrier(), Journal(case.record)
        starting = loop.create_task(
            loop.start_tls(carrier, protocol, client_context(), server_hostname=HOST)
        )
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = server_context().wrap_bio(incoming, outgoing, server_side=True)

        async def shake():
            while True:
                incoming.write(b"".join(carrier.sent))
                carrier.sent.clear()
                try:
                    return server.do_handshake()
                except ssl.SSLWantReadError:
                    carrier.deliver(outgoing.read())
                    await asyncio.sleep(0)

        await shake()
        carrier.deliver(outgoing.read())
        transport = await starting
        protocol.transport = transport
        case.record(transport.get_extra_info("name"), transport.get_extra_info("cipher"))
        transport.write(b"question" * 1000)
        incoming.write(b"".join(carrier.sent))
        case.record(server.read(10_000) == b"question" * 1000, len(carrier.sent))
        server.write(b"answer" * 1000)
        carrier.deliver(outgoing.read())
        case.record(protocol.received == b"answer" * 1000)
        transport.abort()
        await protocol.lost

    agree(scenario)


def test_a_socket_pair_without_any_server(agree):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("unix")
        ends = await asyncio.gather(
            loop.connect_accepted_socket(
                lambda: Journal(lambda *call: None), ours, ssl=server_context()
            ),
            loop.create_unix_connection(
                Journal, sock=theirs, ssl=client_context(), server_hostname=HOST
            ),
        )
        for (transport, _), (_, protocol) in (ends, ends[::-1]):
            transport.write(b"hello")
            await until(lambda protocol=protocol: protocol.received)
            case.record(protocol.received)
        ends[0][0].close()
        for _, protocol in ends:
            await protocol.lost
            case.record(protocol.calls)

    agree(scenario)
