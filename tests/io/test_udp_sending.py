"""Sending datagrams: addresses, what waits, flow control, closing with datagrams waiting."""

import asyncio
import contextlib
import errno
import gc
import sys

import pytest

from datagrams import endpoint, named_pair, udp_socket
from peers import settle, until

# 3.13 sends empty datagrams and counts a header of eight bytes for each one that waits.
HEADER = 8 if sys.version_info >= (3, 13) else 0


def fill(transport, *address):
    """Sends until the socket takes no more; how many were sent, the last one waiting."""
    count = 0
    while not transport.get_write_buffer_size():
        transport.sendto(b"%06d" % count, *address)
        count += 1
    return count


def drain(sock, received):
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(sock.recv(1000))


def test_what_does_not_fit_waits(agree, tmp_path):
    async def scenario(case):
        ours, theirs = named_pair(tmp_path, case.aio.__name__)
        with theirs:
            async with endpoint(sock=ours) as (transport, protocol):
                count = fill(transport)
                case.record(count, transport.get_write_buffer_size() == 6 + HEADER, repr(transport))
                changing = bytearray(b"unchanged")
                transport.sendto(changing)
                changing[:] = b"different"
                transport.sendto(b"")
                transport.sendto(memoryview(b"view"))
                received = []
                expected = count + 2 + bool(HEADER)
                while len(received) < expected:
                    drain(theirs, received)
                    await asyncio.sleep(0)
                case.record(received[:count] == [b"%06d" % number for number in range(count)])
                case.record(received[count:], repr(transport).split("bufsize")[0])
                case.record(*protocol.calls)

    record = agree(scenario)
    assert record[2][0][0] == b"unchanged"


def test_a_finaliser_that_sends_while_the_queue_is_looked_at(run, tmp_path):
    """Before 3.12 the garbage collector runs wherever an object is made."""

    class Garbage:
        def __init__(self, transport):
            self.transport, self.cycle = transport, self

        def __del__(self):
            self.transport.sendto(b"from a finaliser")

    async def main():
        ours, theirs = named_pair(tmp_path, "queue")
        with theirs:
            async with endpoint(sock=ours) as (transport, _):
                fill(transport)
                for _ in range(50):
                    transport.sendto(b"more")
                gc.collect()
                Garbage(transport)
                old = gc.get_threshold()
                # in the middle of what reading the queue makes
                gc.set_threshold(25)
                try:
                    assert len(transport._buffer) >= 51
                finally:
                    gc.set_threshold(*old)
                gc.collect()
                assert transport._buffer[-1][0] == b"from a finaliser"
                transport.abort()

    run(main)


def test_flow_control(agree, tmp_path):
    async def scenario(case):
        ours, theirs = named_pair(tmp_path, case.aio.__name__)
        with theirs:
            async with endpoint(sock=ours) as (transport, protocol):
                case.record(transport.get_write_buffer_limits())
                for limits in {"high": 100}, {"low": 10}, {"high": 5, "low": 6}, {}:
                    with case.catch():
                        transport.set_write_buffer_limits(**limits)
                    case.record(transport.get_write_buffer_limits())
                transport.set_write_buffer_limits(high=100, low=20)
                count = fill(transport)
                while "pause_writing" not in protocol.calls:
                    transport.sendto(b"0123456789")
                    count += 1
                case.record(count, *protocol.calls)
                received = []
                while len(received) < count:
                    drain(theirs, received)
                    await asyncio.sleep(0)
                await settle()
                case.record(*protocol.calls, transport.get_write_buffer_size())

    # 3.13 forgets the header when it counts down
    leaks = (3, 13) <= sys.version_info < (3, 14)
    record = agree(scenario, asyncio_is_wrong=leaks)
    assert record[-1] == ("connection_made", "pause_writing", "resume_writing", 0)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing_with_datagrams_waiting(agree, tmp_path, how):
    async def scenario(case):
        ours, theirs = named_pair(tmp_path, f"{case.aio.__name__}-{how}")
        with theirs:
            async with endpoint(sock=ours) as (transport, protocol):
                count = fill(transport)
                for number in range(40):
                    transport.sendto(b"waits %d" % number)
                getattr(transport, how)()
                getattr(transport, how)()
                case.record(transport.is_closing(), repr(transport).split("bufsize")[0])
                transport.sendto(b"after closing")
                await settle()
                case.record(*protocol.calls)
                received = []
                for _ in range(200):
                    drain(theirs, received)
                    await asyncio.sleep(0)
                case.record(count, len(received), received[-1:])
                case.record(*protocol.calls, transport.is_closing())

    record = agree(scenario)
    assert record[-1][-2:] == (("connection_lost", None), True)


