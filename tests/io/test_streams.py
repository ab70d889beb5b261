"""asyncio's StreamReader and StreamWriter over the loop's transports."""

import asyncio
import os
import socket
import sys

import pytest

from peers import receive, settle, socket_pair


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


async def opened(family, **options):
    ours, theirs = socket_pair(family)
    reader, writer = await asyncio.open_connection(sock=ours, **options)
    return reader, writer, theirs


async def close(writer, peer):
    writer.close()
    await writer.wait_closed()
    peer.close()
    await asyncio.sleep(0)


def test_reading(agree, family):
    async def scenario(case):
        reader, writer, peer = await opened(family)
        peer.send(b"one\ntwo\nthree four;rest")
        case.record(await reader.readline(), await reader.readuntil(b"\n"))
        case.record(await reader.readexactly(5), await reader.readuntil(b";"))
        case.record(await reader.read(2), reader.at_eof())
        case.loop.call_later(0.001, peer.send, b" and more")
        case.record(await reader.readexactly(6))
        case.loop.call_later(0.001, peer.close)
        case.record(await reader.read(), reader.at_eof(), await reader.read(), await reader.read(1))
        case.record(await reader.readline())
        with case.catch():
            await reader.readexactly(1)
        with case.catch():
            await reader.readuntil()
        await close(writer, peer)

    assert agree(scenario)[0] == (b"one\n", b"two\n")


def test_limits(agree, family):
    async def scenario(case):
        reader, writer, peer = await opened(family, limit=100)
        await case.loop.sock_sendall(peer, b"x" * 150 + b"\n" + b"short\n" + b"y" * 1000)
        with case.catch():
            await reader.readline()
        case.record(await reader.readline())
        with case.catch():
            await reader.readuntil(b"\n")
        case.record(len(await reader.readexactly(1000)))
        await close(writer, peer)

    record = agree(scenario)
    assert record[0][1][0] == "ValueError" and record[1] == (b"short\n",)


def test_writing(agree, family):
    async def scenario(case):
        reader, writer, peer = await opened(family)
        writer.write(b"hello ")
        writer.writelines([b"wo", b"rld"])
        await writer.drain()
        case.record(await receive(peer, 11), writer.can_write_eof(), writer.is_closing())
        data = os.urandom(3_000_000)
        reading = case.loop.create_task(receive(peer, len(data)))
        for start in range(0, len(data), 100_000):
            writer.write(data[start : start + 100_000])
            await writer.drain()
        case.record(await reading == data)
        writer.write_eof()
        case.record(await receive(peer))
        case.record(writer.get_extra_info("peername") == peer.getsockname())
        writer.close()
        case.record(writer.is_closing())
        await writer.wait_closed()
        peer.close()

    assert agree(scenario)[0] == (b"hello world", True, False)


def test_drain_waits_for_the_peer(run, family):
    async def main():
        reader, writer, peer = await opened(family)
        writer.write(b"x" * 10_000_000)
        draining = asyncio.create_task(writer.drain())
        others = [asyncio.create_task(writer.drain()) for _ in range(3)]
        await settle()
        assert not draining.done()
        await receive(peer, 10_000_000)
        await asyncio.gather(draining, *others)
        await close(writer, peer)

    run(main)


def test_drain_after_a_reset(agree):
    async def scenario(case):
        reader, writer, peer = await opened("tcp")
        writer.write(b"x" * 10_000_000)
        draining = case.loop.create_task(writer.drain())
        await settle()
        peer.close()
        try:
            await draining
        except OSError as error:
            case.record(isinstance(error, ConnectionError))
        with case.catch("read"):
            await reader.read()
        try:
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            case.record(isinstance(error, ConnectionError))

    assert agree(scenario)[0] == (True,)


@pytest.mark.parametrize("line", [b"x" * 64, b"x" * 10_000, b"x" * 60_000])
def test_echo(run, family, line, tmp_path):
    async def main():
        async def echo(reader, writer):
            while data := await reader.readline():
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            ended.set()

        async def client(connect, *where):
            reader, writer = await connect(*where)
            for _ in range(20):
                writer.write(line + b"\n")
                await writer.drain()
                assert await reader.readline() == line + b"\n"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

        ended = asyncio.Event()
        if family == "unix":
            path = str(tmp_path / "socket")
            server = await asyncio.start_unix_server(echo, path)
            await client(asyncio.open_unix_connection, path)
        else:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            await client(asyncio.open_connection, *server.sockets[0].getsockname())
        await ended.wait()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)

    run(main)


