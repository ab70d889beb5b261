"""The coroutines of the sock_* methods: what they are, wrong arguments, whose place they take."""

import array
import asyncio
import contextlib
import gc
import inspect
import socket

import pytest

from peers import receive, settle, socket_pair

NAMES = [
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
]
ARGUMENTS = {
    "sock_recv": (10,),
    "sock_recv_into": (bytearray(10),),
    "sock_recvfrom": (10,),
    "sock_recvfrom_into": (bytearray(10),),
    "sock_sendall": (b"data",),
    "sock_sendto": (b"data", ("127.0.0.1", 9)),
    "sock_connect": (("127.0.0.1", 9),),
    "sock_accept": (),
}


def udp(host="127.0.0.1", family=socket.AF_INET):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


@pytest.mark.parametrize("name", NAMES)
def test_what_they_are(agree, name):
    def scenario(case):
        method = getattr(case.loop, name)
        case.record(inspect.iscoroutinefunction(method))
        case.record(inspect.iscoroutinefunction(getattr(type(case.loop), name)))
        case.record(str(inspect.signature(method)), method.__name__, method.__qualname__)
        case.record(method.__self__ is case.loop, repr(method).split(" of ")[0])
        ours, theirs = socket_pair("tcp")
        with ours, theirs:
            coroutine = method(ours, *ARGUMENTS[name])
            case.record(asyncio.iscoroutine(coroutine), inspect.isawaitable(coroutine))
            case.record(coroutine.__name__, coroutine.__qualname__, repr(coroutine).split(" at ")[0])
            case.record(coroutine.cr_await, coroutine.cr_running)
            with case.catch():
                coroutine.send("too early")
            coroutine.close()
            coroutine.close()
            with case.catch():
                coroutine.send(None)
            with case.catch():
                coroutine.throw(ZeroDivisionError)
            coroutine = method(ours, *ARGUMENTS[name])
            with case.catch():
                coroutine.throw(ZeroDivisionError("before it began"))
            method(ours, *ARGUMENTS[name])

    record = agree(scenario)
    warning = ("warning", "RuntimeWarning")
    assert record[:2] == [(True,), (True,)] and record[-1][:2] == warning


@pytest.mark.parametrize("name", NAMES)
def test_wrong_calls(agree, name):
    def scenario(case):
        method = getattr(case.loop, name)
        for arguments, named in [
            ((), {}),
            ((None, 1, 2, 3, 4), {}),
            ((None,), {"what": 1}),
            ((None, *ARGUMENTS[name]), {"sock": None}),
        ]:
            with case.catch():
                method(*arguments, **named)
        with case.catch(text=False):
            getattr(type(case.loop), name)()

    assert len(agree(scenario)) == 5


def test_arguments_by_name(agree):
    async def scenario(case):
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            theirs.send(b"abcdef")
            case.record(await case.loop.sock_recv(sock=ours, n=2))
            buffer = bytearray(4)
            case.record(await case.loop.sock_recv_into(ours, buf=buffer), buffer)
            case.record(await case.loop.sock_sendall(data=b"x", sock=ours))
            with case.catch(text=False):
                await case.loop.sock_recv(sock=None, n=2)

    assert agree(scenario)[0] == (b"ab",)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_wrong_arguments(agree, kind):
    def refill(ours, theirs):
        with contextlib.suppress(BlockingIOError):
            ours.recv(100)
        theirs.send(b"data")

    async def scenario(case):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        words = memoryview(array.array("I", range(10)))
        with ours, theirs:
            ours.setblocking(False)
            for size in (0, -1, "x", None, 2.5, True, 1 << 20, 1 << 70):
                for method in (case.loop.sock_recv, case.loop.sock_recvfrom):
                    refill(ours, theirs)
                    with case.catch():
                        case.record(await method(ours, size))
            for buffer in (b"bytes", bytearray(), words, memoryview(bytearray(8))[::2], "x", None):
                refill(ours, theirs)
                with case.catch():
                    case.record(await case.loop.sock_recv_into(ours, buffer))
                for size in (0, 1, 100, -1, "x", None):
                    refill(ours, theirs)
                    with case.catch():
                        case.record(await case.loop.sock_recvfrom_into(ours, buffer, size))
            for data in (memoryview(b"12345678")[::2], "x", None, b"", bytearray(b"d")):
                with case.catch():
                    case.record(await case.loop.sock_sendall(ours, data))
                with case.catch():
                    case.record(await case.loop.sock_sendto(ours, data, "/nowhere/at/all"))

    assert agree(scenario)[0] == (b"",)


