"""The websockets library, both ends."""

import asyncio
import contextlib

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import broadcast, serve, unix_serve

import servers


async def shout(socket):
    async for message in socket:
        await socket.send(message.upper())


@contextlib.asynccontextmanager
async def serving(handler, **options):
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        scheme = "wss" if "ssl" in options else "ws"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_messages(run):
    async def main():
        async with serving(shout) as url, connect(url) as socket:
            for message in ("a", b"abc", "ü" * 100_000, b"x" * 900_000, ""):
                await socket.send(message)
                assert await socket.recv() == message.upper()
            await socket.send(part for part in ("one", "two"))
            assert await socket.recv() == "ONETWO"
            waited = await socket.ping()
            assert await waited >= 0

    run(main)


def test_tls(run, server_tls, client_tls):
    async def main():
        async with serving(shout, ssl=server_tls) as url, connect(url, ssl=client_tls) as socket:
            await socket.send("x" * 900_000)
            assert await socket.recv() == "X" * 900_000

    run(main)


def test_unix_socket(run, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        async with unix_serve(shout, path), websockets.unix_connect(path) as socket:
            await socket.send("hello")
            assert await socket.recv() == "HELLO"

    run(main)


def test_broadcast_to_many(run, loop_name):
    async def main():
        everybody = set()

        async def handler(socket):
            everybody.add(socket)
            await socket.wait_closed()

        async with serving(handler) as url, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(url)) for _ in range(40)]
            while len(everybody) < 40:
                await asyncio.sleep(0.001)
            broadcast(everybody, servers.loop_name())
            assert {await client.recv() for client in clients} == {loop_name}

    run(main)


def test_closing(run):
    """By the server with a code, by a lost connection, and with nobody there."""

    async def main():
        async def handler(socket):
            if await socket.recv() == "close":
                await socket.close(4000, "enough")
            else:
                socket.transport.abort()

        async with serving(handler) as url:
            async with connect(url) as socket:
                await socket.send("close")
                with pytest.raises(websockets.ConnectionClosedError) as closed:
                    await socket.recv()
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "enough")
            async with connect(url) as socket:
                await socket.send("abort")
                with pytest.raises(websockets.ConnectionClosedError) as closed:
                    await socket.recv()
                assert closed.value.rcvd is None
        with pytest.raises(OSError):
            await connect(url)

    run(main)


def test_server_closes_with_clients(run):
    async def main():
        async with serving(shout) as url:
            socket = await connect(url)
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.recv()
        assert socket.close_code == 1001

    run(main)
