"""Starlette under uvicorn, asked by httpx and websockets; its test client too."""

import asyncio
import contextlib

import httpx
import pytest
import websockets
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

import servers


class Stamp(BaseHTTPMiddleware):
    """The middleware with a task of its own for each request."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-stamp"] = request.method
        return response


async def about(request):
    return PlainTextResponse(servers.loop_name())


async def mirror(request):
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
    return JSONResponse({"total": total, "query": dict(request.query_params)})


async def failing(request):
    raise RuntimeError("on purpose")


async def shout(websocket):
    await websocket.accept(subprotocol=next(iter(websocket.scope["subprotocols"]), None))
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


@pytest.fixture
def app(tmp_path):
    (tmp_path / "page.html").write_text("<p>static</p>")
    (tmp_path / "large.bin").write_bytes(b"0123456789" * 50_000)
    app = Starlette(
        routes=[
            Route("/", about),
            Route("/mirror", mirror, methods=["POST"]),
            Route("/failing", failing),
            Route("/file", lambda request: FileResponse(tmp_path / "large.bin")),
            WebSocketRoute("/shout", shout),
            Mount("/static", StaticFiles(directory=tmp_path)),
        ],
        middleware=[Middleware(Stamp)],
    )
    app.state.folder = tmp_path
    return app


def test_requests(run, app, loop_name):
    async def main():
        async with servers.asgi(app) as url, httpx.AsyncClient(base_url=url) as client:
            about = await client.get("/")
            assert (about.text, about.headers["x-stamp"]) == (loop_name, "GET")
            mirror = await client.post("/mirror?a=1", content=b"x" * 300_000)
            assert mirror.json() == {"total": 300_000, "query": {"a": "1"}}
            assert (await client.get("/none")).status_code == 404
            assert (await client.get("/mirror")).status_code == 405

    run(main)


def test_files(run, app):
    async def main():
        async with servers.asgi(app) as url, httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/static/page.html")).text == "<p>static</p>"
            whole = await client.get("/file")
            assert whole.content == b"0123456789" * 50_000
            part = await client.get("/file", headers={"Range": "bytes=5-14"})
            assert (part.status_code, part.content) == (206, b"5678901234")

    run(main)


def test_error_in_a_route(run, app, caplog):
    async def main():
        async with servers.asgi(app) as url, httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/failing")).status_code == 500
            assert (await client.get("/")).status_code == 200

    run(main)
    assert [record.name for record in caplog.records if record.levelname == "ERROR"] == ["uvicorn.error"]


def test_client_leaves_while_streaming(run):
    """The response's generator is closed, and the server goes on."""
    ended = []

    async def parts():
        try:
            while True:
                yield b"x" * 10_000
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    background = []
    route = Route(
        "/", lambda request: StreamingResponse(parts(), background=BackgroundTask(background.append, 1))
    )

    async def main():
        async with servers.asgi(Starlette(routes=[route])) as url:
            async with httpx.AsyncClient() as client, client.stream("GET", url) as response:
                async for chunk in response.aiter_bytes():
                    assert set(chunk) == {ord("x")}
                    break
            async with asyncio.timeout(30):
                while not ended:
                    await asyncio.sleep(0.001)

    run(main)
    assert ended == [True]


@pytest.mark.parametrize("implementation", ["websockets-sansio", "websockets"])
def test_websocket(run, app, implementation):
    async def main():
        async with servers.asgi(app, ws=implementation) as url:
            address = url.replace("http", "ws", 1) + "/shout"
            async with websockets.connect(address, subprotocols=["shout"]) as socket:
                assert socket.subprotocol == "shout"
                for text in ("a", "b" * 70_000, "ü"):
                    await socket.send(text)
                    assert await socket.recv() == text.upper()
            with contextlib.suppress(ConnectionError):
                async with websockets.connect(address) as socket:
                    socket.transport.abort()

    run(main)


def test_the_test_client(app, loop_factory, loop_name):
    """It runs the application in a thread, on a loop that anyio makes."""
    from starlette.testclient import TestClient

    options = {"loop_factory": loop_factory} if loop_factory else {}
    with TestClient(app, backend_options=options) as client:
        assert client.get("/").text == loop_name
        with client.websocket_connect("/shout") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "HELLO"
