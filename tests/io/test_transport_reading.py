"""Stream transports: reading, pausing, BufferedProtocol, fairness."""

import array
import asyncio
import contextlib
import os
import socket
import struct

import pytest

from peers import BufferedJournal, Journal, connected, receive, settle, until


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


def test_pause_and_resume(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            case.record(transport.is_reading())
            transport.pause_reading()
            with case.catch("twice"):
                transport.pause_reading()
            case.record(transport.is_reading())
            peer.send(b"while paused")
            await settle()
            case.record(protocol.calls)
            transport.resume_reading()
            with case.catch("twice"):
                transport.resume_reading()
            case.record(transport.is_reading())
            await until(lambda: protocol.received)
            case.record(protocol.calls, bytes(protocol.received))
            transport.close()
            with case.catch("closing"):
                transport.pause_reading()
            with case.catch("closing"):
                transport.resume_reading()
            case.record(transport.is_reading())
            await protocol.lost

    record = agree(scenario)
    assert record[3] == (("connection_made",),)


def test_pause_in_connection_made(agree, family):
    async def scenario(case):
        class Paused(Journal):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.pause_reading()

        async with connected(family, Paused) as (transport, protocol, peer):
            peer.send(b"early")
            await settle()
            case.record(protocol.calls, transport.is_reading())
            transport.resume_reading()
            await until(lambda: protocol.received)
            case.record(bytes(protocol.received))

    assert agree(scenario) == [(("connection_made",), False), (b"early",)]


def test_pause_inside_data_received_stops_at_once(run, family):
    async def main():
        class OneAtATime(Journal):
            count = 0

            def data_received(self, data):
                super().data_received(data)
                self.count += 1
                self.transport.pause_reading()

        async with connected(family, OneAtATime) as (transport, protocol, peer):
            data = os.urandom(1_000_000)
            sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(peer, data))
            while len(protocol.received) < len(data):
                count = protocol.count
                await asyncio.sleep(0.0005)
                assert protocol.count in (count, count + 1)
                if not transport.is_reading():
                    transport.resume_reading()
            await sending
            assert bytes(protocol.received) == data

    run(main)


