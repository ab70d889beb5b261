"""StreamWriter, StreamReaderProtocol and what opens them, over sockets."""

import asyncio
import contextlib
import gc
import inspect
import os
import sys

import pytest

import aioxide
from peers import receive, settle, socket_pair, until
from tls_peers import client_context, server_context

OPENERS = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")


@pytest.fixture(params=["tcp", "unix", "tls"])
def kind(request):
    return request.param


async def served(case, handle, kind="tcp", tmp_path=None, **options):
    """A server, and how to connect to it."""
    aio = case.aio
    if kind == "unix":
        path = str(tmp_path / f"{aio.__name__}.sock")
        server = await aio.start_unix_server(handle, path, **options)
        return server, lambda **options: aio.open_unix_connection(path, **options)
    ssl = {"tcp": None, "tls": server_context()}[kind]
    server = await aio.start_server(handle, "127.0.0.1", 0, ssl=ssl, **options)
    address = server.sockets[0].getsockname()[:2]
    if ssl is not None:
        tls = {"ssl": client_context(), "server_hostname": "localhost"}
        return server, lambda **options: aio.open_connection(*address, **tls, **options)
    return server, lambda **options: aio.open_connection(*address, **options)


async def closed(writer):
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def opened(case):
    """A reader and a writer, and the socket at their other end."""
    ours, theirs = socket_pair("tcp")
    with theirs:
        reader, writer = await case.aio.open_connection(sock=ours)
        yield reader, writer, theirs
        if not writer.is_closing():
            await closed(writer)


async def ended(server):
    server.close()
    await asyncio.wait_for(server.wait_closed(), 10)
    await settle()


@pytest.mark.parametrize("handler", ["coroutine", "function"])
def test_echo(agree, kind, tmp_path, handler):
    async def scenario(case):
        async def echo(reader, writer):
            case.record(type(reader).__name__, type(writer).__name__)
            while data := await reader.read(100_000):
                writer.write(data)
                await writer.drain()
            await closed(writer)

        tasks = []

        def start(reader, writer):
            tasks.append(case.loop.create_task(echo(reader, writer)))

        handle = echo if handler == "coroutine" else start
        server, connect = await served(case, handle, kind, tmp_path)
        reader, writer = await connect(limit=2_000_000)
        case.record(writer.transport is writer._transport, writer.is_closing(),
                    writer.transport.get_protocol().__class__.__name__,
                    writer.get_extra_info("nothing", 5))
        for size in (1, 1000, 100_000, 1_000_000):
            line = os.urandom(size).replace(b"\n", b" ") + b"\n"
            writer.writelines([line[:10], line[10:]])
            draining = case.loop.create_task(writer.drain())
            case.record(await reader.readline() == line)
            await draining
        await closed(writer)
        case.record(writer.is_closing(), repr(reader.exception()))
        await asyncio.gather(*tasks)
        await ended(server)

    assert agree(scenario)[-1] == (True, "None")


def test_start_tls(agree):
    async def scenario(case):
        async def handle(reader, writer):
            case.record(await reader.readline())
            writer.write(b"go on\n")
            await writer.start_tls(server_context())
            case.record(writer.get_extra_info("sslcontext") is not None)
            writer.write(await reader.readline())
            await writer.drain()
            await reader.read()
            await closed(writer)

        server, connect = await served(case, handle)
        reader, writer = await connect()
        writer.write(b"start\n")
        case.record(await reader.readline())
        await writer.start_tls(client_context(), server_hostname="localhost")
        writer.write(b"secret\n")
        case.record(await reader.readline(), type(writer.transport).__name__.startswith("_SSL"))
        await closed(writer)
        await ended(server)

    agree(scenario)


def test_drain_waits_and_is_cancelled(agree):
    async def scenario(case):
        async with opened(case) as (reader, writer, theirs):
            protocol = writer.transport.get_protocol()
            await writer.drain()
            writer.write(b"x" * 10_000_000)
            case.record(protocol._paused)
            first, second, third = (case.loop.create_task(writer.drain()) for _ in range(3))
            await settle()
            case.record(len(protocol._drain_waiters))
            second.cancel("enough")
            with case.catch():
                await second
            case.record(len(protocol._drain_waiters), first.done(), third.done())
            await receive(theirs, 10_000_000)
            await asyncio.gather(first, third)
            case.record(len(protocol._drain_waiters), protocol._paused)

    agree(scenario)


