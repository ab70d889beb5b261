"""The sock_* methods: results, cancellation, bad sockets."""

import asyncio
import socket
import struct

import pytest

from peers import receive, socket_pair


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


def test_receive(agree, family):
    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair(family)
        with ours, theirs:
            theirs.send(b"at once")
            case.record(await loop.sock_recv(ours, 4), await loop.sock_recv(ours, 100))
            loop.call_later(0.001, theirs.send, b"later")
            case.record(await loop.sock_recv(ours, 100))
            buffer = bytearray(8)
            theirs.send(b"into")
            case.record(await loop.sock_recv_into(ours, buffer), bytes(buffer))
            loop.call_later(0.001, theirs.send, b"later")
            case.record(await loop.sock_recv_into(ours, memoryview(buffer)[2:]), bytes(buffer))
            theirs.close()
            case.record(await loop.sock_recv(ours, 100), await loop.sock_recv_into(ours, buffer))

    assert agree(scenario)[:2] == [(b"at o", b"nce"), (b"later",)]


def test_send(agree, family):
    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair(family)
        with ours, theirs:
            case.record(await loop.sock_sendall(ours, b"short"))
            case.record(await receive(theirs, 5))
            data = bytes(range(256)) * 20_000
            for kind in (bytes, bytearray, memoryview):
                reading = case.loop.create_task(receive(theirs, len(data)))
                await loop.sock_sendall(ours, kind(data))
                case.record(await reading == data)
            case.record(await loop.sock_sendall(ours, b""))

    assert agree(scenario)[2:5] == [(True,)] * 3


def test_connect_and_accept(agree):
    async def scenario(case):
        loop = case.loop
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            server.setblocking(False)
            client.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(server))
            await asyncio.sleep(0)
            case.record(await loop.sock_connect(client, server.getsockname()))
            connection, address = await accepting
            with connection:
                case.record(address == client.getsockname(), connection.gettimeout())
                await loop.sock_sendall(client, b"hello")
                case.record(await loop.sock_recv(connection, 10))
                with case.catch():
                    await loop.sock_connect(client, server.getsockname())

    assert agree(scenario)[1] == (True, 0.0)


def test_connect_refused(agree):
    async def scenario(case):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = unused.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            with case.catch():
                await case.loop.sock_connect(client, address)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with case.catch():
                await case.loop.sock_connect(client, "/nonexistent/socket")
        with socket.socket() as client:
            client.setblocking(False)
            for wrong in (None, ("127.0.0.1",), ("127.0.0.1", "text"), 12):
                try:
                    await case.loop.sock_connect(client, wrong)
                except Exception as error:
                    case.record(type(error))

    record = agree(scenario)
    assert record[0][1][0] == "ConnectionRefusedError"


def test_datagrams(agree):
    async def scenario(case):
        loop = case.loop
        with (
            socket.socket(type=socket.SOCK_DGRAM) as one,
            socket.socket(type=socket.SOCK_DGRAM) as two,
        ):
            for sock in one, two:
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
            case.record(await loop.sock_sendto(one, b"packet", two.getsockname()))
            data, address = await loop.sock_recvfrom(two, 100)
            case.record(data, address == one.getsockname())
            loop.call_later(0.001, one.sendto, b"later", two.getsockname())
            buffer = bytearray(10)
            count, address = await loop.sock_recvfrom_into(two, buffer)
            case.record(count, bytes(buffer), address == one.getsockname())
            one.sendto(b"abcdef", two.getsockname())
            count, address = await loop.sock_recvfrom_into(two, buffer, 3)
            case.record(count, bytes(buffer))
            one.sendto(b"", two.getsockname())
            case.record((await loop.sock_recvfrom(two, 100))[0])

    assert agree(scenario)[0] == (6,)


