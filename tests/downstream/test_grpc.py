"""gRPC's asyncio API, both ends: all four kinds of calls, TLS, errors, deadlines, cancellation.

gRPC's core has threads of its own and wakes the loop through a socket that the loop watches.
"""

import asyncio
import contextlib

import grpc
import pytest

import servers


class Service(grpc.GenericRpcHandler):
    """The handlers by name, with plain bytes for messages."""

    def __init__(self):
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    def service(self, details):
        return {
            "/Test/Double": grpc.unary_unary_rpc_method_handler(self.double),
            "/Test/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/Test/Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "/Test/Echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "/Test/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/Test/Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
        }.get(details.method)

    async def double(self, request, context):
        await asyncio.sleep(0)
        context.set_trailing_metadata([("loop", servers.loop_name())])
        return request * 2

    async def count(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    async def sum(self, requests, context):
        return b"%d" % sum([int(request) async for request in requests])

    async def echo(self, requests, context):
        async for request in requests:
            yield request

    async def fail(self, request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    async def sleep(self, request, context):
        self.started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@contextlib.asynccontextmanager
async def serving(credentials=None):
    """A server and a channel to it; with credentials of both ends over TLS."""
    service = Service()
    server = grpc.aio.server(handlers=[service])
    if credentials:
        port = server.add_secure_port("127.0.0.1:0", credentials[0])
        channel = grpc.aio.secure_channel(f"localhost:{port}", credentials[1])
    else:
        port = server.add_insecure_port("127.0.0.1:0")
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    await server.start()
    try:
        async with channel:
            yield channel, service
    finally:
        await server.stop(None)


@pytest.fixture(params=["plain", "tls"])
def credentials(request, certificates):
    if request.param == "plain":
        return None
    key, chain, authority = [
        (certificates / name).read_bytes() for name in ("server.key", "server.pem", "authority.pem")
    ]
    return grpc.ssl_server_credentials([(key, chain)]), grpc.ssl_channel_credentials(authority)


def test_kinds_of_calls(run, credentials, loop_name):
    async def main():
        async with serving(credentials) as (channel, _):
            call = channel.unary_unary("/Test/Double")(b"x" * 500_000)
            assert await call == b"x" * 1_000_000
            assert dict(await call.trailing_metadata())["loop"] == loop_name

            counted = channel.unary_stream("/Test/Count")(b"300")
            assert [part async for part in counted] == [b"%d" % n for n in range(300)]

            async def numbers():
                for number in range(300):
                    yield b"%d" % number

            assert await channel.stream_unary("/Test/Sum")(numbers()) == b"44850"

            echo = channel.stream_stream("/Test/Echo")()
            for word in (b"one", b"two", b"three"):
                await echo.write(word)
                assert await echo.read() == word
            await echo.done_writing()
            assert await echo.read() is grpc.aio.EOF
            assert await echo.code() is grpc.StatusCode.OK

    run(main)


def test_many_at_once(run):
    async def main():
        async with serving() as (channel, _):
            double = channel.unary_unary("/Test/Double")
            answers = await asyncio.gather(*(double(b"%d " % n) for n in range(300)))
            assert answers == [b"%d %d " % (n, n) for n in range(300)]

    run(main)


def test_errors(run):
    async def main():
        async with serving() as (channel, _):
            for name, code in (("Fail", grpc.StatusCode.NOT_FOUND), ("None", grpc.StatusCode.UNIMPLEMENTED)):
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await channel.unary_unary(f"/Test/{name}")(b"")
                assert failed.value.code() is code

    run(main)


def test_deadline_and_cancellation(run):
    async def main():
        async with serving() as (channel, service):
            sleep = channel.unary_unary("/Test/Sleep")
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await sleep(b"", timeout=0.05)
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            service.started.clear()
            service.cancelled.clear()
            task = asyncio.create_task(_call(sleep))
            await service.started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await service.cancelled.wait()

    run(main)


async def _call(method):
    return await method(b"")


def test_nobody_there(run):
    async def main():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{servers.free_port()}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/Test/Double")(b"")
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE

    run(main)
