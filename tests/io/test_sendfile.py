"""sendfile() and sock_sendfile(): offsets, counts, where the file stands afterwards, cancellation."""

import asyncio
import contextlib
import io
import os
import socket
import zlib

import pytest

from peers import connected, receive, settle, socket_pair

# More than the sockets of a pair take at once.
DATA = bytes(range(256)) * 12_000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def in_memory(path):
    return io.BytesIO(path.read_bytes())


def unbuffered(path):
    return open(path, "rb", buffering=0)


def buffered(path):
    return open(path, "rb")


def without_position(path):
    """A file that can be read and nothing else."""

    class Reading:
        def __init__(self):
            self.file = in_memory(path)

        def read(self, size):
            return self.file.read(size)

        def close(self):
            pass

        def tell(self):
            return self.file.tell()

    return Reading()


@contextlib.asynccontextmanager
async def sockets(case, family):
    """A socket to send a file on, and a list to which all that arrives is added at the end."""
    ours, theirs = socket_pair(family)
    received = []
    with ours, theirs:
        reading = case.loop.create_task(receive(theirs))
        try:
            yield ours, received
        finally:
            if ours.fileno() >= 0:
                ours.shutdown(socket.SHUT_WR)
            received.append(await reading)


@contextlib.asynccontextmanager
async def transports(case, family):
    """The same for a transport; its protocol comes second."""
    async with connected(family) as (transport, protocol, theirs):
        received = []
        reading = case.loop.create_task(receive(theirs))
        try:
            yield transport, protocol, received
        finally:
            transport.close()
            received.append(await reading)
            await protocol.lost


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


@pytest.mark.parametrize("opened", [buffered, unbuffered, in_memory, without_position])
@pytest.mark.parametrize("way", ["sock", "transport"])
def test_parts_of_a_file(agree, path, family, opened, way):
    size = len(DATA)

    async def scenario(case):
        loop = case.loop
        for offset, count in [
            (0, None),
            (0, size),
            (0, 10),
            (5, 10),
            (0, size + 1000),
            (size - 3, None),
            (size - 3, 10),
            (size, None),
            (size + 10, 10),
            (1000, 1_000_000),
        ]:
            with contextlib.closing(opened(path)) as file, case.catch(text=False):
                if way == "sock":
                    async with sockets(case, family) as (ours, received):
                        case.record(await loop.sock_sendfile(ours, file, offset, count))
                else:
                    async with transports(case, family) as (transport, protocol, received):
                        transport.write(b"before")
                        case.record(await loop.sendfile(transport, file, offset, count))
                        transport.write(b"after")
                    # how often it is paused by the fallback is a matter of time
                    case.record(protocol.calls[0], protocol.calls[-1])
            case.record(len(received[0]), zlib.crc32(received[0]))

    record = agree(scenario)
    assert record[0] == (size,) or opened is without_position


@pytest.mark.parametrize("opened", [buffered, unbuffered, in_memory])
def test_where_the_file_stands(agree, path, opened):
    async def scenario(case):
        for offset, count in (0, None), (0, 10), (5, 10), (len(DATA) - 3, 10), (len(DATA), None):
            with opened(path) as file:
                file.seek(7)
                async with sockets(case, "tcp") as (ours, _):
                    case.record(await case.loop.sock_sendfile(ours, file, offset, count))
                case.record(file.tell(), file.read(3))

    # without the system's call, earlier versions begin where the file stands
    assert agree(scenario)[0][0] in (len(DATA), len(DATA) - 7)


@pytest.mark.parametrize("way", ["sock", "transport"])
def test_wrong_arguments(agree, path, way):
    async def scenario(case):
        loop = case.loop

        async def attempts(send):
            for arguments, named in [
                *(((file, offset), {}) for offset in (-1, "x", 1.5)),
                *(((file, 0, count), {}) for count in (-1, 0, "x", 1.5)),
                ((text,), {}),
                ((io.BytesIO(b"bytes"),), {"fallback": False}),
                ((None,), {}),
                ((None,), {"fallback": False}),
            ]:
                with case.catch():
                    case.record(await send(*arguments, **named))

        with open(path, "rb") as file, open(path) as text:
            if way == "sock":
                async with sockets(case, "tcp") as (ours, received):
                    await attempts(lambda *args, **named: loop.sock_sendfile(ours, *args, **named))
            else:
                async with transports(case, "tcp") as (transport, _, received):
                    await attempts(lambda *args, **named: loop.sendfile(transport, *args, **named))
        case.record(len(received[0]))

    agree(scenario)


def test_wrong_sockets(agree, path, debug):
    async def scenario(case):
        loop = case.loop
        with open(path, "rb") as file:
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                with case.catch():
                    await loop.sock_sendfile(sock, file)
            with socket.socket() as sock:
                sock.setblocking(False)
                for fallback in True, False:
                    with case.catch():
                        await loop.sock_sendfile(sock, file, fallback=fallback)
            if debug:
                with socket.socket() as sock, case.catch():
                    await loop.sock_sendfile(sock, file)
            sock = socket.socket()
            sock.setblocking(False)
            sock.close()
            with case.catch():
                await loop.sock_sendfile(sock, file)

    assert len(agree(scenario, debug)) == 5 if debug else 4