def test_addresses(agree, tmp_path):
    async def scenario(case):
        loop = case.loop
        with contextlib.ExitStack() as stack:
            one, two = stack.enter_context(udp()), stack.enter_context(udp())
            port = two.getsockname()[1]
            for address in [
                ("127.0.0.1", port),
                ["127.0.0.1", port],
                ("localhost", port),
                ("127.0.0.1", port, 0),
                ("127.0.0.1", -1),
                ("127.0.0.1", 1 << 20),
                ("127.0.0.1", str(port)),
                (b"127.0.0.1", port),
                ("::1", port),
                ("", port),
                (None, port),
                ("127.0.0.1",),
                "text",
                None,
                12,
            ]:
                with case.catch(text=False):
                    case.record(await loop.sock_sendto(one, b"packet", address))
                    data, sender = await loop.sock_recvfrom(two, 100)
                    case.record(data, sender == one.getsockname())
            with case.catch():
                await loop.sock_sendto(one, bytes(70_000), ("127.0.0.1", port))
            with case.catch():
                await loop.sock_sendto(one, b"x", ("255.255.255.255", 9))

            one = stack.enter_context(udp("::1", socket.AF_INET6))
            two = stack.enter_context(udp("::1", socket.AF_INET6))
            port = two.getsockname()[1]
            for rest in (), (0,), (5, 0), (1 << 20, 0), (0, 0, 0), (0, -1), ("x",):
                with case.catch(text=False):
                    await loop.sock_sendto(one, b"packet", ("::1", port, *rest))
                    _, sender = await loop.sock_recvfrom(two, 100)
                    case.record(sender[0], len(sender), sender == one.getsockname())

            one, two = (
                stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                for _ in range(2)
            )
            one.setblocking(False)
            two.setblocking(False)
            path = str(tmp_path / f"{case.aio.__name__}.sock")
            two.bind(path)
            for name in (None, path + "-one"):
                if name is not None:
                    one.bind(name)
                for address in (path, path.encode(), path + "\0", "\0nobody", "x" * 200, "", None):
                    with case.catch(text=False):
                        case.record(await loop.sock_sendto(one, b"packet", address))
                        case.record((await loop.sock_recvfrom(two, 100))[1] == name)

    record = agree(scenario)
    assert record[:3] == [(6,), (b"packet", True), ("raised", None)]


def test_streams_have_no_sender(agree):
    async def scenario(case):
        for family in "tcp", "unix":
            ours, theirs = socket_pair(family)
            with ours, theirs:
                theirs.send(b"abc")
                case.record(await case.loop.sock_recvfrom(ours, 1))
                case.record(await case.loop.sock_recvfrom_into(ours, bytearray(1)))

    assert agree(scenario) == [((b"a", None),), ((1, None),)] * 2


def test_sizes_that_change(agree):
    async def scenario(case):
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
            with ours, theirs:
                ours.setblocking(False)
                for size in (10, 100_000, 100_000, 10, 50_000, 40_000, 1, 100_000):
                    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
                    for most in (1 << 18, 60_000):
                        theirs.send(data)
                        received = await case.loop.sock_recv(ours, most)
                        if kind == socket.SOCK_STREAM and len(received) < size:
                            received += await case.loop.sock_recv(ours, 1 << 18)
                        case.record(len(received), received == data[: len(received)])
                task = case.loop.create_task(case.loop.sock_recv(ours, 1 << 18))
                await asyncio.sleep(0)
                theirs.send(bytes(70_000))
                case.record(len(await task))
                theirs.close()
                if kind == socket.SOCK_STREAM:
                    case.record(await case.loop.sock_recv(ours, 1 << 18))

    record = agree(scenario)
    assert record[2:4] == [(100_000, True), (100_000, True)]


def test_accepted_sockets(agree, tmp_path):
    async def scenario(case):
        path = str(tmp_path / f"{case.aio.__name__}.sock")
        for family, address in (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, path):
            with socket.socket(family) as server, socket.socket(family) as client:
                server.setblocking(False)
                client.setblocking(False)
                with case.catch():
                    await case.loop.sock_accept(server)
                server.bind(address)
                server.listen()
                await case.loop.sock_connect(client, server.getsockname())
                connection, peer = await case.loop.sock_accept(server)
                with connection:
                    case.record(type(connection), peer == client.getsockname())
                    case.record(connection.family, connection.type, connection.proto)
                    case.record(connection.gettimeout(), connection.get_inheritable())
                    case.record(connection.getpeername() == client.getsockname())

    assert agree(scenario)[0][1][0] == "OSError"


