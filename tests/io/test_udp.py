"""Datagram endpoints: exchange, options, errors of the system, the order of calls."""

import asyncio
import errno
import gc
import socket
import weakref

import pytest

from datagrams import Journal, endpoint, udp_socket, unix_pair
from peers import settle, until


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_exchange(agree, host):
    async def scenario(case):
        async with endpoint(local_addr=(host, 0)) as (transport, protocol):
            with udp_socket(host) as peer:
                here = transport.get_extra_info("sockname")
                for kind in bytes, bytearray, memoryview:
                    transport.sendto(kind(b"to the peer"), peer.getsockname())
                    data, address = peer.recvfrom(100)
                    case.record(data, address == here)
                for size in (0, 1, 1000, 60_000):
                    peer.sendto(bytes(size), here)
                await until(lambda: len(protocol.received) == 4)
                case.record([len(data) for data, _ in protocol.received])
                case.record([address == peer.getsockname() for _, address in protocol.received])
                case.record([type(address) for _, address in protocol.received])

    assert agree(scenario)[3] == ((0, 1, 1000, 60_000),)


def test_extra_info(agree):
    async def scenario(case):
        names = ("peername", "sockname", "socket", "nothing")
        with udp_socket() as peer:
            for options in {}, {"remote_addr": peer.getsockname()}:
                async with endpoint(**options) as (transport, _):
                    case.record([transport.get_extra_info(name) is None for name in names])
                    case.record(transport.get_extra_info("peername") == peer.getsockname())
                    sock = transport.get_extra_info("socket")
                    case.record(type(sock), sock.getsockname() == transport.get_extra_info("sockname"))
                    case.record(sock.gettimeout(), sock.type, transport.get_extra_info("x", 5))
                    case.record(
                        isinstance(transport, asyncio.DatagramTransport),
                        isinstance(transport, asyncio.Transport),
                        transport.get_write_buffer_limits(),
                        transport.get_write_buffer_size(),
                        repr(transport),
                    )
                case.record(repr(transport), transport.is_closing(), transport.get_protocol())

    assert agree(scenario)[0] == ((True, False, False, True),)


def test_options(agree):
    async def scenario(case):
        loop = case.loop

        async def open(**options):
            with case.catch(text=False):
                async with endpoint(**options) as (transport, _):
                    sock = transport.get_extra_info("socket")
                    options = (socket.SO_REUSEPORT, socket.SO_BROADCAST, socket.SO_REUSEADDR)
                    case.record([sock.getsockopt(socket.SOL_SOCKET, name) for name in options])
                    case.record(sock.family, sock.proto, transport.get_extra_info("peername"))

        here = ("127.0.0.1", 0)
        await open(local_addr=here, reuse_port=True)
        await open(local_addr=here, allow_broadcast=True)
        await open(local_addr=here, family=socket.AF_INET, proto=socket.IPPROTO_UDP, flags=0)
        await open(local_addr=here, family=socket.AF_INET6)
        await open(local_addr=here, reuse_port=False)
        await open(local_addr=("localhost", 0))
        await open(local_addr=("::1", 0))
        await open(remote_addr=("127.0.0.1", 9), local_addr=("::1", 0))
        await open(local_addr="text")
        await open(local_addr=("127.0.0.1",))
        with udp_socket() as sock:
            for name in ("local_addr", "remote_addr", "family", "proto", "flags", "reuse_port"):
                await open(sock=sock, **{name: 1})
        with socket.socket() as sock:
            await open(sock=sock)
        with case.catch():
            await loop.create_datagram_endpoint(Journal)
        with case.catch(text=False):
            await loop.create_datagram_endpoint(Journal, local_addr=here, reuse_address=True)
        # the port is free again
        async with endpoint() as (transport, _):
            taken = transport.get_extra_info("sockname")
            await open(local_addr=taken)
        async with endpoint(local_addr=taken):
            pass

    assert agree(scenario)[0][0][0] == 1


def test_a_socket_of_the_program(agree):
    async def scenario(case):
        with udp_socket() as peer:
            sock = udp_socket()
            async with endpoint(sock=sock) as (transport, protocol):
                case.record(sock.gettimeout(), transport.get_extra_info("peername"))
                transport.sendto(b"out", peer.getsockname())
                case.record(peer.recv(100))
                peer.sendto(b"in", sock.getsockname())
                await until(lambda: protocol.received)
                case.record(protocol.received[0][0])
                try:
                    await case.loop.create_datagram_endpoint(Journal, sock=sock)
                except Exception as error:
                    case.record(type(error))
            case.record(sock.fileno())
            sock = udp_socket()
            sock.connect(peer.getsockname())
            async with endpoint(sock=sock) as (transport, _):
                case.record(transport.get_extra_info("peername") == peer.getsockname())
                transport.sendto(b"connected")
                transport.sendto(b"elsewhere is nowhere", ("127.0.0.1", 9))
                case.record(peer.recv(100), peer.recv(100))

    # 3.11 does not look whether another transport has the socket
    agree(scenario)


def test_errors_of_the_system_are_received(agree):
    async def scenario(case):
        with udp_socket() as gone:
            there = gone.getsockname()
        async with endpoint() as (transport, protocol):
            transport.sendto(bytes(70_000), there)
            case.record(*protocol.calls)
            with udp_socket() as peer:
                transport.sendto(b"still alive", peer.getsockname())
                case.record(peer.recv(100))
        async with endpoint(remote_addr=there) as (transport, protocol):
            transport.sendto(b"refused")
            await until(lambda: len(protocol.calls) > 1)
            case.record(*protocol.calls)
            transport.sendto(b"refused again")
            await until(lambda: len(protocol.calls) > 2)
            case.record(*protocol.calls, transport.is_closing())
        case.record(*protocol.calls)

    record = agree(scenario)
    assert record[0] == ("connection_made", ("error_received", "OSError", errno.EMSGSIZE))
    assert record[2][1] == ("error_received", "ConnectionRefusedError", errno.ECONNREFUSED)


