"""FastAPI under uvicorn, asked by httpx."""

import asyncio
import contextlib
import contextvars
import threading

import fastapi
import fastapi.responses
import httpx
import pydantic
import pytest

import servers

REQUEST = contextvars.ContextVar("REQUEST")


class Item(pydantic.BaseModel):
    name: str
    price: float


def make_app(events):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        events.append("started")
        yield {"shared": asyncio.Lock()}
        events.append("stopped")

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def count(request, call_next):
        REQUEST.set(request.url.path)
        response = await call_next(request)
        response.headers["x-path"] = REQUEST.get()
        return response

    async def resource():
        events.append("opened")
        yield "resource"
        events.append("closed")

    @app.get("/loop")
    async def loop():
        return servers.loop_name()

    @app.post("/items/{number}")
    async def item(number: int, item: Item, wanted: bool = False):
        await asyncio.sleep(0.001)
        return {"number": number, "wanted": wanted, **item.model_dump()}

    @app.get("/thread")
    def thread():
        return threading.current_thread() is not threading.main_thread(), REQUEST.get()

    @app.get("/resource")
    async def use(value=fastapi.Depends(resource)):
        return value

    @app.get("/later")
    async def later(tasks: fastapi.BackgroundTasks):
        tasks.add_task(events.append, "done in a thread")
        return "soon"

    @app.get("/stream")
    async def stream():
        async def parts():
            for number in range(50):
                await asyncio.sleep(0)
                yield str(number) * 1000

        return fastapi.responses.StreamingResponse(parts())

    @app.post("/upload")
    async def upload(file: fastapi.UploadFile):
        content = await file.read()
        return file.filename, len(content), sum(content)

    @app.get("/locked")
    async def locked(request: fastapi.Request):
        async with request.state.shared:
            await asyncio.sleep(0.001)
        return True

    @app.websocket("/echo")
    async def echo(websocket: fastapi.WebSocket):
        await websocket.accept()
        with contextlib.suppress(fastapi.WebSocketDisconnect):
            while True:
                await websocket.send_json({"got": await websocket.receive_json()})

    return app


@pytest.fixture
def ask(run):
    """ask(question, ...): the result of `question(client, events)` with the application served."""

    def ask(question):
        events = []

        async def main():
            async with servers.asgi(make_app(events)) as url, httpx.AsyncClient(base_url=url) as client:
                return await question(client, events)

        result = run(main)
        assert events[0] == "started" and events[-1] == "stopped"
        return result

    return ask


def test_runs_on_the_loop(ask, loop_name):
    async def question(client, events):
        return (await client.get("/loop")).json()

    assert ask(question) == loop_name


def test_validated_json(ask):
    async def question(client, events):
        body = {"name": "x", "price": 1.5}
        good = await client.post("/items/7?wanted=yes", json=body)
        bad = await client.post("/items/seven", json=body)
        return good.json(), good.headers["x-path"], bad.status_code

    expected = {"number": 7, "wanted": True, "name": "x", "price": 1.5}
    assert ask(question) == (expected, "/items/7", 422)


def test_plain_functions_run_in_threads(ask):
    async def question(client, events):
        answers = await asyncio.gather(*(client.get("/thread") for _ in range(20)))
        return {tuple(answer.json()) for answer in answers}

    assert ask(question) == {(True, "/thread")}


def test_dependency_and_background_task(ask):
    async def question(client, events):
        assert (await client.get("/resource")).json() == "resource"
        assert (await client.get("/later")).json() == "soon"
        while "done in a thread" not in events:
            await asyncio.sleep(0.001)
        return events[1:]

    assert ask(question) == ["opened", "closed", "done in a thread"]


def test_streamed_both_ways(ask):
    async def question(client, events):
        streamed = (await client.get("/stream")).text
        content = bytes(range(256)) * 8000
        files = {"file": ("name.bin", content)}
        return streamed, (await client.post("/upload", files=files)).json()

    streamed, uploaded = ask(question)
    assert streamed == "".join(str(number) * 1000 for number in range(50))
    assert uploaded == ["name.bin", 2_048_000, 8000 * sum(range(256))]


def test_many_at_once(ask):
    async def question(client, events):
        answers = await asyncio.gather(*(client.get("/locked") for _ in range(60)))
        return [answer.json() for answer in answers]

    assert ask(question) == [True] * 60


def test_websocket(ask):
    import websockets

    async def question(client, events):
        url = str(client.base_url.join("/echo")).replace("http", "ws", 1)
        async with websockets.connect(url) as socket:
            await socket.send('{"n": 1}')
            first = await socket.recv()
            await socket.send("[2]")
            return first, await socket.recv()

    assert ask(question) == ('{"got":{"n":1}}', '{"got":[2]}')
