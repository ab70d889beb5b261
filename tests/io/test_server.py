"""Server: serving, closing and waiting, with the semantics of the running version."""

import asyncio
import gc
import os
import socket
import sys
import warnings

import pytest

from observing import descriptors
from peers import Journal, Serving, settle, until


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


@pytest.fixture
def open_server(family, tmp_path):
    """open_server(**options): a server and a function that connects to it."""

    async def open_server(make=Serving, **options):
        loop = asyncio.get_running_loop()
        if family == "unix":
            path = str(tmp_path / f"{id(loop)}.sock")
            server = await loop.create_unix_server(make, path, **options)
            return server, lambda: loop.create_unix_connection(Journal, path)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        server = await loop.create_server(make, "127.0.0.1", port, **options)
        return server, lambda: loop.create_connection(Journal, "127.0.0.1", port)

    return open_server


async def lose(*protocols):
    for protocol in protocols:
        if protocol.transport:
            protocol.transport.abort()
        await protocol.lost
    await asyncio.sleep(0)


def test_states(agree, made, open_server):
    async def scenario(case):
        server, connect = await open_server(start_serving=False)
        case.record(server.is_serving(), len(server.sockets), type(server.sockets))
        case.record(server.get_loop() is case.loop)
        await server.start_serving()
        await server.start_serving()
        case.record(server.is_serving(), len(server.sockets))
        _, client = await connect()
        await until(lambda: made)
        server.close()
        case.record(server.is_serving(), server.sockets)
        server.close()
        case.record(made[0].calls, client.calls)
        with case.catch("start after close"):
            await server.start_serving()
        await lose(client, made.pop())
        await server.wait_closed()

    record = agree(scenario)
    assert record[0][:2] == (False, 1) and record[3] == (False, ())


def test_a_server_that_does_not_serve_yet_refuses(agree, made, open_server):
    async def scenario(case):
        server, connect = await open_server(start_serving=False)
        try:
            await connect()
        except OSError as error:
            case.record(type(error))
        await server.start_serving()
        _, client = await connect()
        await until(lambda: made)
        server.close()
        try:
            await connect()
        except OSError as error:
            case.record(type(error))
        await lose(client, made.pop())

    record = agree(scenario)
    assert record[0] == ("ConnectionRefusedError",) and len(record) == 2


def test_wait_closed(agree, made, open_server, debug):
    """Since 3.12 it waits for the connections, too."""

    async def scenario(case):
        server, connect = await open_server()
        waiting = case.loop.create_task(server.wait_closed())
        await settle()
        case.record("before close", waiting.done())
        clients = [(await connect())[1] for _ in range(2)]
        await until(lambda: len(made) == 2)
        server.close()
        await settle()
        case.record("closed", waiting.done())
        await lose(clients[0], made[0])
        await settle()
        case.record("one left", waiting.done())
        await lose(clients[1], made[1])
        made.clear()
        await settle()
        case.record("none left", waiting.done())
        await server.wait_closed()
        await waiting

    record = agree(scenario, debug)
    assert record[-1] == ("none left", True)
    if sys.version_info >= (3, 12):
        assert record[1:3] == [("closed", False), ("one left", False)]


def test_async_with(agree, made, open_server):
    async def scenario(case):
        server, connect = await open_server()
        async with server as entered:
            case.record(entered is server, server.is_serving())
        case.record(server.is_serving(), server.sockets)
        with case.catch():
            async with server:
                pass

    assert agree(scenario)[:2] == [(True, True), (False, ())]


def test_serve_forever(agree, made, open_server):
    async def scenario(case):
        server, connect = await open_server(start_serving=False)
        serving = case.loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        case.record(server.is_serving())
        with case.catch("twice"):
            await server.serve_forever()
        _, client = await connect()
        await until(lambda: made)
        serving.cancel("enough")
        if sys.version_info >= (3, 12):
            await lose(client, made.pop())
        with case.catch():
            await serving
        case.record(server.is_serving(), server.sockets)
        with case.catch("after"):
            await server.serve_forever()
        if made:
            await lose(client, made.pop())

    record = agree(scenario)
    assert record[0] == (True,) and record[2][1][0] == "CancelledError"


def test_close_ends_serve_forever(agree, made, open_server):
    async def scenario(case):
        server, connect = await open_server()
        serving = case.loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        server.close()
        with case.catch():
            await serving

    assert agree(scenario)[0][1][0] == "CancelledError"


