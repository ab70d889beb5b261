"""create_connection, create_server, Server and connect_accepted_socket over TCP.

What a transport does with its connection is in test_transports.py.
"""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys
import textwrap
import threading
import warnings

import pytest

from peers import Journal, Serving, program, receive, settle, socket_pair, until


@contextlib.asynccontextmanager
async def serving(make=Journal, host="127.0.0.1", **options):
    """A server and its address."""
    server = await asyncio.get_running_loop().create_server(make, host, 0, **options)
    try:
        yield server, server.sockets[0].getsockname()
    finally:
        server.close()


async def close(*protocols):
    for protocol in protocols:
        if protocol.transport:
            protocol.transport.close()
        await protocol.lost
    await asyncio.sleep(0)


def test_connections(agree, made, debug):
    async def scenario(case):
        async with serving(Serving) as (server, address):
            transport, client = await case.loop.create_connection(Journal, *address)
            await until(lambda: made)
            ours = made.pop()
            case.record(ours.calls, client.calls, client.transport is transport)
            case.record(transport.get_extra_info("peername") == address)
            case.record(ours.transport.get_extra_info("sockname") == address)
            transport.write(b"to the server")
            ours.transport.write(b"to the client")
            await until(lambda: ours.received and client.received)
            case.record(bytes(ours.received), bytes(client.received))
            transport.close()
            await ours.lost
            await client.lost
            case.record(ours.calls, client.calls)

    record = agree(scenario, debug)
    assert record[3] == (b"to the server", b"to the client")


def test_a_refused_connection(agree):
    async def scenario(case):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        with case.catch():
            try:
                await case.loop.create_connection(Journal, "127.0.0.1", port)
            except OSError as error:
                case.record(error.errno == errno.ECONNREFUSED)
                error.args = [str(arg).replace(str(port), "?") for arg in error.args]
                raise

    assert agree(scenario)[0] == (True,)


def test_wrong_arguments(agree):
    async def scenario(case):
        ours, theirs = socket_pair("tcp")
        connect, serve = case.loop.create_connection, case.loop.create_server
        with ours, theirs, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            for call in (
                lambda: connect(Journal),
                lambda: connect(Journal, "127.0.0.1"),
                lambda: connect(Journal, "127.0.0.1", 80, sock=ours),
                lambda: connect(Journal, sock=datagram),
                lambda: connect(Journal, "127.0.0.1", 80, server_hostname="x"),
                lambda: connect(Journal, "127.0.0.1", 80, ssl_handshake_timeout=1),
                lambda: connect(Journal, "127.0.0.1", 80, ssl_shutdown_timeout=1),
                lambda: connect(Journal, "no such host.invalid", 80, flags=socket.AI_NUMERICHOST),
                lambda: connect(Journal, "127.0.0.1", 80, family=socket.AF_INET6),
                lambda: serve(Journal),
                lambda: serve(Journal, "127.0.0.1", 80, sock=ours),
                lambda: serve(Journal, sock=datagram),
                lambda: serve(Journal, "127.0.0.1", 80, ssl=True),
                lambda: serve(Journal, "127.0.0.1", 80, ssl_handshake_timeout=1),
                lambda: serve(Journal, "203.0.113.1", 0),
                lambda: case.loop.connect_accepted_socket(Journal, datagram),
                lambda: case.loop.connect_accepted_socket(Journal, ours, ssl_handshake_timeout=1),
            ):
                with case.catch():
                    await call()
            case.record(ours.fileno() >= 0)

    record = agree(scenario)
    assert all(entry[1] is not None for entry in record[:-1])
    assert record[0][1][0] == "ValueError"


