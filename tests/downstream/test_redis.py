"""redis-py's asyncio client against redis-server: TCP, TLS, Unix socket, publish and subscribe."""

import asyncio

import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, TimeoutError, WatchError

import servers

AT_ONCE = Retry(NoBackoff(), 1)


@pytest.fixture(params=["tcp", "tls", "unix"])
def connect(request, redis_server, certificates):
    """connect(...): a client, by each way that a server can be reached."""
    port, tls_port, path = redis_server
    options = {
        "tcp": {"host": "127.0.0.1", "port": port},
        "tls": {
            "host": "localhost",
            "port": tls_port,
            "ssl": True,
            "ssl_ca_certs": str(certificates / "authority.pem"),
        },
        "unix": {"unix_socket_path": str(path)},
    }[request.param]
    # By default a command without an answer after 5 seconds is sent again: a slow machine counts twice.
    patient = {"socket_timeout": None, "socket_connect_timeout": None}
    return lambda **more: redis.Redis(decode_responses=True, **options, **patient, **more)


def test_commands(run, connect):
    async def main():
        async with connect() as client:
            await client.flushall()
            assert await client.set("name", "value") and await client.get("name") == "value"
            large = "x" * 2_000_000
            await client.set("large", large)
            assert await client.get("large") == large
            await client.hset("hash", mapping={"a": 1, "b": 2})
            assert await client.hgetall("hash") == {"a": "1", "b": "2"}
            assert [key async for key in client.scan_iter("h*")] == ["hash"]
            with pytest.raises(redis.ResponseError):
                await client.incr("hash")
            assert await client.eval("return redis.call('get', KEYS[1])", 1, "name") == "value"

    run(main)


def test_many_at_once(run, connect):
    async def main():
        async with connect(max_connections=20) as client:
            await client.delete("counter")
            counted = await asyncio.gather(*(client.incr("counter") for _ in range(20)))
            assert sorted(counted) == list(range(1, 21))

    run(main)


def test_pipelines(run, connect):
    async def main():
        async with connect() as client:
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(1000):
                    pipeline.set(f"key:{number}", number)
                    pipeline.get(f"key:{number}")
                results = await pipeline.execute()
            assert results[1::2] == [str(number) for number in range(1000)]
            async with client.pipeline() as pipeline:
                await pipeline.watch("key:1")
                await client.set("key:1", "changed")
                pipeline.multi()
                pipeline.set("key:1", "lost")
                with pytest.raises(WatchError):
                    await pipeline.execute()
            assert await client.get("key:1") == "changed"

    run(main)


def test_publish_and_subscribe(run, connect):
    async def main():
        async with connect() as client, client.pubsub() as subscriber:
            await subscriber.subscribe("news")
            received = []

            async def read():
                async for message in subscriber.listen():
                    if message["type"] == "message":
                        received.append(message["data"])
                        if message["data"] == "end":
                            return

            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                while not (await client.pubsub_numsub("news"))[0][1]:
                    await asyncio.sleep(0.001)
                for word in ("one", "two", "end"):
                    await client.publish("news", word)
            assert received == ["one", "two", "end"]

    run(main)


def test_blocking_command(run, connect):
    """Woken by another client; given up in time; cancelled, after which the client is usable."""

    async def main():
        async with connect() as client:
            await client.delete("queue")
            waiting = asyncio.create_task(client.blpop("queue", timeout=30))
            await asyncio.sleep(0.01)
            await client.rpush("queue", "job")
            assert tuple(await waiting) == ("queue", "job")
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.02):
                    await client.blpop("queue", timeout=30)
            waiting = asyncio.create_task(client.blpop("queue", timeout=30))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await client.ping()

    run(main)


def test_lock(run, connect):
    async def main():
        async with connect() as client:
            order = []

            async def worker(number):
                async with client.lock("lock", sleep=0.002):
                    order.append(number)
                    await asyncio.sleep(0.001)
                    order.append(number)

            await asyncio.gather(*(worker(number) for number in range(5)))
            assert order[::2] == order[1::2] and sorted(order[::2]) == list(range(5))

    run(main)


def test_nobody_there(run):
    async def main():
        async with redis.Redis(port=servers.free_port(), retry=AT_ONCE) as client:
            with pytest.raises(ConnectionError):
                await client.ping()

    run(main)


def test_silent_server(run):
    async def main():
        async def connected(reader, writer):
            await reader.read()
            writer.close()

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with redis.Redis(port=port, socket_timeout=0.05, retry=AT_ONCE) as client:
                with pytest.raises(TimeoutError):
                    await client.ping()

    run(main)
