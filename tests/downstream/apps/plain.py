"""A plain ASGI application without a framework: what it tells, test_uvicorn.py asks."""

import os
import time

import servers

VERSION = 1


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "websocket":
        return await echo(receive, send)
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/echo":
        # In many parts, above the high-water mark.
        answer = [body[place : place + 50_000] for place in range(0, len(body), 50_000)]
    elif scope["path"] == "/busy":
        time.sleep(0.05)  # so that one of several workers gets the next request
        answer = [str(os.getpid()).encode()]
    else:
        answer = [f"{scope['path']} {VERSION} {os.getpid()} {servers.loop_name()}".encode()]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"plain")]})
    for part in answer:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def lifespan(receive, send):
    while True:
        event = (await receive())["type"]
        print(event, servers.loop_name(), flush=True)
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": message.get("text")})
