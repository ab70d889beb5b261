"""aiohttp, both ends: plain, over TLS, over a Unix socket, websockets; and a program with Ctrl-C."""

import asyncio
import contextlib
import shutil

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import servers


async def about(request):
    return web.json_response({"loop": servers.loop_name(), "path": request.path})


async def mirror(request):
    return web.Response(body=await request.read())


async def numbers(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(200):
        await response.write(b"%d\n" % number * 500)
    return response


async def upload(request):
    """A multipart form, part by part."""
    found = {}
    async for part in await request.multipart():
        found[part.name] = len(await part.read())
    return web.json_response(found)


async def slow(request):
    request.app["started"].set()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        request.app["cancelled"].set()
        raise


async def shout(request):
    socket = web.WebSocketResponse(heartbeat=10)
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data[::-1])
    return socket


@contextlib.asynccontextmanager
async def serving(file, ssl_context=None, unix=None):
    """The application; gives its URL and the application."""
    app = web.Application(client_max_size=2**24)
    app["started"], app["cancelled"] = asyncio.Event(), asyncio.Event()
    app.add_routes(
        [
            web.get("/about", about),
            web.post("/mirror", mirror),
            web.get("/numbers", numbers),
            web.post("/upload", upload),
            web.get("/slow", slow),
            web.get("/shout", shout),
            web.get("/file", lambda request: _file(file)),
        ]
    )
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    if unix:
        site = web.UnixSite(runner, unix)
    else:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
    await site.start()
    try:
        scheme = "https" if ssl_context else "http"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}" if not unix else "http://localhost", app
    finally:
        await runner.cleanup()


async def _file(file):
    return web.FileResponse(file)


@pytest.fixture
def file(tmp_path):
    """A file to send: over plain TCP by the kernel's sendfile."""
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(range(256)) * 8000)
    return file


async def talk(url, file, connector, loop_name):
    """What every connection must be able to do."""
    async with aiohttp.ClientSession(url, connector=connector) as session:
        async with session.get("/about") as answer:
            assert await answer.json() == {"loop": loop_name, "path": "/about"}
        body = bytes(range(256)) * 4000
        async with session.post("/mirror", data=body) as answer:
            assert await answer.read() == body
        async with session.get("/numbers") as answer:
            lines = [line async for line in answer.content]
            assert len(lines) == 100_000 and lines[-1] == b"199\n"
        async with session.get("/file") as answer:
            assert await answer.read() == file.read_bytes()
        async with session.get("/file", headers={"Range": "bytes=254-257"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"\xfe\xff\x00\x01")
        form = aiohttp.FormData()
        form.add_field("text", "x" * 1000)
        form.add_field("file", file.open("rb"), filename="file.bin")
        async with session.post("/upload", data=form) as answer:
            assert await answer.json() == {"text": 1000, "file": 2_048_000}
        answers = await asyncio.gather(*(session.post("/mirror", data=b"%d" % n) for n in range(60)))
        assert [await answer.read() for answer in answers] == [b"%d" % n for n in range(60)]
        async with session.ws_connect("/shout") as socket:
            await socket.send_str("a" * 100_000)
            assert await socket.receive_str() == "A" * 100_000
            await socket.send_bytes(b"abc")
            assert await socket.receive_bytes() == b"cba"
            await socket.close()
            assert socket.close_code == 1000


def test_plain(run, file, loop_name):
    async def main():
        async with serving(file) as (url, _):
            await talk(url, file, aiohttp.TCPConnector(limit=20), loop_name)

    run(main)


def test_tls(run, file, server_tls, client_tls, loop_name):
    async def main():
        async with serving(file, server_tls) as (url, _):
            await talk(url, file, aiohttp.TCPConnector(ssl=client_tls, limit=20), loop_name)
            # Without the authority's certificate nobody is trusted.
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(url)

    run(main)


def test_unix_socket(run, file, tmp_path, loop_name):
    async def main():
        path = str(tmp_path / "web.sock")
        async with serving(file, unix=path) as (url, _):
            await talk(url, file, aiohttp.UnixConnector(path), loop_name)

    run(main)


def test_timeout_and_cancellation(run, file):
    """A client that leaves cancels the handler of its request."""

    async def main():
        async with serving(file) as (url, app), aiohttp.ClientSession(url) as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get("/slow", timeout=aiohttp.ClientTimeout(total=0.02))
            app["started"].clear()
            app["cancelled"].clear()
            request = asyncio.ensure_future(_get(session, "/slow"))
            await app["started"].wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await app["cancelled"].wait()
            async with session.get("/about") as answer:
                assert answer.status == 200

    run(main)


async def _get(session, path):
    async with session.get(path) as answer:
        return await answer.read()


def test_refused(run):
    async def main():
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://127.0.0.1:{servers.free_port()}")

    run(main)


def test_tasks(run, way, task_name):
    """aiohttp makes its tasks by asyncio.Task(...): after an install these are aioxide's as well."""

    async def about(request):
        return web.Response(text=servers.task_name())

    async def main():
        app = web.Application()
        app.router.add_get("/", about)
        async with TestClient(TestServer(app)) as client:
            return await (await client.get("/")).text()

    assert run(main) in ({"_asyncio", task_name} if way == "factory" else {task_name})


def test_the_test_utilities(run, loop_name):
    """TestServer and TestClient, as most suites of aiohttp programs use them."""
    async def main():
        app = web.Application()
        app.router.add_get("/about", about)
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/about")
            return (await answer.json())["loop"]

    assert run(main) == loop_name


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_run_app_until_interrupted(way, tmp_path, loop_name, signal):
    """web.run_app makes no loop factory's loop: it is given one, or takes asyncio's own."""
    import signal as signals
    import urllib.request

    port = servers.free_port()
    (tmp_path / "web.py").write_text(PROGRAM.format(port=port, way=way))
    shutil.copy(servers.HERE / "servers.py", tmp_path)
    words = ["-m", "aioxide"] if way == "runner" else []
    with servers.Program([*words, "web.py"], tmp_path) as program:
        program.until(lambda: servers.answers(port))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
            assert answer.read().decode() == loop_name
        program.process.send_signal(getattr(signals, signal))
        assert program.ended() == 0
    assert "cleaned up" in program.output
    assert "Traceback" not in program.output and "ResourceWarning" not in program.output


PROGRAM = """\
import asyncio

way, loop = "{way}", None
if way == "install":
    import aioxide
    aioxide.install()
elif way == "factory":
    import aioxide
    loop = aioxide.new_event_loop()

from aiohttp import web
import servers

async def about(request):
    return web.Response(text=servers.loop_name())

async def cleanup(app):
    print("cleaned up")

app = web.Application()
app.router.add_get("/", about)
app.on_cleanup.append(cleanup)
web.run_app(app, host="127.0.0.1", port={port}, loop=loop)
"""