def test_empty_files(agree, tmp_path):
    (tmp_path / "empty").write_bytes(b"")

    async def scenario(case):
        async with transports(case, "tcp") as (transport, _, received):
            with open(tmp_path / "empty", "rb") as file:
                case.record(await case.loop.sendfile(transport, file))
            with open("/proc/version", "rb") as file:
                # it says that it is empty, and is not
                case.record(await case.loop.sendfile(transport, file))
        case.record(received)

    assert agree(scenario) == [(0,), (0,), ((b"",),)]


def test_pipes_are_sent_by_the_fallback(agree):
    async def scenario(case):
        async with transports(case, "tcp") as (transport, _, received):
            reading, writing = os.pipe()
            with open(reading, "rb") as source:
                with open(writing, "wb") as sink:
                    sink.write(b"through a pipe")
                with case.catch(text=False):
                    case.record(await case.loop.sendfile(transport, source))
        case.record(received)

    agree(scenario)


@pytest.mark.parametrize("way", ["sock", "transport"])
def test_cancelled(agree, path, family, way):
    async def scenario(case):
        loop = case.loop
        for steps in (0, 1, 2, 3):
            with open(path, "rb") as file:
                if way == "sock":
                    ours, theirs = socket_pair(family)
                    sending = loop.sock_sendfile(ours, file)
                else:
                    pair = connected(family)
                    transport, _, theirs = await pair.__aenter__()
                    sending = loop.sendfile(transport, file)
                task = loop.create_task(sending)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with case.catch():
                    await task
                await settle()
                reading = loop.create_task(receive(theirs))
                if way == "sock":
                    case.record(loop.remove_writer(ours), loop.remove_reader(ours))
                    # the socket can be used on
                    await loop.sock_sendall(ours, b"more")
                    ours.close()
                else:
                    case.record(transport.is_closing(), transport.is_reading())
                    transport.write(b"more")
                    transport.close()
                received = await reading
                case.record(received[-4:], received[:-4] == DATA[: len(received) - 4])
                if way == "sock":
                    theirs.close()
                else:
                    await pair.__aexit__(None, None, None)
                # the position is where the socket was full, if anything was sent
                case.record(file.tell() == len(received) - 4)

    record = agree(scenario)
    assert record[0] == ("raised", ("CancelledError",))


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing_meanwhile(agree, path, family, how):
    async def scenario(case):
        loop = case.loop
        with open(path, "rb") as file:
            async with connected(family) as (transport, protocol, theirs):
                task = loop.create_task(loop.sendfile(transport, file))
                await settle()
                with case.catch():
                    transport.write(b"in between")
                getattr(transport, how)()
                await settle()
                with case.catch(text=False):
                    # the socket is closed under it: nobody would tell it otherwise
                    task.cancel()
                    await task
                await protocol.lost
                case.record(*protocol.calls)
                with case.catch():
                    await loop.sendfile(transport, file)

    # asyncio reports that it cannot set the exception of a future that is done
    record = agree(scenario, asyncio_is_wrong=True)
    assert record[-1] == ("raised", ("RuntimeError", "Transport is closing"))
    assert not [entry for entry in record if entry[0] == "report"]


def test_the_peer_goes_meanwhile(agree, path, family):
    async def scenario(case):
        loop = case.loop
        with open(path, "rb") as file:
            ours, theirs = socket_pair(family)
            with ours:
                task = loop.create_task(loop.sock_sendfile(ours, file))
                await settle()
                theirs.close()
                with case.catch(text=False):
                    await task
                case.record(loop.remove_writer(ours), file.tell() > 0)

    assert agree(scenario)[1] == (False, True)


def test_large_writes_before(agree, path):
    """What was written before the file leaves before it."""

    async def scenario(case):
        async with connected("tcp") as (transport, protocol, theirs):
            transport.write(bytes(3_000_000))
            case.record(transport.get_write_buffer_size() > 0)
            with open(path, "rb") as file:
                reading = case.loop.create_task(receive(theirs, 3_000_000 + len(DATA) + 3))
                case.record(await case.loop.sendfile(transport, file))
            transport.write(b"end")
            received = await reading
            case.record(received[:3_000_000].count(0), received[3_000_000:] == DATA + b"end")
            case.record(*protocol.calls)

    assert agree(scenario)[1] == (len(DATA),)


def test_two_at_once(agree, path):
    async def scenario(case):
        loop = case.loop
        pairs = [socket_pair("unix") for _ in range(3)]
        files = [open(path, "rb") for _ in pairs]
        results = await asyncio.gather(
            *(loop.sock_sendfile(ours, file) for (ours, _), file in zip(pairs, files)),
            *(receive(theirs, len(DATA)) for _, theirs in pairs),
        )
        case.record(results[:3], [data == DATA for data in results[3:]])
        for file in files:
            file.close()
        for pair in pairs:
            for sock in pair:
                sock.close()

    assert agree(scenario)[0][0] == (len(DATA),) * 3