def test_connecting_says_where_to(agree):
    async def scenario(case):
        loop = case.loop
        for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
            with socket.socket(family) as unused:
                unused.bind((host, 0))
                port = unused.getsockname()[1]
                for rest in (), (0,), (0, 0):
                    with socket.socket(family) as client:
                        client.setblocking(False)
                        try:
                            await loop.sock_connect(client, (host, port, *rest))
                        except OSError as error:
                            case.record(error.errno, str(error).replace(str(port), "?"))
        for host in "::1", "127.0.0.1", "not a name", "127.1":
            with socket.socket(socket.AF_INET) as client:
                client.setblocking(False)
                with case.catch(text=False):
                    await loop.sock_connect(client, (host, port))
        with udp() as client, udp() as server:
            case.record(await loop.sock_connect(client, server.getsockname()))
            await loop.sock_sendall(client, b"connected")
            case.record((await loop.sock_recvfrom(server, 100))[0])

    assert "Connect call failed" in agree(scenario)[0][1]


@pytest.mark.parametrize("timeout", [None, 0.01])
def test_sockets_that_block(agree, timeout):
    """asyncio looks at the mode in debug mode only; then everything is as in Python's methods."""

    async def scenario(case):
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            ours.settimeout(timeout)
            theirs.send(b"there")
            case.record(await case.loop.sock_recv(ours, 100))
            case.record(await case.loop.sock_sendall(ours, b"x"))
            if timeout is not None:
                with case.catch():
                    await case.loop.sock_recv(ours, 100)

    assert agree(scenario)[0] == (b"there",)


def test_sockets_of_other_classes(agree):
    class Loud(socket.socket):
        def recv(self, *args):
            calls.append("recv")
            return super().recv(*args)

        def send(self, *args):
            calls.append("send")
            return super().send(*args)

    calls = []

    async def scenario(case):
        calls.clear()
        ours, theirs = socket_pair("unix")
        with Loud(fileno=ours.detach()) as ours, theirs:
            ours.setblocking(False)
            task = case.loop.create_task(case.loop.sock_recv(ours, 10))
            await asyncio.sleep(0)
            theirs.send(b"data")
            case.record(await task)
            await case.loop.sock_sendall(ours, b"answer")
            case.record(*calls)

    assert agree(scenario) == [(b"data",), ("recv", "recv", "send")]


def test_closed_sockets(agree):
    async def scenario(case):
        for name in NAMES:
            sock = socket.socket()
            sock.setblocking(False)
            sock.close()
            with case.catch():
                await getattr(case.loop, name)(sock, *ARGUMENTS[name])
            sock = socket.socket()
            sock.setblocking(False)
            coroutine = getattr(case.loop, name)(sock, *ARGUMENTS[name])
            sock.close()
            with case.catch():
                await coroutine

    record = agree(scenario)
    assert len(record) == 16 and record[0][1][:2] == ("OSError", 9)


def test_descriptors_of_transports_are_refused(agree):
    async def scenario(case):
        ours, theirs = socket_pair("tcp")
        with theirs:
            transport, _ = await case.loop.create_connection(asyncio.Protocol, sock=ours)
            transport.pause_reading()
            for name in NAMES[:4]:
                with case.catch(text=False):
                    await getattr(case.loop, name)(ours, *ARGUMENTS[name])
            with case.catch(text=False):
                await case.loop.sock_sendall(ours, bytes(10_000_000))
            transport.abort()
            await settle()

    assert agree(scenario) == [("raised", "RuntimeError")] * 5


def test_whoever_comes_last_has_the_place(agree):
    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            tasks = [loop.create_task(loop.sock_recv(ours, 1)) for _ in range(3)]
            await asyncio.sleep(0)
            theirs.send(b"abc")
            case.record(await tasks[2], tasks[0].done(), tasks[1].done())
            tasks[0].cancel()
            with case.catch():
                await tasks[0]
            case.record(await loop.sock_recv(ours, 10))
            # a reader takes it from an operation, and an operation from a reader
            task = loop.create_task(loop.sock_recv(ours, 1))
            await asyncio.sleep(0)
            loop.add_reader(ours, lambda: case.record("reader", ours.recv(10)))
            theirs.send(b"d")
            await settle()
            case.record(task.done())
            again = loop.create_task(loop.sock_recv(ours, 1))
            await asyncio.sleep(0)
            theirs.send(b"e")
            case.record(await again, loop.remove_reader(ours))
            # and a reader may be removed, whose ever it is
            again = loop.create_task(loop.sock_recv(ours, 1))
            await asyncio.sleep(0)
            case.record(loop.remove_reader(ours), loop.remove_reader(ours))
            theirs.send(b"f")
            await settle()
            case.record(again.done(), ours.recv(10))
            for left in (tasks[1], task, again):
                left.cancel()
            await asyncio.wait([tasks[1], task, again])

    record = agree(scenario)
    assert record[0] == (b"a", False, False)