def test_local_addr(agree):
    async def scenario(case):
        async with serving() as (server, address):
            transport, client = await case.loop.create_connection(
                Journal, *address, local_addr=("127.0.0.1", 0)
            )
            case.record(transport.get_extra_info("sockname")[0])
            await close(client)
            with case.catch():
                await case.loop.create_connection(
                    Journal, *address, local_addr=("203.0.113.1", 0)
                )
            with case.catch():
                await case.loop.create_connection(
                    Journal, *address, local_addr=("no such host.invalid", 0),
                    flags=socket.AI_NUMERICHOST,
                )

    assert agree(scenario)[0] == ("127.0.0.1",)


def addresses(*items):
    """A getaddrinfo that answers with these."""

    async def getaddrinfo(host, port, **options):
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, number, 0, 0) if ":" in address else (address, number),
            )
            for address, number in items
        ]

    return getaddrinfo


def unused_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@pytest.mark.parametrize("delay", [None, 0.01, 10])
def test_happy_eyeballs(agree, delay):
    """The first address refuses, the second answers."""

    async def scenario(case):
        async with serving() as (server, address):
            case.loop.getaddrinfo = addresses(
                ("127.0.0.1", unused_port()), ("::1", unused_port()), address
            )
            for options in ({}, {"interleave": 1}, {"interleave": 2}):
                transport, client = await case.loop.create_connection(
                    Journal, "somewhere", 80, happy_eyeballs_delay=delay, **options
                )
                case.record(transport.get_extra_info("peername") == address)
                await close(client)
            del case.loop.getaddrinfo

    assert agree(scenario) == [(True,)] * 3


def test_happy_eyeballs_does_not_wait_for_a_silent_address(run):
    async def main():
        loop = asyncio.get_running_loop()
        # a full queue: connecting to it neither fails nor succeeds
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            fillers = [socket.socket() for _ in range(3)]
            for filler in fillers:
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(silent.getsockname())
            async with serving() as (server, address):
                loop.getaddrinfo = addresses(silent.getsockname(), address)
                async with asyncio.timeout(20):
                    transport, client = await loop.create_connection(
                        Journal, "somewhere", 80, happy_eyeballs_delay=0.01
                    )
                assert transport.get_extra_info("peername") == address
                await close(client)
            for filler in fillers:
                filler.close()

    run(main)


def test_all_addresses_fail(agree):
    async def scenario(case):
        ports = [unused_port() for _ in range(2)]
        case.loop.getaddrinfo = addresses(*(("127.0.0.1", port) for port in ports))

        def plain(error):
            text = str(error)
            for number, port in enumerate(ports):
                text = text.replace(str(port), f"port {number}")
            return type(error), text

        options = [{}, {"happy_eyeballs_delay": 0.01}]
        if sys.version_info >= (3, 12):
            options += [{"all_errors": True}, {"all_errors": True, "happy_eyeballs_delay": 0.01}]
        for option in options:
            try:
                await case.loop.create_connection(Journal, "somewhere", 80, **option)
            except ExceptionGroup as group:
                case.record("group", group.message, sorted(map(plain, group.exceptions), key=str))
            except OSError as error:
                case.record("error", *plain(error))
        case.loop.getaddrinfo = addresses()
        for option in options:
            with case.catch("no address"):
                await case.loop.create_connection(Journal, "somewhere", 80, **option)
        del case.loop.getaddrinfo

    record = agree(scenario)
    assert record[0][:2] == ("error", "OSError")


def test_a_socket_of_ones_own(agree):
    async def scenario(case):
        ours, theirs = socket_pair("tcp")
        with theirs:
            transport, protocol = await case.loop.create_connection(Journal, sock=ours)
            fd = ours.fileno()
            case.record(transport.get_extra_info("socket").fileno() == fd)
            await close(protocol)
            case.record(ours.fileno())

    assert agree(scenario) == [(True,), (-1,)]


