"""Connections, tasks, timers and child processes in great number leave nothing behind.

AIOXIDE_SOAK=1 makes it 100,000 connections, a million tasks and a million timers of
each kind, and 20,000 child processes.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys

import pytest

from peers import Journal, until

SOAK = os.environ.get("AIOXIDE_SOAK", "") not in ("", "0")
CONNECTIONS = 100_000 if SOAK else 500
TASKS = 1_000_000 if SOAK else 10_000
TIMERS = 1_000_000 if SOAK else 12_000
CHILDREN = 20_000 if SOAK else 100

pytestmark = pytest.mark.hung_after(1800 if SOAK else 60)


def resident():
    """The process's memory in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def measure():
    gc.collect()
    return sys.getallocatedblocks(), resident()


async def flat(count, chunk, work):
    """Runs `work(chunk)` until `count` is done: memory must not follow the count.

    What is kept to be used again may fill up meanwhile, once; a leak goes on.
    """
    for _ in range(2):
        await work(chunk)
    grown = []
    for _ in range(3):
        blocks, memory = measure()
        for _ in range(0, count, chunk):
            await work(chunk)
        more_blocks, more_memory = measure()
        grown.append((more_blocks - blocks, more_memory - memory))
        # less than one block in ten repetitions, less than ten bytes each
        if grown[-1][0] < max(count // 10, 1000) and grown[-1][1] < max(count // 100, 8192):
            return
    pytest.fail(f"more blocks and KiB at each repetition: {grown}")


@pytest.mark.parametrize("kind", ["protocol", "buffered", "streams", "reset"])
def test_connections(run, kind):
    async def main():
        loop = asyncio.get_running_loop()
        lost = 0

        class Counting(Journal):
            def connection_lost(self, error):
                nonlocal lost
                lost += 1
                super().connection_lost(error)

        class Echo(Counting):
            def data_received(self, data):
                self.transport.write(data)

        class Buffered(asyncio.BufferedProtocol):
            def __init__(self):
                self.buffer = bytearray(100)

            def connection_made(self, transport):
                self.transport = transport

            def get_buffer(self, sizehint):
                return self.buffer

            def buffer_updated(self, nbytes):
                self.transport.write(bytes(self.buffer[:nbytes]))

            def connection_lost(self, error):
                nonlocal lost
                lost += 1
                self.transport = None

        async def one():
            if kind == "streams":
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                writer.close()
                await writer.wait_closed()
                return
            transport, client = await loop.create_connection(Counting, *address)
            transport.write(b"hello")
            while len(client.received) < 5:
                await asyncio.sleep(0)
            if kind == "reset":
                transport.abort()
            else:
                transport.close()
            await client.lost

        async def work(count):
            await asyncio.gather(*(one() for _ in range(count)))
            nonlocal expected
            expected += count * (1 if kind == "streams" else 2)
            await until(lambda: lost == expected)

        expected = 0
        make = Buffered if kind == "buffered" else Echo
        server = await loop.create_server(make, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()
        await flat(CONNECTIONS, 50, work)
        server.close()
        await server.wait_closed()

    run(main)


@pytest.mark.parametrize("kind", ["endpoints", "datagrams", "sock"])
def test_datagrams_and_sockets(run, kind):
    async def main():
        loop = asyncio.get_running_loop()
        got = 0

        class Counting(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                nonlocal got
                got += 1

        async def work(count):
            expected = got + count
            if kind == "endpoints":
                for _ in range(count):
                    client, _ = await loop.create_datagram_endpoint(
                        asyncio.DatagramProtocol, remote_addr=there
                    )
                    client.sendto(b"data")
                    client.close()
                await until(lambda: got == expected)
            elif kind == "datagrams":
                for number in range(count):
                    # from a new address each time, so that none stays known
                    with socket.socket(type=socket.SOCK_DGRAM) as sock:
                        sock.sendto(b"%d" % number, there)
                await until(lambda: got == expected)
            else:
                for _ in range(count):
                    task = loop.create_task(loop.sock_recv(ours, 10))
                    await asyncio.sleep(0)
                    await loop.sock_sendall(theirs, b"data")
                    await task

        server, _ = await loop.create_datagram_endpoint(Counting, local_addr=("127.0.0.1", 0))
        there = server.get_extra_info("sockname")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            await flat(CONNECTIONS * 4, 50, work)
        server.close()

    run(main)


@pytest.mark.parametrize("kind", ["done", "sleep", "cancelled", "failed", "gather"])
def test_tasks(run, kind):
    async def main():
        async def nothing():
            pass

        async def fails():
            raise ValueError

        async def work(count):
            if kind == "gather":
                await asyncio.gather(*(asyncio.sleep(0) for _ in range(count)))
                return
            coroutine = {
                "done": nothing,
                "sleep": lambda: asyncio.sleep(0),
                "cancelled": lambda: asyncio.sleep(1000),
                "failed": fails,
            }[kind]
            tasks = [asyncio.create_task(coroutine()) for _ in range(count)]
            if kind == "cancelled":
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if kind == "failed":
                    assert task.exception()

        await flat(TASKS, 500, work)

    run(main)


@pytest.mark.parametrize("kind", ["cancelled", "fired", "threadsafe", "soon"])
def test_timers_and_callbacks(run, kind):
    async def main():
        loop = asyncio.get_running_loop()
        ran = 0

        def count_one():
            nonlocal ran
            ran += 1

        async def work(count):
            target = ran + count
            if kind == "cancelled":
                for handle in [loop.call_later(1000 + n, count_one) for n in range(count)]:
                    handle.cancel()
                await asyncio.sleep(0)
                return
            for number in range(count):
                if kind == "fired":
                    loop.call_later(number * 1e-7, count_one)
                elif kind == "soon":
                    loop.call_soon(count_one)
                else:
                    loop.call_soon_threadsafe(count_one)
            while ran < target:
                await asyncio.sleep(0)

        await flat(TIMERS, 1000, work)

    run(main)


def test_children(run):
    """No exit is lost, no process and no descriptor stays."""

    async def main():
        async def one(number):
            process = await asyncio.create_subprocess_shell(
                f"cat; exit {number}", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert await process.communicate(b"data") == (b"data", None)
            assert process.returncode == number

        async def work(count):
            await asyncio.gather(*map(one, range(count)))

        await flat(CHILDREN, 20, work)

    run(main)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_loops(loop_factory):
    """Loops made, used and closed: no memory, and no descriptor (the fixtures look for those)."""

    def work(count):
        for _ in range(count):
            loop = loop_factory()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    work(20)
    blocks, memory = measure()
    count = 5000 if SOAK else 200
    work(count)
    more_blocks, more_memory = measure()
    assert more_blocks - blocks < max(count // 2, 500)
    assert more_memory - memory < max(count, 8192)