def test_reading_and_writing_change_places(agree):
    """One descriptor with an operation on either side, and readers and writers between them."""

    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair("unix")
        data = bytes(3_000_000)
        with ours, theirs:
            for _ in range(3):
                reading = loop.create_task(loop.sock_recv(ours, 10))
                writing = loop.create_task(loop.sock_sendall(ours, data))
                await asyncio.sleep(0)
                theirs.send(b"first")
                case.record(await reading)
                case.record(await receive(theirs, len(data)) == data, await writing)
                written = []
                loop.add_writer(ours, written.append, 1)
                reading = loop.create_task(loop.sock_recv(ours, 10))
                await settle()
                theirs.send(b"second")
                case.record(await reading, bool(written), loop.remove_writer(ours))
                loop.add_reader(ours, case.record, "not called")
                await loop.sock_sendall(ours, b"x")
                await receive(theirs, 1)
                case.record(loop.remove_reader(ours), loop.remove_writer(ours))

    assert agree(scenario)[0] == (b"first",)


def test_a_number_that_comes_back(agree):
    """The socket is closed while a call waits, and another one gets its descriptor's number."""

    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair("unix")
        number = ours.fileno()
        waiting = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        ours.close()
        theirs.close()
        await settle()
        waiting.cancel()
        with case.catch():
            await waiting
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            case.record(ours.fileno() == number)
            for _ in range(3):
                task = loop.create_task(loop.sock_recv(ours, 10))
                await asyncio.sleep(0)
                theirs.send(b"data")
                case.record(await task)
            number = ours.fileno()
            ours.close()
            theirs.close()
        # registered once and silent now, so that the next socket has the number for itself
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            case.record(ours.fileno() == number)
            loop.add_reader(ours, lambda: case.record("reader", ours.recv(10)))
            theirs.send(b"seen")
            await settle()
            case.record(loop.remove_reader(ours))

    record = agree(scenario)
    assert record[1:5] == [(True,), (b"data",), (b"data",), (b"data",)]
    assert record[-2:] == [("reader", b"seen"), (True,)]


def test_a_released_coroutine_leaves_its_place(agree):
    def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            for end in ("close", "throw", "release"):
                coroutine = loop.sock_recv(ours, 10)
                future = coroutine.send(None)
                case.record(asyncio.isfuture(future), coroutine.cr_await is not None)
                if end == "close":
                    coroutine.close()
                elif end == "throw":
                    with case.catch():
                        coroutine.throw(ZeroDivisionError("thrown"))
                del coroutine
                gc.collect()
                if end == "release":
                    theirs.send(b"ends it")
                else:
                    future.cancel()
                loop.run_until_complete(settle())
                case.record(future.done(), loop.remove_reader(ours))

    assert agree(scenario)[1] == (True, False)


def test_waiting_for_data_that_changes(agree):
    async def scenario(case):
        loop = case.loop
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            data = bytearray(b"a" * 3_000_000)
            task = loop.create_task(loop.sock_sendall(ours, data))
            await asyncio.sleep(0)
            with case.catch():
                data.clear()
            data[-1:] = b"z"
            case.record((await receive(theirs, len(data)))[-2:], await task)
            data.clear()

    assert agree(scenario)[-1] == (b"az", None)


def test_a_loop_that_is_replaced_in_part(agree):
    """Futures come from the loop's own create_future()."""

    async def scenario(case):
        loop = case.loop
        made = []
        create = loop.create_future
        loop.create_future = lambda: made.append(1) or create()
        try:
            ours, theirs = socket_pair("unix")
            with ours, theirs:
                task = loop.create_task(loop.sock_recv(ours, 10))
                await asyncio.sleep(0)
                case.record(len(made))
                theirs.send(b"data")
                case.record(await task)
        finally:
            del loop.create_future

    assert agree(scenario) == [(1,), (b"data",)]


def test_a_closed_loop(agree):
    def scenario(case):
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            waiting = case.loop.sock_recv(ours, 10)
            waiting.send(None)
            case.loop.close()
            coroutine = case.loop.sock_recv(ours, 10)
            with case.catch():
                coroutine.send(None)
            waiting.close()

    assert agree(scenario)[0] == ("raised", ("RuntimeError", "Event loop is closed"))
