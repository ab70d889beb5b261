"""TLS transports: how they end, what they leave, and that they end at all."""

import asyncio
import gc
import ssl
import sys
import weakref

import pytest

from observing import descriptors
from peers import Journal, receive, settle, socket_pair, until
from tls_peers import HOST, Peer, client_context, encrypted, server_context

BIG = b"0123456789abcdef" * (1 << 16)


# asyncio's own connections are cycles there
leaves_no_cycle = pytest.mark.aioxide_alone if sys.version_info < (3, 12) else lambda test: test


@pytest.fixture(params=["client", "server"])
def server_side(request):
    return request.param == "server"


def recording(case):
    return lambda: Journal(case.record)


def test_closing_in_order(agree, server_side, debug):
    async def scenario(case):
        make = recording(case)
        async with encrypted("tcp", make, server_side) as (transport, protocol, peer):
            transport.write(b"last words")
            transport.close()
            case.record(transport.is_closing(), await peer.receive())
            await settle()
            case.record("the peer answers")
            await peer.unwrap()
            await protocol.lost
            case.record(await receive(peer.sock))

    agree(scenario, debug)


def test_the_peer_closes_first(agree, server_side, debug):
    async def scenario(case):
        make = recording(case)
        async with encrypted("tcp", make, server_side) as (transport, protocol, peer):
            await peer.send(b"last words")
            await peer.unwrap()
            await protocol.lost
            case.record(bytes(protocol.received), transport.is_closing())

    agree(scenario, debug)


def test_the_end_without_close_notify(agree, server_side, debug):
    async def scenario(case):
        make = recording(case)
        async with encrypted("tcp", make, server_side) as (transport, protocol, peer):
            await peer.send(b"last words")
            peer.sock.close()
            await protocol.lost
            case.record(bytes(protocol.received))

    agree(scenario, debug)


def test_the_end_while_reading_is_paused(agree):
    async def scenario(case):
        async with encrypted("unix", recording(case)) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send(b"last words")
            peer.sock.shutdown(1)
            await until(lambda: transport._ssl_protocol._eof_received)
            await settle()
            case.record("resumed")
            transport.resume_reading()
            await protocol.lost
            case.record(bytes(protocol.received))

    agree(scenario)


def test_a_broken_record(agree, debug):
    async def scenario(case):
        async with encrypted(make=recording(case)) as (transport, protocol, peer):
            peer.sock.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            await protocol.lost

    agree(scenario, debug)


def test_aborting(agree, server_side):
    async def scenario(case):
        make = recording(case)
        async with encrypted("unix", make, server_side) as (transport, protocol, peer):
            for _ in range(20):
                transport.write(BIG)
            case.record(transport.get_write_buffer_size() > 0)
            transport.abort()
            case.record(transport.is_closing())
            transport.abort()
            await protocol.lost
            transport.abort()

    agree(scenario)


def test_the_peer_never_answers(agree):
    async def scenario(case):
        options = {"ssl_shutdown_timeout": 0.02}
        async with encrypted("tcp", recording(case), **options) as (transport, protocol, peer):
            transport.close()
            await protocol.lost
            case.record(await receive(peer.sock) != b"")

    agree(scenario)


def test_the_peer_never_reads(agree):
    async def scenario(case):
        options = {"ssl_shutdown_timeout": 0.05}
        async with encrypted("unix", recording(case), **options) as (transport, protocol, peer):
            for _ in range(10):
                transport.write(BIG)
            transport.close()
            await protocol.lost

    agree(scenario)


def test_writing_after_the_end(agree):
    async def scenario(case):
        async with encrypted(make=recording(case)) as (transport, protocol, peer):
            transport.close()
            for _ in range(8):
                transport.write(b"too late")
                transport.writelines([b"too", b"late"])
            await peer.unwrap()
            await protocol.lost
            transport.write(b"much too late")

    agree(scenario)


def test_methods_of_a_transport_closed_twice(agree):
    async def scenario(case):
        async with encrypted() as (transport, protocol, peer):
            transport.close()
            case.record(transport.get_protocol() is protocol, transport.is_closing())
            transport.close()
            case.record(transport.is_closing(), transport._ssl_protocol)
            for call in (
                lambda: transport.get_extra_info("cipher"),
                lambda: transport.write(b"data"),
                lambda: transport.writelines([b"data"]),
                transport.get_protocol,
                transport.is_reading,
                transport.pause_reading,
                transport.get_write_buffer_limits,
                transport.get_write_buffer_size,
                transport.abort,
            ):
                with case.catch():
                    call()
            await peer.unwrap()
            await protocol.lost

    agree(scenario)