def test_drain_after_the_end(agree):
    async def scenario(case):
        async with opened(case) as (reader, writer, theirs):
            writer.write(b"x" * 10_000_000)
            waiting = case.loop.create_task(writer.drain())
            await settle()
            theirs.close()
            for awaitable in (waiting, reader.read(), writer.wait_closed()):
                try:
                    await awaitable
                except ConnectionError:
                    case.record("a ConnectionError")
            try:
                await writer.drain()
            except ConnectionError:
                case.record("a ConnectionError")

        async with opened(case) as (reader, writer, theirs):
            writer.close()
            with case.catch():
                await writer.drain()
            case.record(reader.at_eof(), await reader.read())
            await writer.wait_closed()
            reader.set_exception(ValueError("from the reader"))
            with case.catch():
                await writer.drain()

    agree(scenario)


def test_drain_after_close_yields(agree):
    async def scenario(case):
        async with opened(case) as (_, writer, _):
            writer.close()
            coroutine = writer.drain()
            case.record(coroutine.send(None))
            with case.catch():
                coroutine.throw(KeyError("thrown"))
            coroutine = writer.drain()
            coroutine.send(None)
            coroutine.close()
            await writer.wait_closed()

    assert agree(scenario)[0] == (None,)


def test_overridden_protocol(agree):
    async def scenario(case):
        aio = case.aio

        class Loud(aio.StreamReaderProtocol):
            def data_received(self, data):
                case.record("data_received", data)
                super().data_received(data.upper())

            async def _drain_helper(self):
                case.record("drains")
                await super()._drain_helper()

            def connection_lost(self, error):
                case.record("lost", error)
                super().connection_lost(error)

        class Counting(aio.StreamReader):
            def feed_data(self, data):
                case.record("feed_data", data)
                super().feed_data(data)

        for protocol_class, reader_class in ((Loud, aio.StreamReader),
                                             (aio.StreamReaderProtocol, Counting)):
            ours, theirs = socket_pair("tcp")
            reader = reader_class(limit=100, loop=case.loop)
            transport, protocol = await case.loop.create_connection(
                lambda: protocol_class(reader, loop=case.loop), sock=ours)
            writer = aio.StreamWriter(transport, protocol, reader, case.loop)
            theirs.send(b"one\n")
            case.record(await reader.readline())
            writer.write(b"two")
            await writer.drain()
            protocol.data_received = lambda data: case.record("on the instance", data)
            transport.set_protocol(protocol)
            theirs.send(b"three")
            await settle()
            del protocol.data_received
            await closed(writer)
            theirs.close()

    agree(scenario)


def test_other_protocols(agree):
    """set_protocol() away from the stream and back to it."""

    async def scenario(case):
        async with opened(case) as (reader, writer, theirs):
            protocol = writer.transport.get_protocol()

            class Other(asyncio.Protocol):
                def data_received(self, data):
                    case.record("other", data)

            theirs.send(b"one\n")
            case.record(await reader.readline())
            writer.transport.set_protocol(Other())
            theirs.send(b"two\n")
            await settle()
            writer.transport.set_protocol(protocol)
            case.record(writer.transport.get_protocol() is protocol)
            theirs.send(b"three\n")
            case.record(await reader.readline())

    agree(scenario)


def test_a_reader_that_is_dropped(agree):
    async def scenario(case):
        ours, theirs = socket_pair("tcp")
        reader, writer = await case.aio.open_connection(sock=ours)
        protocol = writer.transport.get_protocol()
        writer._reader = None
        del reader
        gc.collect()
        case.record(protocol._stream_reader)
        theirs.send(b"for nobody")
        await settle()
        await writer.drain()
        await closed(writer)
        theirs.close()

    agree(scenario)


def test_paused_by_the_limit(agree, kind, tmp_path):
    async def scenario(case):
        async def handle(reader, writer):
            writer.write(b"x" * 300_000)
            await closed(writer)

        server, connect = await served(case, handle, kind, tmp_path)
        reader, writer = await connect(limit=1000)
        await until(lambda: reader._paused)
        case.record(writer.transport.is_reading())
        case.record(len(await reader.readexactly(250_000)), len(await reader.read()))
        await closed(writer)
        await ended(server)

    agree(scenario)


if sys.version_info >= (3, 12):
    # 3.11 reports when the task is collected

    @pytest.mark.parametrize("handler", ["coroutine", "function"])
    def test_a_failing_handler(agree, handler):
        async def scenario(case):
            async def fails(reader, writer):
                raise ValueError("in the handler")

            def fails_at_once(reader, writer):
                case.loop.call_soon(writer.close)
                raise ValueError("in the function")

            handle = fails if handler == "coroutine" else fails_at_once
            server, connect = await served(case, handle)
            reader, writer = await connect()
            case.record(await asyncio.wait_for(reader.read(), 10))
            await closed(writer)
            server.close()
            await settle()

        agree(scenario)