@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_accept"])
def test_cancelled_reads_leave_no_reader(agree, name):
    async def scenario(case):
        loop = case.loop

        def call():
            if name == "sock_accept":
                return loop.sock_accept(ours)
            return getattr(loop, name)(ours, bytearray(10) if name.endswith("into") else 10)

        if name == "sock_accept":
            ours = socket.create_server(("127.0.0.1", 0))
            ours.setblocking(False)
            theirs = None
        else:
            ours, theirs = socket_pair("unix")
        with ours:
            for steps in range(4):
                task = loop.create_task(call())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel("message")
                with case.catch():
                    await task
                case.record(steps, loop.remove_reader(ours))
            with case.catch():
                async with asyncio.timeout(0.002):
                    await call()
            case.record(loop.remove_reader(ours))
            task = loop.create_task(call())
            await asyncio.sleep(0)
            if theirs is None:
                theirs = socket.create_connection(ours.getsockname())
                (await task)[0].close()
            else:
                theirs.send(b"works")
                case.record(await task)
            theirs.close()

    record = agree(scenario)
    assert all(entry[-1] is False for entry in record if entry[0] in range(4))


def test_a_cancelled_write_leaves_no_writer(agree):
    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            task = loop.create_task(loop.sock_sendall(ours, b"x" * 10_000_000))
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()
            with case.catch():
                await task
            case.record(loop.remove_writer(ours))
            while True:
                try:
                    theirs.recv(1_000_000)
                except BlockingIOError:
                    break
            await loop.sock_sendall(ours, b"works")
            case.record(await receive(theirs, 5))

    assert agree(scenario)[-2:] == [(False,), (b"works",)]


def test_a_cancelled_connect_leaves_no_writer(agree):
    async def scenario(case):
        loop = case.loop
        # a queue of one that is full: further connections wait
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            clients = [socket.socket() for _ in range(4)]
            for client in clients:
                client.setblocking(False)
            tasks = [
                loop.create_task(loop.sock_connect(client, server.getsockname()))
                for client in clients
            ]
            await asyncio.sleep(0.005)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            case.record(any(task.cancelled() for task in tasks))
            case.record([loop.remove_writer(client) for client in clients])
            for client in clients:
                client.close()

    assert agree(scenario) == [(True,), ((False,) * 4,)]


def test_blocking_sockets_are_refused_in_debug_mode(agree, debug):
    async def scenario(case):
        loop = case.loop
        with socket.socket() as sock:
            for call in (
                lambda: loop.sock_recv(sock, 1),
                lambda: loop.sock_recv_into(sock, bytearray(1)),
                lambda: loop.sock_recvfrom(sock, 1),
                lambda: loop.sock_recvfrom_into(sock, bytearray(1)),
                lambda: loop.sock_sendall(sock, b"x"),
                lambda: loop.sock_sendto(sock, b"x", ("127.0.0.1", 1)),
                lambda: loop.sock_connect(sock, ("127.0.0.1", 1)),
                lambda: loop.sock_accept(sock),
            ):
                if debug:
                    with case.catch():
                        await call()
            case.record("end")

    record = agree(scenario, debug)
    if debug:
        assert record[0] == ("raised", ("ValueError", "the socket must be non-blocking"))


def test_two_at_once(agree, family):
    """Reading and writing one socket at the same time."""

    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair(family)
        with ours, theirs:
            data = b"0123456789" * 100_000
            results = await asyncio.gather(
                loop.sock_sendall(ours, data),
                loop.sock_sendall(theirs, data),
                receive(ours, len(data)),
                receive(theirs, len(data)),
            )
            case.record([result == data for result in results])

    assert agree(scenario) == [((False, False, True, True),)]


def test_names_are_resolved(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", server.getsockname()[1]))
            server.accept()[0].close()

    run(main)


def test_a_peer_that_resets(agree):
    async def scenario(case):
        ours, theirs = socket_pair("tcp")
        with ours:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            task = case.loop.create_task(case.loop.sock_recv(ours, 10))
            await asyncio.sleep(0)
            theirs.close()
            with case.catch():
                await task
            with case.catch():
                await case.loop.sock_sendall(ours, b"x" * 100)

    record = agree(scenario)
    assert record[0][1][0] == "ConnectionResetError"
