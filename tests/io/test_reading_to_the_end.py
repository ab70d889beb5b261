"""Reading from sockets: whatever comes, and with whatever it comes, nothing is left lying."""

import asyncio
import contextlib
import os
import socket
import struct

import pytest

from peers import BufferedJournal, Journal, connected, settle, until


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


def test_the_end_comes_with_the_last_bytes(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            peer.send(b"first")
            await until(lambda: protocol.received)
            peer.send(b", last")
            peer.shutdown(socket.SHUT_WR)
            await protocol.lost
            case.record(bytes(protocol.received), protocol.calls[-2:])

    record = agree(scenario)
    assert record == [(b"first, last", ("eof_received", ("connection_lost", None)))]


def test_the_end_comes_while_the_last_bytes_are_read(agree, family):
    async def scenario(case):
        peers = []

        class Ending(Journal):
            def data_received(self, data):
                super().data_received(data)
                peers[0].send(b"last")
                peers[0].shutdown(socket.SHUT_WR)

        async with connected(family, Ending) as (transport, protocol, peer):
            peers.append(peer)
            peer.send(b"first, ")
            with contextlib.suppress(OSError):
                await protocol.lost
            case.record(bytes(protocol.received), protocol.calls[-2:])

    # The second call of send() fails, which ends the connection.
    assert agree(scenario)[0][0] == b"first, last"


def test_a_reset_behind_the_last_bytes(agree):
    async def scenario(case):
        async with connected("tcp") as (transport, protocol, peer):
            peer.send(b"first")
            await until(lambda: protocol.received)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            with contextlib.suppress(OSError):
                await protocol.lost
            case.record(bytes(protocol.received), protocol.calls[-1:])

    agree(scenario)


def test_urgent_data_between(agree):
    async def scenario(case):
        async with connected("tcp") as (transport, protocol, peer):
            for turn in range(3):
                peer.send(b"before")
                peer.send(b"!", socket.MSG_OOB)
                peer.send(b"after")
                await until(lambda turn=turn: len(protocol.received) == 11 * (turn + 1))
            peer.close()
            await protocol.lost
            case.record(bytes(protocol.received), protocol.calls[-2:])

    assert agree(scenario)[0][0] == b"beforeafter" * 3


@pytest.mark.parametrize("size", [256 * 1024, 120 * 1024, 256 * 1024 + 1, 600_000])
def test_a_read_that_is_filled_to_the_last_byte(run, family, size):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            transport.pause_reading()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            total = 0
            for _ in range(4):
                data = os.urandom(size)
                transport.pause_reading()
                sending = asyncio.create_task(
                    asyncio.get_running_loop().sock_sendall(peer, data)
                )
                await settle()
                transport.resume_reading()
                await sending
                total += size
                await until(lambda: len(protocol.received) == total)
                assert protocol.received.endswith(data)
            peer.send(b"more")
            await until(lambda: protocol.received.endswith(b"more"))

    run(main)


def test_buffers_that_are_filled(run, family):
    async def main():
        make = lambda: BufferedJournal(size=64)  # noqa: E731
        async with connected(family, make) as (transport, protocol, peer):
            for count in (64, 63, 65, 128, 1000, 1):
                before = len(protocol.received)
                peer.send(bytes(count))
                await until(lambda: len(protocol.received) == before + count)  # noqa: B023

    run(main)


def test_reading_while_much_waits_to_be_written(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            for turn in range(3):
                size = 0
                while transport.get_write_buffer_size() == 0:
                    transport.write(bytes(100_000))
                    size += 100_000
                peer.send(b"meanwhile")
                await until(lambda: len(protocol.received) == 14 * turn + 9)  # noqa: B023
                while size:
                    with contextlib.suppress(BlockingIOError):
                        size -= len(peer.recv(1 << 20))
                    await asyncio.sleep(0)
                peer.send(b"after")
                await until(lambda: len(protocol.received) == 14 * (turn + 1))  # noqa: B023

    run(main)


def test_pausing_with_bytes_on_their_way(run, family):
    async def main():
        class Pausing(Journal):
            def data_received(self, data):
                super().data_received(data)
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)

        async with connected(family, Pausing) as (transport, protocol, peer):
            for turn in range(50):
                peer.send(b"ab")
                if turn % 3 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(protocol.received) == 100)

    run(main)


def test_more_connections_than_one_look_reports(run):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            many = [await stack.enter_async_context(connected("tcp")) for _ in range(300)]
            for turn in range(1, 4):
                for _, _, peer in many:
                    peer.send(b"x")
                await until(lambda: all(len(one.received) == turn for _, one, _ in many))  # noqa: B023

    run(main)


def test_entries_that_the_program_drops(run):
    async def main():
        loop = asyncio.get_running_loop()
        if not type(loop).__module__.startswith("aioxide"):
            pytest.skip("asyncio's iteration fails when its queue is emptied")
        async with connected("tcp") as (transport, protocol, peer):
            peer.send(b"first")
            await until(lambda: protocol.received)
            peer.send(b"second")
            for _ in range(3):
                loop._ready.clear()
                await asyncio.sleep(0)
            await until(lambda: protocol.received == b"firstsecond")

    run(main)