@pytest.mark.parametrize("how", ["cancelled", "factory", "after"])
def test_a_given_socket_is_closed_once(run, how):
    """And a later descriptor with its number survives, whatever is finalised afterwards."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("tcp")
        fd = ours.fileno()

        def fail():
            raise ValueError("in the factory")

        coroutine = loop.create_connection(fail if how == "factory" else Journal, sock=ours)
        task = asyncio.create_task(coroutine)
        if how != "factory":
            await asyncio.sleep(0)
            if how == "after":
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            await close(task.result()[1])
        del coroutine, task
        ours.close()
        for _ in range(3):
            await asyncio.sleep(0)
        reused = os.open("/dev/null", os.O_RDONLY)
        with contextlib.suppress(OSError):
            if reused != fd:
                os.dup2(reused, fd)
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null"
        for number in {fd, reused}:
            os.close(number)
        theirs.close()

    run(main)


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_connection_leaves_nothing(run, steps):
    """At each of its awaits."""

    async def main():
        loop = asyncio.get_running_loop()
        async with serving(Serving) as (server, address):
            task = asyncio.create_task(loop.create_connection(Journal, "127.0.0.1", address[1]))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await close(task.result()[1])
            await settle()
        await close(*Serving.made)

    Serving.made = []
    run(main)
    Serving.made = []


def test_connect_accepted_socket(agree):
    async def scenario(case):
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            accepted, _ = server.accept()
        accepted.setblocking(False)
        peer.setblocking(False)
        with peer:
            transport, protocol = await case.loop.connect_accepted_socket(Journal, accepted)
            transport.write(b"hello")
            case.record(await receive(peer, 5), protocol.calls)
            await close(protocol)

    assert agree(scenario)[0][0] == b"hello"


def test_many_connections(run, made):
    async def main():
        loop = asyncio.get_running_loop()
        async with serving(Serving, backlog=200) as (server, address):
            clients = await asyncio.gather(
                *(loop.create_connection(Journal, *address) for _ in range(150))
            )
            await until(lambda: len(made) == 150)
            for transport, _ in clients:
                transport.write(b"hello")
            await until(lambda: all(protocol.received == b"hello" for protocol in made))
            for protocol in made:
                protocol.transport.write(b"goodbye")
                protocol.transport.close()
            for _, client in clients:
                await client.lost
                assert client.received == b"goodbye"
            await close(*made)

    run(main)


def test_connections_made_by_threads(run, made):
    async def main():
        loop = asyncio.get_running_loop()

        class Echo(Serving):
            def data_received(self, data):
                self.transport.write(data)

        async with serving(Echo, backlog=100) as (server, address):
            results = []

            def client(number):
                with socket.create_connection(address) as sock:
                    for turn in range(5):
                        text = b"%d:%d" % (number, turn)
                        sock.sendall(text)
                        results.append(sock.recv(100) == text)

            threads = [threading.Thread(target=client, args=(n,)) for n in range(20)]
            for thread in threads:
                thread.start()
            await loop.run_in_executor(None, lambda: [thread.join() for thread in threads])
            assert results == [True] * 100
            await close(*made)

    run(main)


def test_a_factory_that_fails_in_accept(run, debug):
    """Reported in debug mode alone, as asyncio has it; the connection is closed in both."""

    async def main():
        reports = []

        def fail():
            raise ValueError("in the factory")

        def handler(loop, report):
            reports.append((report["message"], str(report["exception"])))

        asyncio.get_running_loop().set_exception_handler(handler)
        async with serving(fail) as (server, address):
            with socket.create_connection(address) as peer:
                peer.setblocking(False)
                # asyncio leaves the socket to its finaliser, in debug mode in a cycle
                asyncio.get_running_loop().call_later(0.01, gc.collect)
                assert await receive(peer) == b""
        expected = ("Error on transport creation for incoming connection", "in the factory")
        assert reports == [expected] * debug

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(main, debug=debug)


PRELUDE = """
import resource, socket
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)
"""


def test_accept_backs_off_without_descriptors(aio):
    """EMFILE: reported, no spinning, and accepting goes on once descriptors are free."""
    text = """
    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda loop, report: reports.append(report["message"]))
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        held = [socket.socket() for _ in range(3)]
        client = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        while True:
            try:
                held.append(socket.socket())
            except OSError:
                break
        client.setblocking(False)
        try:
            client.connect(address)
        except BlockingIOError:
            pass
        start, cpu = loop.time(), time.process_time()
        while not reports:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        print("spins" if time.process_time() - cpu > 0.2 else "waits", len(reports) < 250)
        print(reports[0])
        for sock in held:
            sock.close()
        await loop.sock_sendall(client, b"hello")
        print(await asyncio.wait_for(loop.sock_recv(client, 100), 30))
        client.close()
        server.close()
        await asyncio.sleep(0.01)
    asyncio.Runner(loop_factory=aio.new_event_loop).run(main())
    """
    result = program(aio, PRELUDE + textwrap.dedent(text))
    assert result.stdout.splitlines() == [
        "waits True",
        "socket.accept() out of system resource",
        "b'hello'",
    ]


def test_keep_alive_and_reuse_options(agree):
    async def scenario(case):
        options = {"reuse_address": True, "reuse_port": True}
        if sys.version_info >= (3, 13):
            options["keep_alive"] = True
        async with serving(**options) as (server, address):
            (sock,) = server.sockets
            for name in ("SO_REUSEADDR", "SO_REUSEPORT", "SO_KEEPALIVE"):
                value = sock.getsockopt(socket.SOL_SOCKET, getattr(socket, name))
                case.record(name, value)
            second = await case.loop.create_server(Journal, *address, reuse_port=True)
            second.close()

    assert agree(scenario)[1] == ("SO_REUSEPORT", 1)


def undelayed(transport):
    return bool(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_small_writes_are_not_delayed(agree, made):
    async def scenario(case):
        async with serving(Serving) as (server, address):
            transport, client = await case.loop.create_connection(Journal, *address)
            await until(lambda: made)
            ours = made.pop()
            case.record(undelayed(transport), undelayed(ours.transport))
            await close(client, ours)

    assert agree(scenario) == [(True, True)]


@pytest.mark.aioxide_alone
def test_small_writes_are_not_delayed_on_a_socket_without_a_protocol(run, made):
    """As in servers that listen on a socket of their own; asyncio leaves the delay there."""

    async def main():
        listener = socket.create_server(("127.0.0.1", 0))
        assert listener.proto == 0
        server = await asyncio.get_running_loop().create_server(Serving, sock=listener)
        ours, theirs = socket_pair("tcp")
        with theirs:
            transport, client = await asyncio.get_running_loop().create_connection(Journal, sock=ours)
            assert undelayed(transport)
            await close(client)
        transport, client = await asyncio.get_running_loop().create_connection(
            Journal, *listener.getsockname()
        )
        await until(lambda: made)
        ours = made.pop()
        assert undelayed(ours.transport)
        await close(client, ours)
        server.close()

    run(main)


def test_several_hosts(agree):
    async def scenario(case):
        server = await case.loop.create_server(Journal, ["127.0.0.1", "127.0.0.2"], 0)
        case.record(sorted(sock.getsockname()[0] for sock in server.sockets))
        server.close()
        server = await case.loop.create_server(Journal, None, 0, family=socket.AF_INET)
        case.record([sock.getsockname()[0] for sock in server.sockets])
        server.close()
        await asyncio.sleep(0)

    assert agree(scenario)[0] == (("127.0.0.1", "127.0.0.2"),)


def test_an_address_in_use(agree):
    async def scenario(case):
        async with serving() as (server, address):
            try:
                await case.loop.create_server(Journal, *address)
            except OSError as error:
                case.record(error.errno == errno.EADDRINUSE)
                case.record(str(error).replace(str(address[1]), "?"))

    assert agree(scenario)[0] == (True,)