def test_a_peer_that_is_gone_while_datagrams_wait(agree, tmp_path):
    async def scenario(case):
        ours, theirs = named_pair(tmp_path, case.aio.__name__)
        async with endpoint(sock=ours) as (transport, protocol):
            fill(transport)
            for number in range(5):
                transport.sendto(b"waits %d" % number)
            theirs.close()
            await until(lambda: not transport.get_write_buffer_size())
            case.record(*protocol.calls)
            transport.close()
            await protocol.lost
            case.record(protocol.calls[-1])

    leaks = (3, 13) <= sys.version_info < (3, 14)
    record = agree(scenario, asyncio_is_wrong=leaks)
    assert record[0][1][:2] == ("error_received", "ConnectionRefusedError")


@pytest.mark.parametrize(
    "address",
    [None, (), ("127.0.0.1",), ("127.0.0.1", "9"), ("127.0.0.1", 9, 9), "text", 5, ("127.0.0.1", 1 << 20)],
    ids=repr,
)
def test_sending_nowhere(agree, address):
    """What is no error of the system closes the transport."""

    async def scenario(case):
        async with endpoint() as (transport, protocol):
            with case.catch():
                transport.sendto(b"data", address)
            case.record(transport.is_closing())
            await settle()
            case.record(*protocol.calls)

    agree(scenario)


def test_sending_after_the_end(agree, asyncio_log):
    async def scenario(case):
        with udp_socket() as peer:
            async with endpoint(remote_addr=peer.getsockname()) as (transport, protocol):
                transport.close()
                for _ in range(8):
                    transport.sendto(b"counted")
                await protocol.lost
                transport.sendto(b"counted")
            async with endpoint() as (transport, protocol):
                transport.close()
                transport.sendto(b"still leaves", peer.getsockname())
                case.record(peer.recv(100))
                await protocol.lost
                await settle()
                with case.catch():
                    transport.sendto(b"too late", peer.getsockname())
            transport.close()
            transport.abort()
            transport.pause_reading()
            transport.resume_reading()
            case.record(transport.is_reading(), transport.get_write_buffer_size())

    record = agree(scenario)
    assert record[0] == ("log", "WARNING", "socket.send() raised exception.")


def test_empty_datagrams(agree):
    async def scenario(case):
        async with endpoint() as (transport, _):
            with udp_socket() as peer:
                peer.setblocking(False)
                for data in (b"", bytearray(), memoryview(b"")):
                    transport.sendto(data, peer.getsockname())
                    try:
                        case.record(peer.recv(100))
                    except BlockingIOError:
                        case.record("nothing was sent")

    expected = (b"",) if HEADER else ("nothing was sent",)
    assert agree(scenario) == [expected] * 3


def test_wrong_data(agree):
    async def scenario(case):
        async with endpoint() as (transport, protocol):
            for data in ("text", None, 5, [b"list"], object):
                with case.catch():
                    transport.sendto(data, ("127.0.0.1", 9))
            for arguments in (), (b"x", None, None):
                with case.catch():
                    transport.sendto(*arguments)
            with case.catch():
                transport.sendto(data=b"x", what=1)
            case.record(transport.is_closing(), *protocol.calls)
            transport.sendto(memoryview(b"with gaps")[::2], ("127.0.0.1", 9))
            await settle()
            case.record(transport.is_closing(), *protocol.calls)
            with case.catch():
                transport.write(b"no stream")

    assert agree(scenario)[0][1][0] == "TypeError"


def test_remote_addresses(agree):
    async def scenario(case):
        with udp_socket() as peer:
            there = peer.getsockname()
            async with endpoint(remote_addr=there) as (transport, protocol):
                for address in None, there, list(there), ("127.0.0.1", 9), "text", ():
                    with case.catch(text=False):
                        transport.sendto(b"data", address)
                    case.record(transport.is_closing())
                peer.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        case.record(peer.recv(100))
                case.record(*protocol.calls)

    assert agree(scenario)[0] == ("raised", None)


def test_names_are_resolved(run):
    async def main():
        async with endpoint() as (transport, _):
            with udp_socket() as peer:
                transport.sendto(b"by name", ("localhost", peer.getsockname()[1]))
                assert peer.recv(100) == b"by name"

    run(main)


def test_broadcast(agree):
    async def scenario(case):
        async with endpoint(allow_broadcast=False) as (transport, protocol):
            transport.sendto(b"x", ("255.255.255.255", 9))
            case.record(*protocol.calls, transport.is_closing())

    assert agree(scenario)[0][1] == ("error_received", "PermissionError", errno.EACCES)


def test_audit_events(aio, run):
    """As the methods of sockets, sending says where to."""
    seen = []
    active = True
    sys.addaudithook(lambda event, args: active and event == "socket.sendto" and seen.append(args[1]))

    async def main():
        async with endpoint() as (transport, _):
            with udp_socket() as peer:
                transport.sendto(b"data", peer.getsockname())
                assert peer.getsockname() in seen

    run(main)
    active = False  # a hook stays for good
