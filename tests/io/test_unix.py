"""create_unix_connection and create_unix_server: paths, given sockets, arguments."""

import asyncio
import os
import socket
import stat
import sys

import pytest

from peers import Journal, settle, socket_pair, until


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unix")


async def close(*protocols):
    for protocol in protocols:
        if protocol.transport:
            protocol.transport.close()
        await protocol.lost
    await asyncio.sleep(0)


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path], ids=["str", "bytes", "Path"])
def test_paths(agree, folder, kind):
    async def scenario(case):
        path = kind(folder / f"{case.aio.__name__}.sock")
        made = []
        server = await case.loop.create_unix_server(lambda: made.append(Journal()) or made[-1], path)
        case.record(stat.S_ISSOCK(os.stat(path).st_mode))
        transport, client = await case.loop.create_unix_connection(Journal, path)
        await until(lambda: made and made[0].transport)
        case.record(made[0].transport.get_extra_info("sockname") == os.fspath(os.fsdecode(path)))
        transport.write(b"hello")
        await until(lambda: made[0].received)
        case.record(bytes(made[0].received), transport.get_extra_info("sockname"))
        await close(client, made.pop())
        server.close()
        await server.wait_closed()
        case.record("left behind", os.path.exists(path))

    record = agree(scenario)
    assert record[0] == (True,) and record[2][0] == b"hello"


def test_abstract_addresses(agree):
    async def scenario(case):
        address = f"\0aioxide-tests-{os.getpid()}-{case.aio.__name__}"
        server = await case.loop.create_unix_server(Journal, address)
        transport, client = await case.loop.create_unix_connection(Journal, address)
        case.record(transport.get_extra_info("peername") == address.encode())
        await close(client)
        server.close()
        await settle()

    agree(scenario)


def test_stale_and_foreign_files(agree, folder):
    async def scenario(case):
        path = str(folder / case.aio.__name__)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        server = await case.loop.create_unix_server(Journal, path)
        case.record("a stale socket is replaced", server.is_serving())
        server.close()
        await server.wait_closed()
        with open(path + ".txt", "w") as file:
            file.write("not a socket")
        try:
            await case.loop.create_unix_server(Journal, path + ".txt")
        except OSError as error:
            case.record(error.errno, str(error).replace(path, "PATH"))
        for missing in (path + ".none", str(folder)):
            try:
                await case.loop.create_unix_connection(Journal, missing)
            except OSError as error:
                case.record(type(error))

    record = agree(scenario)
    assert record[0][1] is True and record[2] == ("FileNotFoundError",)


def test_wrong_arguments(agree):
    async def scenario(case):
        connect, serve = case.loop.create_unix_connection, case.loop.create_unix_server
        ours, theirs = socket_pair("unix")
        with (
            ours,
            theirs,
            socket.socket() as tcp,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
        ):
            for call in (
                lambda: connect(Journal),
                lambda: connect(Journal, "path", sock=ours),
                lambda: connect(Journal, sock=tcp),
                lambda: connect(Journal, sock=datagram),
                lambda: connect(Journal, "path", server_hostname="x"),
                lambda: connect(Journal, "path", ssl=True),
                lambda: connect(Journal, "path", ssl_handshake_timeout=1),
                lambda: connect(Journal, "path", ssl_shutdown_timeout=1),
                lambda: connect(Journal, "x" * 500),
                lambda: connect(Journal, 12),
                lambda: serve(Journal),
                lambda: serve(Journal, "path", sock=ours),
                lambda: serve(Journal, sock=tcp),
                lambda: serve(Journal, sock=datagram),
                lambda: serve(Journal, "path", ssl=True),
                lambda: serve(Journal, "path", ssl_handshake_timeout=1),
                lambda: serve(Journal, "x" * 500),
            ):
                with case.catch():
                    await call()

    record = agree(scenario)
    assert all(entry[1] is not None for entry in record)


def test_given_sockets(agree, folder):
    async def scenario(case):
        listening = socket.socket(socket.AF_UNIX)
        path = str(folder / case.aio.__name__)
        listening.bind(path)
        server = await case.loop.create_unix_server(Journal, sock=listening)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        transport, client = await case.loop.create_unix_connection(Journal, sock=sock)
        case.record(transport.get_extra_info("peername") == path, sock.gettimeout())
        await close(client)
        server.close()
        await settle()
        case.record(sock.fileno(), listening.fileno())

    assert agree(scenario)[-1] == (-1, -1)


@pytest.mark.parametrize("steps", range(5))
def test_a_cancelled_connection_leaves_nothing(run, folder, steps):
    async def main():
        loop = asyncio.get_running_loop()
        made = []
        path = str(folder / "socket")
        server = await loop.create_unix_server(lambda: made.append(Journal()) or made[-1], path)
        task = asyncio.create_task(loop.create_unix_connection(Journal, path))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await close(task.result()[1])
        await settle()
        await close(*made)
        server.close()

    run(main)


if sys.version_info >= (3, 13):

    def test_the_socket_file_is_removed(agree, folder):
        async def scenario(case):
            path = str(folder / case.aio.__name__)
            server = await case.loop.create_unix_server(Journal, path)
            case.record(os.path.exists(path))
            server.close()
            await server.wait_closed()
            case.record(os.path.exists(path))
            server = await case.loop.create_unix_server(Journal, path, cleanup_socket=False)
            server.close()
            await server.wait_closed()
            case.record(os.path.exists(path))
            server = await case.loop.create_unix_server(Journal, path)
            os.unlink(path)
            with open(path, "w"):
                pass
            server.close()
            await server.wait_closed()
            case.record("another's file", os.path.exists(path))

        assert agree(scenario) == [(True,), (False,), (True,), ("another's file", True)]

    def test_removing_it_is_no_blocking_call_of_the_program(agree, folder, monkeypatch):
        # As blockbuster watches for them: from the file of asyncio's loop they are allowed.
        def guard(call):
            def guarded(*args, **options):
                frame = sys._getframe()
                while frame and frame.f_code.co_filename != asyncio.unix_events.__file__:
                    frame = frame.f_back
                assert frame, f"{call.__name__} blocks"
                return call(*args, **options)

            return guarded

        async def scenario(case):
            path = str(folder / case.aio.__name__)
            server = await case.loop.create_unix_server(Journal, path)
            with monkeypatch.context() as patch:
                patch.setattr(os, "stat", guard(os.stat))
                patch.setattr(os, "unlink", guard(os.unlink))
                server.close()
            await server.wait_closed()
            case.record(os.path.exists(path))

        assert agree(scenario) == [(False,)]