def test_a_server_that_nobody_holds_goes_on(run, made, open_server):
    async def main():
        server, connect = await open_server()
        sock = server.sockets[0]
        del server
        gc.collect()
        _, client = await connect()
        await until(lambda: made)
        await lose(client, made.pop())
        asyncio.get_running_loop()._stop_serving(sock._sock)
        await asyncio.sleep(0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(main)


def test_sockets(agree, made, open_server, family):
    async def scenario(case):
        server, connect = await open_server()
        (sock,) = server.sockets
        case.record(type(sock), sock.fileno() >= 0, sock.family, sock.type)
        case.record(sock.gettimeout(), server.sockets == server.sockets)
        if family == "tcp":
            case.record(sock.getsockname()[0], repr(server).replace(str(sock.getsockname()[1]), "?"))
        server.close()
        await server.wait_closed()
        case.record(sock.fileno())

    assert agree(scenario)[0][0] == "TransportSocket"


@pytest.mark.parametrize("when", ["at first", "at last", "afterwards"])
def test_the_socket_of_a_connection(agree, made, open_server, when):
    """Whenever it is asked for first, get_extra_info() shows what asyncio's does."""

    async def scenario(case):
        def look(transport):
            sock = transport.get_extra_info("socket")
            case.record(type(sock), sock.family, sock.type, sock.proto, sock.fileno() >= 0)
            case.record(transport.get_extra_info("socket") is sock)
            if sock.fileno() >= 0:
                case.record(sock.gettimeout(), os.get_inheritable(sock.fileno()))
                case.record(sock.getsockname() == transport.get_extra_info("sockname"))
            return sock

        class Asking(Serving):
            def connection_made(self, transport):
                super().connection_made(transport)
                self.kept = transport
                if when == "at first":
                    self.sock = look(transport)

            def connection_lost(self, error):
                if when == "at last":
                    self.sock = look(self.kept)
                super().connection_lost(error)

        server, connect = await open_server(make=Asking)
        _, client = await connect()
        await until(lambda: made)
        client.transport.close()
        await lose(client)
        protocol = made.pop()
        await protocol.lost
        await asyncio.sleep(0)
        if when == "afterwards":
            protocol.sock = look(protocol.kept)
        case.record(protocol.sock.fileno(), type(protocol.kept.get_extra_info("sockname")))
        server.close()
        await server.wait_closed()

    record = agree(scenario)
    assert record[0][0] == "TransportSocket" and record[0][4] == (when != "afterwards")


def test_a_connection_that_nobody_closes(run, made, open_server):
    """Its descriptor is closed with the transport, once, whoever owns it."""

    async def main():
        server, connect = await open_server()
        for asked in (False, True):
            _, client = await connect()
            await until(lambda: made)
            transport = made.pop().transport
            if asked:
                transport.get_extra_info("socket")
            transport.pause_reading()
            before = descriptors().keys()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                transport.set_protocol(asyncio.Protocol())
                del transport
                gc.collect()
            assert any("unclosed transport" in str(warning.message) for warning in caught)
            assert len(before - descriptors().keys()) == 1
            await client.lost
        # wait_closed() of 3.12 would wait for connections that are gone without having been closed.
        server.close()

    run(main)


def test_a_factory_that_fails_closes_the_connection(run, open_server):
    async def main():
        def make():
            raise ValueError("no protocol")

        server, connect = await open_server(make=make)
        before = descriptors().keys()
        _, client = await connect()
        await client.lost
        await asyncio.sleep(0)
        gc.collect()
        assert not descriptors().keys() - before
        assert client.calls == ["connection_made", "eof_received", ("connection_lost", None)]
        server.close()
        await server.wait_closed()

    run(main)


def test_connections_in_bursts(run, made, open_server):
    """However many wait, and however few came before, all are served."""

    async def main():
        server, connect = await open_server(backlog=100)
        for count in (1, 1, 1, 30, 2, 1, 50, 1):
            connections = await asyncio.gather(*(connect() for _ in range(count)))
            await until(lambda: len(made) == count)
            await lose(*(client for _, client in connections), *made)
            made.clear()
        server.close()
        await server.wait_closed()

    run(main)


def test_closing_the_server_inside_a_connection(run, made, open_server):
    async def main():
        class Closing(Serving):
            def connection_made(self, transport):
                super().connection_made(transport)
                server.close()
                transport.close()

        server, connect = await open_server(make=Closing)
        _, client = await connect()
        await client.lost
        await made.pop().lost
        await server.wait_closed()

    run(main)


def test_closing_while_connections_arrive(run, made, open_server):
    """Connections accepted in the iteration that closes are either served or reset."""

    async def main():
        server, connect = await open_server(backlog=50)
        tasks = [asyncio.ensure_future(connect()) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await settle()
        clients = [result[1] for result in results if not isinstance(result, Exception)]
        await lose(*made, *clients)

    run(main)


if sys.version_info >= (3, 13):

    @pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
    def test_closing_the_clients(agree, made, open_server, how):
        async def scenario(case):
            server, connect = await open_server()
            clients = [(await connect())[1] for _ in range(3)]
            await until(lambda: len(made) == 3)
            for protocol in made:
                protocol.transport.write(b"last words")
            server.close()
            case.record([protocol.transport.is_closing() for protocol in made])
            getattr(server, how)()
            case.record([protocol.transport.is_closing() for protocol in made])
            for protocol in (*made, *clients):
                await protocol.lost
            case.record([protocol.calls for protocol in made])
            case.record([bytes(client.received) for client in clients])
            await server.wait_closed()
            getattr(server, how)()
            made.clear()

        record = agree(scenario)
        assert record[1] == ((True,) * 3,)

    def test_a_close_that_waits_and_one_that_does_not(agree, made, open_server):
        async def scenario(case):
            for how, ended in (("close_clients", False), ("abort_clients", True)):
                server, connect = await open_server()
                _, client = await connect()
                client.transport.pause_reading()
                await until(lambda: made)
                made[0].transport.write(b"x" * 10_000_000)
                server.close()
                getattr(server, how)()
                await settle()
                case.record(how, made[0].lost.done() == ended)
                await lose(client, made.pop())
                await server.wait_closed()

        assert agree(scenario) == [("close_clients", True), ("abort_clients", True)]

    def test_lost_clients_are_forgotten(run, made, open_server):
        async def main():
            server, connect = await open_server()
            for _ in range(10):
                _, client = await connect()
                await until(lambda: made)
                await lose(client, made.pop())
            gc.collect()
            assert len(server._clients) == 0
            server.close()
            await server.wait_closed()

        run(main)