def test_unix_endpoints(agree, tmp_path):
    async def scenario(case):
        path = str(tmp_path / case.aio.__name__)
        async with endpoint(local_addr=path, family=socket.AF_UNIX) as (server, protocol):
            case.record(server.get_extra_info("sockname") == path)
            async with endpoint(remote_addr=path, family=socket.AF_UNIX) as (client, _):
                client.sendto(b"no name")
                await until(lambda: protocol.received)
                case.record(protocol.received.pop())
            here = path + "-client"
            async with endpoint(
                local_addr=here, remote_addr=path, family=socket.AF_UNIX
            ) as (client, answers):
                client.sendto(bytes(100_000))
                await until(lambda: protocol.received)
                data, address = protocol.received.pop()
                case.record(len(data), address == here)
                server.sendto(b"answer", address)
                await until(lambda: answers.received)
                case.record(answers.received[0][0], answers.received[0][1] == path)
            server.sendto(b"nobody", here)
            server.sendto(b"nobody", here + "-never")
            case.record(*protocol.calls[-2:])
        with case.catch(text=False):
            await case.loop.create_datagram_endpoint(Journal, remote_addr=path, family=socket.AF_UNIX)
        ours, theirs = unix_pair()
        with theirs:
            async with endpoint(sock=ours) as (transport, protocol):
                theirs.send(b"hello")
                await until(lambda: protocol.received)
                case.record(protocol.received, transport.get_extra_info("peername"))
                # without a name of the peer asyncio takes the pair for unconnected
                with case.catch():
                    transport.sendto(b"answer")
                await settle()
                case.record(*protocol.calls)

    assert agree(scenario)[1] == ((b"no name", None),)


def test_the_order_of_calls(agree, debug):
    async def scenario(case):
        loop = case.loop
        calls = []

        class Ordered(Journal):
            def connection_made(self, transport):
                super().connection_made(transport)
                loop.call_soon(calls.append, "after connection_made")

        with udp_socket() as peer:
            sock = udp_socket()
            peer.sendto(b"early", sock.getsockname())
            protocol = None

            def make():
                nonlocal protocol
                protocol = Ordered(lambda *call: calls.append(call[0]))
                loop.call_soon(calls.append, "after the factory")
                return protocol

            transport, _ = await loop.create_datagram_endpoint(make, sock=sock)
            calls.append("endpoint")
            await until(lambda: protocol.received)
            transport.close()
            calls.append("closed")
            loop.call_soon(calls.append, "after closing")
            await protocol.lost
            case.record(*calls)
            await asyncio.sleep(0)

    agree(scenario, debug)


def test_unclosed_transports(agree):
    async def scenario(case):
        transport, protocol = await case.loop.create_datagram_endpoint(
            Journal, local_addr=("127.0.0.1", 0)
        )
        transport.pause_reading()
        await settle()
        protocol.transport = None
        gone = weakref.ref(transport)
        del transport
        gc.collect()
        case.record(gone() is None)

    record = agree(scenario)
    assert record[0][:2] == ("warning", "ResourceWarning") and record[-1] == (True,)


def test_replaced_methods_are_honoured(agree):
    async def scenario(case):
        scheduled = []
        call_soon = case.loop.call_soon

        def counting(callback, *args, **kwargs):
            scheduled.append(getattr(callback, "__name__", "?"))
            return call_soon(callback, *args, **kwargs)

        case.loop.call_soon = counting
        try:
            async with endpoint() as (transport, protocol):
                case.record("connection_made" in scheduled)
                with udp_socket() as peer:
                    peer.sendto(b"data", transport.get_extra_info("sockname"))
                    await until(lambda: protocol.received)
                scheduled.clear()
                transport.close()
                case.record("_call_connection_lost" in scheduled)
                await protocol.lost
        finally:
            del case.loop.call_soon

    assert agree(scenario) == [(True,), (True,)]


def test_sockets_of_other_classes(agree):
    class Loud(socket.socket):
        def recvfrom(self, *args):
            calls.append("recvfrom")
            return super().recvfrom(*args)

        def sendto(self, *args):
            calls.append("sendto")
            if args[0] == b"wait" and len(calls) < 5:
                raise BlockingIOError
            if args[0] == b"fail":
                raise OSError(errno.ENETUNREACH, "no way")
            return super().sendto(*args)

    calls = []

    async def scenario(case):
        calls.clear()
        with udp_socket() as peer, Loud(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            async with endpoint(sock=sock) as (transport, protocol):
                peer.sendto(b"in", sock.getsockname())
                await until(lambda: protocol.received)
                transport.sendto(b"out", peer.getsockname())
                transport.sendto(b"wait", peer.getsockname())
                transport.sendto(b"fail", peer.getsockname())
                case.record(bool(transport.get_write_buffer_size()))
                await until(lambda: len(protocol.calls) == 3)
                transport.sendto(b"fail", peer.getsockname())
                case.record(*calls[:4], *protocol.calls)
                case.record(peer.recv(100), peer.recv(100))

    assert agree(scenario)[-1] == (b"out", b"wait")


def test_closed_and_reused_descriptors(agree):
    async def scenario(case):
        for _ in range(20):
            async with endpoint() as (transport, protocol):
                number = transport.get_extra_info("socket").fileno()
            with udp_socket() as peer:
                async with endpoint() as (other, received):
                    peer.sendto(b"data", other.get_extra_info("sockname"))
                    await until(lambda: received.received)
                case.record(protocol.calls, number >= 0)

    assert len(agree(scenario)) == 20