def test_closing_from_data_received(agree):
    class Closing(Journal):
        def data_received(self, data):
            self.note("received", bytes(data))
            self.transport.write(b"answer")
            self.transport.close()

    async def scenario(case):
        async with encrypted(make=lambda: Closing(case.record)) as (transport, protocol, peer):
            peer.object.write(b"question")
            peer.object.write(b"another")
            await peer.flush()
            case.record(await peer.receive())
            await peer.unwrap()
            await protocol.lost

    agree(scenario)


def test_aborting_from_data_received(agree):
    class Aborting(Journal):
        def data_received(self, data):
            self.note("received", bytes(data))
            self.transport.abort()

    async def scenario(case):
        async with encrypted(make=lambda: Aborting(case.record)) as (transport, protocol, peer):
            await peer.send(b"question")
            await protocol.lost

    agree(scenario)


def test_closing_in_the_handshake(agree):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("tcp")
        with theirs:
            made = []
            connecting = loop.create_task(
                loop.create_connection(
                    lambda: made.append(Journal(case.record)) or made[-1],
                    sock=ours, ssl=client_context(), server_hostname=HOST,
                )  # fmt: skip
            )
            await until(lambda: made)
            await settle()
            connecting.cancel()
            with case.catch(text=False):
                await connecting
            await settle()
            case.record(await receive(theirs) != b"", made[0].calls)

    agree(scenario)


@pytest.mark.parametrize("steps", range(6))
def test_cancelling_a_connection_leaves_nothing(run, server_side, steps):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("tcp")
        peer = Peer(theirs, not server_side)
        shaking = loop.create_task(peer.handshake())
        if server_side:
            connect = loop.connect_accepted_socket(Journal, ours, ssl=server_context())
        else:
            connect = loop.create_connection(
                Journal, sock=ours, ssl=client_context(), server_hostname=HOST
            )
        connecting = loop.create_task(connect)
        for _ in range(steps):
            await asyncio.sleep(0)
        connecting.cancel()
        with theirs:
            await asyncio.wait([connecting], timeout=5)
            assert connecting.cancelled()
            shaking.cancel()
            await asyncio.wait([shaking])
        await settle()
        if steps:
            assert ours.fileno() == -1
        ours.close()

    run(main)


def test_an_unclosed_transport_warns(run):
    async def main():
        async with encrypted() as (transport, protocol, peer):
            class_ = type(transport)
            with pytest.warns(ResourceWarning, match="unclosed transport <asyncio._SSLProto"):
                unclosed = class_(asyncio.get_running_loop(), transport._ssl_protocol)
                del unclosed
                gc.collect()

    run(main)


@leaves_no_cycle
def test_no_cycle_keeps_a_connection(run, server_side):
    async def main():
        async with encrypted(server_side=server_side) as (transport, protocol, peer):
            transport.write(b"question")
            await peer.receive(8)
            await peer.send(b"answer")
            await until(lambda: protocol.received)
            gc.collect()
            gc.disable()
            try:
                below = transport._ssl_protocol
                alive = [weakref.ref(item) for item in (transport, below, below._transport)]
                del below
                transport.close()
                await peer.unwrap()
                await protocol.lost
                await settle()
            finally:
                gc.enable()
        # what the context manager still holds is the transport
        assert alive[2]() is None
        return alive

    alive = run(main)
    assert [reference() for reference in alive] == [None] * 3


def test_a_failed_handshake_leaves_no_cycle(run):
    async def fail(protocol):
        ours, theirs = socket_pair("tcp")
        peer = Peer(theirs, True)
        shaking = asyncio.ensure_future(peer.handshake())
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: protocol, sock=ours, ssl=client_context(trust=False), server_hostname=HOST
            )
        except ssl.SSLCertVerificationError:
            pass
        else:
            pytest.fail("the certificate was trusted")
        with theirs:
            await asyncio.wait([shaking])
            assert shaking.exception()

    async def main():
        protocol = Journal()
        alive = weakref.ref(protocol)
        gc.collect()
        gc.disable()
        try:
            await fail(protocol)
            del protocol
            await settle()
            if sys.version_info < (3, 14):
                gc.collect()  # create_connection(), in Python, makes one
            assert alive() is None
        finally:
            gc.enable()

    run(main)


@leaves_no_cycle
def test_a_thousand_connections_leave_nothing(run):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Journal, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        context = client_context()

        async def connect():
            transport, protocol = await loop.create_connection(
                Journal, *address, ssl=context, server_hostname=HOST
            )
            transport.close()
            await protocol.lost

        for _ in range(3):
            await connect()
        await settle()
        gc.collect()
        before, objects = descriptors(), len(gc.get_objects())
        for _ in range(10):
            await asyncio.gather(*(connect() for _ in range(10)))
        await until(lambda: len(descriptors()) <= len(before))
        await settle()
        gc.collect()
        assert len(gc.get_objects()) < objects + 200
        server.close()
        await server.wait_closed()

    run(main)
