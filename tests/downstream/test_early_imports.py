"""Libraries that were imported, and took what they need out of asyncio, before the install."""

import shutil

import servers

PROGRAM = """\
import asyncio, gc, sys
import aiohttp, aiohttp.web, aiosqlite, anyio, asyncpg, fastapi, grpc.aio, httpx, motor.motor_asyncio
import psycopg, pymongo, redis.asyncio, tornado.httpserver, uvicorn, websockets

# Used once before, too: what was cached then is asyncio's.
asyncio.run(anyio.sleep(0.001))

import aioxide
aioxide.install()

import mongo, servers


async def main():
    assert servers.loop_name() == "aioxide" == servers.task_name()
    app = fastapi.FastAPI()
    app.get("/")(about)
    async with servers.asgi(app) as url, httpx.AsyncClient() as client:
        print("fastapi", (await client.get(url)).json())
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            print("aiohttp", await answer.json())
    async with websockets.serve(shout, "127.0.0.1", 0) as server:
        async with websockets.connect("ws://127.0.0.1:%d" % server.sockets[0].getsockname()[1]) as socket:
            await socket.send("a")
            print("websockets", await socket.recv())
    with mongo.serving() as server:
        client = motor.motor_asyncio.AsyncIOMotorClient(server.url)
        print("motor", await client.admin.command("ping"))
        client.close()
        async with pymongo.AsyncMongoClient(server.url) as client:
            print("pymongo", await client.admin.command("ping"))
    async with aiosqlite.connect(":memory:") as connection:
        print("aiosqlite", await (await connection.execute("select 1")).fetchone())
    redis_port, *postgres = sys.argv[1:]
    async with redis.asyncio.Redis(port=int(redis_port)) as client:
        print("redis", await client.ping())
    url = "postgresql://{2}:{3}@{0}:{1}/{4}".format(*postgres)
    connection = await asyncpg.connect(url)
    print("asyncpg", await connection.fetchval("select 1"))
    await connection.close()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        print("psycopg", await (await connection.execute("select 1")).fetchone())
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
        print("anyio", await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(servers.loop_name)))


async def about():
    return servers.loop_name()

async def shout(socket):
    async for message in socket:
        await socket.send(message.upper())

asyncio.run(main())
gc.collect()
"""

EXPECTED = """\
fastapi aioxide
aiohttp aioxide
websockets A
motor {'ok': 1.0}
pymongo {'ok': 1.0}
aiosqlite (1,)
redis True
asyncpg 1
psycopg (1,)
anyio aioxide
"""


def test_early_imports(redis_server, postgres_server, tmp_path):
    arguments = [redis_server[0], *postgres_server.values()]
    (tmp_path / "program.py").write_text(PROGRAM)
    for name in ("servers.py", "mongo.py"):
        shutil.copy(servers.HERE / name, tmp_path)
    with servers.Program(["program.py", *arguments], tmp_path) as program:
        status = program.ended()
    assert (status, program.output) == (0, EXPECTED)