def test_many_clients_at_once(run):
    async def main():
        handled = 0

        async def handle(reader, writer):
            nonlocal handled
            handled += 1
            writer.write((await reader.readline()).upper())
            writer.close()
            await writer.wait_closed()

        async def client(number):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"client %d\n" % number)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()
        answers = await asyncio.gather(*(client(number) for number in range(150)))
        assert answers == [b"CLIENT %d\n" % number for number in range(150)]
        assert handled == 150
        server.close()
        await server.wait_closed()
        await settle()

    run(main)


if sys.version_info >= (3, 12):
    # 3.11 reports when the task is collected

    def test_a_failing_handler_is_reported(agree):
        async def scenario(case):
            async def handle(reader, writer):
                raise ValueError("in the handler")

            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            case.record(await asyncio.wait_for(reader.read(), 10))
            writer.close()
            await writer.wait_closed()
            server.close()
            await settle()

        record = agree(scenario)
        assert record[0][2] == ("ValueError", "in the handler") and (b"",) in record


def test_cancelled_reads_lose_no_byte(run, family):
    async def main():
        reader, writer, peer = await opened(family)
        data = os.urandom(20_000)
        received = bytearray()

        async def send():
            for start in range(0, len(data), 100):
                peer.send(data[start : start + 100])
                await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        while len(received) < len(data):
            try:
                async with asyncio.timeout(0.0005):
                    received += await reader.read(150)
            except TimeoutError:
                pass
        await sending
        assert received == data
        await close(writer, peer)

    run(main)


def test_a_stream_reader_by_hand(run, family):
    """StreamReaderProtocol over create_connection, and set_protocol to it midway."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair(family)
        reader = asyncio.StreamReader(limit=1000)
        connect = loop.create_unix_connection if family == "unix" else loop.create_connection
        transport, protocol = await connect(
            lambda: asyncio.StreamReaderProtocol(reader), sock=ours
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        theirs.send(b"x" * 5000)
        await settle()
        assert not transport.is_reading()
        assert await reader.readexactly(5000) == b"x" * 5000
        assert transport.is_reading()
        await close(writer, theirs)

    run(main)


def test_closed_by_the_peer(agree, family):
    async def scenario(case):
        reader, writer, peer = await opened(family)
        peer.shutdown(socket.SHUT_WR)
        case.record(await reader.read(), reader.at_eof(), writer.is_closing())
        writer.write(b"half-open")
        await writer.drain()
        case.record(await receive(peer, 9))
        await close(writer, peer)

    assert agree(scenario)[0] == (b"", True, False)


def test_attributes_of_a_protocol(agree):
    class Between(asyncio.streams.FlowControlMixin):
        def __init__(self, loop=None):
            super().__init__(loop=loop)
            self.between = True

    class Own(asyncio.StreamReaderProtocol, Between):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.own = True

    async def scenario(case):
        reader = asyncio.StreamReader(loop=case.loop)
        protocols = [
            asyncio.StreamReaderProtocol(reader, loop=case.loop),
            asyncio.StreamReaderProtocol(reader, print),
            asyncio.StreamReaderProtocol(stream_reader=None, client_connected_cb=print),
            Own(reader, print, loop=case.loop),
        ]
        for protocol in protocols:
            waiters, closed = protocol._drain_waiters, protocol._closed
            case.record(type(waiters), list(waiters), closed.done(), closed.get_loop() is case.loop)
            case.record(protocol._drain_waiters is waiters, protocol._closed is closed)
            case.record(protocol._stream_reader is reader, hasattr(protocol, "between"))
            case.record(protocol._client_connected_cb, protocol._task, protocol._transport)
            case.record(protocol._over_ssl, protocol._reject_connection)
            case.record(getattr(protocol, "_stream_writer", "none"), protocol._source_traceback)
            case.record(getattr(protocol, "_strong_reader", "none") is reader)
            waiter = case.loop.create_future()
            protocol._drain_waiters = asyncio.streams.collections.deque([waiter])
            protocol.pause_writing()
            protocol.connection_lost(None)
            case.record(waiter.done(), closed.result(), getattr(protocol, "_stream_writer", "none"))
            for name in ("_closed", "_drain_waiters", "_strong_reader", "_stream_writer"):
                setattr(protocol, name, 5)
                case.record(getattr(protocol, name))
                delattr(protocol, name)
                with case.catch():
                    getattr(protocol, name)
        with case.catch():
            asyncio.StreamReaderProtocol()
        with case.catch():
            asyncio.StreamReaderProtocol(object(), loop=case.loop)

    agree(scenario)