def test_pause_then_end_of_file(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            transport.pause_reading()
            peer.send(b"last")
            peer.close()
            await settle()
            case.record(protocol.calls)
            transport.resume_reading()
            await protocol.lost
            case.record(protocol.calls)

    assert agree(scenario)[1] == (
        ("connection_made", "data_received", "eof_received", ("connection_lost", None)),
    )


def test_closing_inside_data_received(agree, family):
    async def scenario(case):
        class Closing(Journal):
            def data_received(self, data):
                super().data_received(data)
                self.transport.close()

        async with connected(family, Closing) as (transport, protocol, peer):
            await case.loop.sock_sendall(peer, b"x" * 10)
            await protocol.lost
            case.record(bytes(protocol.received), protocol.calls)

    assert agree(scenario)[0][0] == b"x" * 10


def test_much_data_arrives_whole(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            data = os.urandom(8_000_000)
            await asyncio.get_running_loop().sock_sendall(peer, data)
            await until(lambda: len(protocol.received) >= len(data))
            assert bytes(protocol.received) == data

    run(main)


def test_each_call_gets_bytes_of_its_own(run, family):
    """Data that the protocol keeps is not overwritten by the next read."""

    async def main():
        parts = []

        class Keeping(Journal):
            def data_received(self, data):
                super().data_received(data)
                parts.append(data)

        async with connected(family, Keeping) as (transport, protocol, peer):
            for number in range(20):
                peer.send(b"%04d" % number * 50)
                await until(lambda: len(protocol.received) == 200 * (number + 1))
            assert b"".join(parts) == b"".join(b"%04d" % number * 50 for number in range(20))
            assert all(type(part) is bytes for part in parts)

    run(main)


def test_bytes_that_are_kept_stay_as_they_were(run, family):
    """Also where those before and after them are of the same size and let go at once."""
    kept, hashes = [], []

    class Keeper(Journal):
        def data_received(self, data):
            hashes.append((hash(data), hash(bytes(bytearray(data)))))
            if len(hashes) % 3 == 0:
                kept.append((data, bytearray(data)))
            super().data_received(data)

    async def scenario():
        async with connected(family, Keeper) as (_, protocol, peer):
            for number in range(90):
                size = (1, 2, 64, 600, 1024)[number // 18]
                before = len(protocol.received)
                peer.send(bytes([number]) * size)
                await until(lambda expected=before + size: len(protocol.received) == expected)

    run(scenario)
    assert all(one == other for one, other in hashes)
    assert len(kept) >= 30 and all(data == copy for data, copy in kept)


def test_messages_of_all_sizes(run, family):
    """Small after large and large after small; the end and an error after a large one."""
    sizes = (20_000, 20_000, 100, 16_384, 1, 122_880, 122_880, 30_000, 122_881, 150_000, 17_000)

    async def scenario(case):
        async with connected(family) as (_, protocol, peer):
            for number, size in enumerate(sizes):
                protocol.received.clear()
                message = bytes([number]) * size
                left = memoryview(message)
                while left:
                    with contextlib.suppress(BlockingIOError):
                        left = left[peer.send(left) :]
                    await asyncio.sleep(0)
                await until(lambda expected=len(message): len(protocol.received) >= expected)
                assert protocol.received == message
            if case == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await protocol.lost
            return protocol.calls

    for case in ("eof", "reset"):
        calls = run(scenario, case)
        if case == "reset" and family == "tcp":
            assert calls[-1] == ("connection_lost", "ConnectionResetError")
        else:
            assert calls[-2:] == ["eof_received", ("connection_lost", None)]


def test_a_fast_peer_starves_nobody(run, family):
    """One bounded read an iteration: callbacks run while megabytes wait in the socket."""

    async def main():
        loop = asyncio.get_running_loop()
        reads = []

        class Counting(Journal):
            def data_received(self, data):
                super().data_received(data)
                reads.append(len(data))

        async with connected(family, Counting) as (transport, protocol, peer):
            transport.pause_reading()
            iterations = 0

            def tick():
                nonlocal iterations
                iterations += 1
                try:
                    peer.send(b"x" * 1_000_000)
                except BlockingIOError:
                    pass
                if len(protocol.received) < 20_000_000:
                    loop.call_soon(tick)
                else:
                    done.set_result(None)

            done = loop.create_future()
            loop.call_soon(tick)
            transport.resume_reading()
            await done
            assert max(reads) <= 1024 * 1024
            assert iterations >= len(reads) // 2

    run(main)


def test_many_connections_take_turns(run):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            ends = [await stack.enter_async_context(connected("unix")) for _ in range(20)]
            for _, _, peer in ends:
                peer.send(b"x" * 100)
            await until(lambda: all(protocol.received for _, protocol, _ in ends))

    run(main)


def test_buffered_protocol(agree, family):
    async def scenario(case):
        async with connected(family, BufferedJournal) as (transport, protocol, peer):
            data = bytes(range(256)) * 100
            await case.loop.sock_sendall(peer, data)
            await until(lambda: len(protocol.received) == len(data))
            case.record(bytes(protocol.received) == data)
            transport.pause_reading()
            peer.send(b"paused")
            await settle()
            case.record(len(protocol.received) == len(data))
            transport.resume_reading()
            await until(lambda: len(protocol.received) > len(data))
            peer.close()
            await protocol.lost
            case.record(protocol.calls)

    record = agree(scenario)
    assert record[0] == (True,)
    assert record[-1][0][-2:] == ("eof_received", ("connection_lost", None))


@pytest.mark.parametrize("size", [1, 2, 7, 65536])
def test_short_buffers(run, family, size):
    async def main():
        make = lambda: BufferedJournal(size=size)  # noqa: E731
        async with connected(family, make) as (transport, protocol, peer):
            data = os.urandom(1000)
            peer.send(data)
            await until(lambda: len(protocol.received) == len(data))
            assert bytes(protocol.received) == data

    run(main)


BUFFERS = {
    "empty": lambda: bytearray(),
    "none": lambda: None,
    "text": lambda: "text",
    "read-only": lambda: b"0123456789",
    "number": lambda: 12,
    "raises": lambda: 1 / 0,
    "view": lambda: memoryview(bytearray(10)),
    "words": lambda: memoryview(bytearray(16)).cast("I"),
    "two-dimensional": lambda: memoryview(bytearray(16)).cast("B", (4, 4)),
    "strided": lambda: memoryview(bytearray(16))[::2],
    "array": lambda: array.array("d", [0.0] * 4),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_odd_buffers(agree, family, kind):
    async def scenario(case):
        class Odd(BufferedJournal):
            def get_buffer(self, sizehint):
                case.record("hint", type(sizehint))
                return BUFFERS[kind]()

            def buffer_updated(self, nbytes):
                case.record("updated", nbytes)

        async with connected(family, Odd) as (transport, protocol, peer):
            peer.send(b"0123")
            await settle()
            case.record(transport.is_closing(), protocol.calls)

    record = agree(scenario)
    assert record[0] == ("hint", "int")


def test_a_buffer_larger_than_the_hint_is_filled(run, family):
    async def main():
        make = lambda: BufferedJournal(size=1_000_000)  # noqa: E731
        async with connected(family, make) as (transport, protocol, peer):
            data = os.urandom(150_000)
            await asyncio.get_running_loop().sock_sendall(peer, data)
            await until(lambda: len(protocol.received) == len(data))
            assert bytes(protocol.received) == data

    run(main)


def test_buffer_updated_that_raises(agree, family):
    async def scenario(case):
        class Failing(BufferedJournal):
            def buffer_updated(self, nbytes):
                super().buffer_updated(nbytes)
                raise ValueError("in buffer_updated")

        async with connected(family, Failing) as (transport, protocol, peer):
            peer.send(b"x")
            await protocol.lost
            case.record(protocol.calls)

    record = agree(scenario)
    assert record[0][2] == ("ValueError", "in buffer_updated")


@pytest.mark.parametrize("result", [True, False, None])
def test_eof_of_a_buffered_protocol(agree, family, result):
    async def scenario(case):
        class HalfOpen(BufferedJournal):
            def eof_received(self):
                super().eof_received()
                return result

        async with connected(family, HalfOpen) as (transport, protocol, peer):
            peer.shutdown(1)
            await until(lambda: "eof_received" in protocol.calls)
            await settle()
            case.record(transport.is_closing(), protocol.calls)
            if result:
                transport.write(b"answer")
                case.record(await receive(peer, 6))

    assert agree(scenario)[0][0] is not bool(result)


@pytest.mark.parametrize("inside", [False, True])
def test_swapping_to_a_buffered_protocol_and_back(agree, family, inside):
    """set_protocol midway, from outside or from within a data callback: nothing is lost."""

    async def scenario(case):
        class Swapping(Journal):
            other = None

            def data_received(self, data):
                super().data_received(data)
                if inside and self.other:
                    self.transport.set_protocol(self.other)

        class SwappingBack(BufferedJournal):
            other = None

            def buffer_updated(self, nbytes):
                super().buffer_updated(nbytes)
                if inside and self.other:
                    transport.set_protocol(self.other)

        async with connected(family, Swapping) as (transport, plain, peer):
            buffered = SwappingBack()
            plain.other, buffered.other = buffered, plain
            current = plain
            for number in range(6):
                text = b"%d" % number
                peer.send(text)
                await until(lambda: current.received.endswith(text))
                current = buffered if current is plain else plain
                if not inside:
                    transport.set_protocol(current)
            case.record(bytes(plain.received), bytes(buffered.received))
            transport.set_protocol(plain)
            plain.other = buffered.other = None

    assert agree(scenario) == [(b"024", b"135")]


def test_a_buffer_swapped_out_between_get_and_update(agree, family):
    """get_buffer itself sets another protocol: the old buffer is filled, the new one is told."""

    async def scenario(case):
        class Leaving(BufferedJournal):
            def get_buffer(self, sizehint):
                self.transport.set_protocol(other)
                return super().get_buffer(sizehint)

        other = BufferedJournal()
        async with connected(family, Leaving) as (transport, protocol, peer):
            peer.send(b"one")
            await settle()
            peer.send(b"two")
            await settle()
            case.record(bytes(protocol.received), bytes(other.received))
            transport.set_protocol(protocol)

    (received,) = agree(scenario)
    assert len(received[0] + received[1]) == 6


def test_closing_from_get_buffer(agree, family):
    async def scenario(case):
        class Closing(BufferedJournal):
            def get_buffer(self, sizehint):
                self.transport.close()
                return super().get_buffer(sizehint)

        async with connected(family, Closing) as (transport, protocol, peer):
            peer.send(b"one")
            await protocol.lost
            case.record(bytes(protocol.received), protocol.calls)

    agree(scenario)
