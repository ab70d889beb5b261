"""anyio's asyncio backend: task groups, cancel scopes, streams, threads, processes, signals."""

import os
import signal
import socket
import subprocess
import sys
import time

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.streams.tls import TLSStream

import servers


@pytest.fixture
def run(loop_factory, loop_name):
    """run(main, *args) by anyio itself."""

    async def checked(main, args):
        assert servers.loop_name() == loop_name
        return await main(*args)

    def run(main, *args):
        options = {"loop_factory": loop_factory} if loop_factory else {}
        return anyio.run(checked, main, args, backend="asyncio", backend_options=options)

    return run


def test_task_groups_and_cancel_scopes(run):
    async def main():
        seen = []

        async def child(number, *, task_status=anyio.TASK_STATUS_IGNORED):
            task_status.started(number)
            try:
                await anyio.sleep(60)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
                    seen.append(number)

        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as group:
                assert [await group.start(child, number) for number in range(20)] == list(range(20))
                scope.deadline = anyio.current_time() + 0.01
        assert scope.cancelled_caught and sorted(seen) == list(range(20))

        with pytest.raises(ExceptionGroup) as failed:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 60)
                group.start_soon(child, "x")
                await anyio.sleep(0)
                raise ValueError("on purpose")
        assert [type(error) for error in failed.value.exceptions] == [ValueError] and seen[-1] == "x"
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await anyio.sleep(60)

    run(main)


async def _echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_streams(run, kind, tmp_path, server_tls, client_tls):
    async def main():
        if kind == "unix":
            listener = await anyio.create_unix_listener(tmp_path / "socket")
            connect = anyio.connect_unix(tmp_path / "socket")
        else:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            connect = anyio.connect_tcp(*listener.extra(anyio.abc.SocketAttribute.local_address))
        async with anyio.create_task_group() as group:

            handled = anyio.Event()

            async def handle(stream):
                await _echo(await TLSStream.wrap(stream, ssl_context=server_tls) if kind == "tls" else stream)
                handled.set()

            group.start_soon(listener.serve, handle)
            stream = await connect
            if kind == "tls":
                stream = await TLSStream.wrap(stream, hostname="localhost", ssl_context=client_tls)
            data = bytes(range(256)) * 1000
            received = b""
            async with stream:
                async with anyio.create_task_group() as both:
                    both.start_soon(stream.send, data)
                    while len(received) < len(data):
                        received += await stream.receive()
            assert received == data
            await handled.wait()
            group.cancel_scope.cancel()
        await listener.aclose()

    run(main)


def test_udp(run):
    async def main():
        async with await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1") as server:
            host, port = server.extra(anyio.abc.SocketAttribute.local_address)
            async with await anyio.create_connected_udp_socket(host, port) as client:
                for word in (b"one", b"two"):
                    await client.send(word)
                    data, address = await server.receive()
                    await server.sendto(data.upper(), *address)
                    assert await client.receive() == word.upper()

    run(main)


def test_threads(run, loop_name):
    async def main():
        limiter = anyio.CapacityLimiter(3)
        places = [anyio.to_thread.run_sync(time.sleep, 0.001, limiter=limiter) for _ in range(20)]
        async with anyio.create_task_group() as group:
            for place in places:
                group.start_soon(_wait, place)

        async def back():
            return servers.loop_name()

        assert await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(back)) == loop_name
        name = await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(servers.loop_name))
        assert name == loop_name

    run(main)


async def _wait(awaitable):
    await awaitable


def test_portal(loop_factory, loop_name):
    async def answer():
        await anyio.sleep(0.001)
        return servers.loop_name()

    options = {"loop_factory": loop_factory} if loop_factory else {}
    with anyio.from_thread.start_blocking_portal(backend_options=options) as portal:
        assert portal.call(answer) == loop_name
        futures = [portal.start_task_soon(answer) for _ in range(20)]
        assert {future.result() for future in futures} == {loop_name}


def test_memory_streams_and_locks(run):
    async def main():
        send, receive = anyio.create_memory_object_stream(3)
        lock, received = anyio.Lock(), []

        async def producer(stream):
            async with stream:
                for number in range(100):
                    await stream.send(number)

        async def consumer(stream):
            async with stream:
                async for number in stream:
                    async with lock:
                        await anyio.sleep(0)
                        received.append(number)

        async with anyio.create_task_group() as group, send, receive:
            for _ in range(3):
                group.start_soon(producer, send.clone())
                group.start_soon(consumer, receive.clone())
        assert sorted(received) == sorted([*range(100)] * 3)

    run(main)


def test_processes(run):
    async def main():
        text = b"x" * 300_000
        done = await anyio.run_process([sys.executable, "-c", COPY], input=text)
        assert (done.stdout, done.stderr) == (text.upper(), b"done")
        with pytest.raises(subprocess.CalledProcessError):
            await anyio.run_process("exit 3")
        async with await anyio.open_process(["sleep", "60"]) as process:
            process.terminate()
            assert await process.wait() == -signal.SIGTERM

    run(main)


COPY = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('done')"


def test_signals(run):
    async def main():
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGTERM) as received:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert await anext(received) == signal.SIGUSR1
            os.kill(os.getpid(), signal.SIGTERM)
            assert await anext(received) == signal.SIGTERM

    run(main)


def test_files(run, tmp_path):
    async def main():
        path = anyio.Path(tmp_path / "file")
        await path.write_text("line\n" * 1000)
        async with await anyio.open_file(path) as file:
            assert [line async for line in file] == ["line\n"] * 1000

    run(main)
