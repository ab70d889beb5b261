"""httpx's asynchronous client, against uvicorn, with HTTP/1.1 over plain TCP and over TLS."""

import asyncio

import httpx
import pytest

import servers


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    status, headers = 200, [(b"set-cookie", b"a=b")]
    if scope["path"] == "/redirect":
        status, headers = 307, [(b"location", b"/target")]
    if scope["path"] == "/slow":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for place in range(0, len(body), 10_000):
        await send({"type": "http.response.body", "body": body[place : place + 10_000], "more_body": True})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.fixture(params=["http", "https"])
def talk(request, run, certificates):
    """talk(conversation): `conversation(client)` over plain TCP and over TLS."""

    def talk(conversation):
        tls = {}
        if request.param == "https":
            tls = {"ssl_certfile": certificates / "server.pem", "ssl_keyfile": certificates / "server.key"}

        async def main():
            context = httpx.create_ssl_context(verify=str(certificates / "authority.pem"))
            async with (
                servers.asgi(app, lifespan="off", **tls) as url,
                httpx.AsyncClient(base_url=url, verify=context) as client,
            ):
                return await conversation(client)

        return run(main)

    return talk


def test_requests(talk):
    async def conversation(client):
        body = bytes(range(256)) * 2000
        answer = await client.post("/path", content=body)
        assert answer.content == body + b"/path"
        assert client.cookies["a"] == "b"
        assert answer.http_version == "HTTP/1.1"
        answer = await client.post("/redirect", content=b"x", follow_redirects=True)
        assert (answer.text, len(answer.history)) == ("x/target", 1)

    talk(conversation)


def test_streams(talk):
    async def parts():
        for number in range(100):
            await asyncio.sleep(0)
            yield b"%d" % (number % 10) * 5000

    async def conversation(client):
        async with client.stream("POST", "/end", content=parts()) as answer:
            return b"".join([chunk async for chunk in answer.aiter_bytes()])

    assert talk(conversation) == b"".join(b"%d" % (n % 10) * 5000 for n in range(100)) + b"/end"


def test_many_at_once(talk):
    async def conversation(client):
        answers = await asyncio.gather(*(client.post(f"/{n}", content=b"x") for n in range(80)))
        return [answer.text for answer in answers]

    assert talk(conversation) == [f"x/{n}" for n in range(80)]


def test_timeout_and_cancellation(talk):
    async def conversation(client):
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/slow", timeout=httpx.Timeout(60, read=0.02))
        request = asyncio.create_task(client.get("/slow"))
        await asyncio.sleep(0.02)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        # The pool lost no place by it.
        return (await client.get("/after")).text

    assert talk(conversation) == "/after"


def test_refused(run):
    async def main():
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{servers.free_port()}")

    run(main)