def test_a_cancelled_handler(agree):
    async def scenario(case):
        tasks = []

        async def waits(reader, writer):
            tasks.append(asyncio.current_task())
            try:
                await reader.readline()
            finally:
                writer.close()

        server, connect = await served(case, waits)
        reader, writer = await connect()
        await until(lambda: tasks)
        if sys.version_info >= (3, 12):  # 3.11 asks the task for its exception
            tasks[0].cancel()
        else:
            writer.write_eof()
        case.record(await reader.read())
        await closed(writer)
        await ended(server)

    agree(scenario)


def test_unclosed_writer(agree):
    async def scenario(case):
        ours, theirs = socket_pair("tcp")
        opened = await case.aio.open_connection(sock=ours)
        text = repr(opened[1])
        case.record(text)
        del opened
        gc.collect()
        await settle()
        theirs.close()

    agree(scenario)


def test_constructor(agree):
    async def scenario(case):
        async with opened(case) as (reader, writer, theirs):
            transport, protocol = writer.transport, writer._protocol
            for stream_reader in (None, reader, asyncio.StreamReader()):
                other = case.aio.StreamWriter(transport, protocol, reader=stream_reader, loop=case.loop)
                other.write(data=b"x")
                case.record(other._complete_fut.done(), other.can_write_eof())
            with case.catch():
                writer.write()
            with case.catch():
                writer.write("text")
            case.record(await receive(theirs, 3))
            await closed(writer)
            await writer.wait_closed()
            with case.catch(text=False):
                case.aio.StreamWriter(transport, protocol, object(), case.loop)

    agree(scenario)


def test_a_child_process(agree):
    async def scenario(case):
        if case.aio is aioxide:
            aioxide.install()
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read() * 2)",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
            assert type(child.stdout) is case.aio.StreamReader or case.aio is asyncio
            child.stdin.write(b"line\n" * 20_000)
            await child.stdin.drain()
            child.stdin.close()
            await child.stdin.wait_closed()
            case.record(await child.stdout.readline(), len(await child.stdout.read()))
            case.record(await child.wait())
        finally:
            aioxide.uninstall()

    assert agree(scenario)[0] == (b"line\n", 199_995)


def test_functions_look_like_asyncios():
    for name in OPENERS:
        ours, theirs = getattr(aioxide, name), getattr(asyncio, name)
        assert inspect.iscoroutinefunction(ours)
        assert inspect.signature(ours) == inspect.signature(theirs)
    for name in ("drain", "wait_closed", "start_tls"):
        ours = getattr(aioxide.StreamWriter, name)
        theirs = getattr(asyncio.StreamWriter, name)
        assert inspect.iscoroutinefunction(ours)
        assert inspect.signature(ours) == inspect.signature(theirs)
    for name in ("StreamReader", "StreamWriter", "StreamReaderProtocol"):
        assert issubclass(getattr(aioxide, name), getattr(asyncio, name))


def test_install_replaces_all_names():
    names = ("StreamReader", "StreamWriter", "StreamReaderProtocol", *OPENERS)
    before = {name: getattr(asyncio, name) for name in names}
    aioxide.install()
    try:
        for name in names:
            assert getattr(asyncio, name) is getattr(asyncio.streams, name)
            assert getattr(asyncio, name) is getattr(aioxide, name)
        assert asyncio.subprocess.streams.StreamReader is aioxide.StreamReader
    finally:
        aioxide.uninstall()
    assert {name: getattr(asyncio, name) for name in names} == before
    assert aioxide.StreamReader.__mro__[2] is asyncio.StreamReader


def test_early_importers_accept_native_objects(run):
    async def main():
        aioxide.install()
        try:
            native = asyncio.StreamReader()
        finally:
            aioxide.uninstall()
        assert isinstance(native, asyncio.StreamReader)
        ours, theirs = socket_pair("tcp")
        # asyncio's writer and protocol over a native reader
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(native, loop=loop), sock=ours)
        writer = asyncio.StreamWriter(transport, protocol, native, loop)
        theirs.send(b"line\n")
        assert await native.readline() == b"line\n"
        # and a native writer over asyncio's reader and protocol
        other = asyncio.StreamReader()
        protocol._stream_reader_wr = None
        native_writer = aioxide.StreamWriter(transport, protocol, other, loop)
        native_writer.write(b"back")
        await native_writer.drain()
        assert await receive(theirs, 4) == b"back"
        await closed(writer)
        await native_writer.wait_closed()
        theirs.close()

    run(main)
