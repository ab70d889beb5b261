"""The calls that wait, each with what it needs and with what undoes it.

Each is an async generator: it makes things ready, yields the awaitable, and gets its result, or
None if it was interrupted.
"""

import asyncio
import contextlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import time

from aioxide.threads import Queue
from tls_peers import HOST, client_context, server_context

ALL = {}
# A thread may be done at once, or none is asked.
MAY_NOT_WAIT = [
    "getaddrinfo",
    "getnameinfo",
    "run_in_executor",
    "to_thread",
    "shutdown_default_executor",
]
if sys.version_info < (3, 12):
    # It waited only while the server was open.
    MAY_NOT_WAIT.append("wait_closed")
DATA = b"some data\n"
MUCH = bytes(range(256)) * 4000


def call(function):
    ALL[function.__name__] = function
    return function


def pair(world):
    """Two connected sockets that do not block, closed in the end."""
    ours, theirs = map(world.stack.enter_context, socket.socketpair())
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def serving(world, tls=False, unix=False):
    """The address of a server."""
    options = {"ssl": server_context() if tls else None}
    if unix:
        address = f"{world.folder}/{len(os.listdir(world.folder))}.sock"
        server = await world.loop.create_unix_server(world.protocol, address, **options)
    else:
        server = await world.loop.create_server(world.protocol, "127.0.0.1", 0, **options)
        address = server.sockets[0].getsockname()
    world.stack.callback(server.close)
    return address


TLS = {"server_hostname": HOST}


def tls():
    return {"ssl": client_context(), **TLS}


def drained(sock):
    """What comes out of a socket until there is no more."""
    data = bytearray()
    with contextlib.suppress(BlockingIOError):
        while chunk := sock.recv(1 << 20):
            data += chunk
    return bytes(data)


# -- connections ----------------------------------------------------------------


@call
async def create_connection(world):
    yield world.loop.create_connection(world.protocol, *await serving(world))


@call
async def create_connection_by_name(world):
    _, port = await serving(world)
    yield world.loop.create_connection(world.protocol, "localhost", port, family=socket.AF_INET)


@call
async def create_connection_from_an_address(world):
    address = await serving(world)
    yield world.loop.create_connection(world.protocol, *address, local_addr=("127.0.0.1", 0))


@call
async def create_connection_of_the_fastest(world):
    address = await serving(world)
    yield world.loop.create_connection(
        world.protocol, *address, happy_eyeballs_delay=0.001, interleave=1
    )


@call
async def create_connection_with_tls(world):
    yield world.loop.create_connection(world.protocol, *await serving(world, tls=True), **tls())


@call
async def create_connection_of_a_socket(world):
    ours, theirs = socket.socketpair()
    world.stack.enter_context(theirs)
    yield world.loop.create_connection(world.protocol, sock=ours)
    ours.close()


@call
async def create_connection_of_a_socket_with_tls(world):
    sock = socket.create_connection(await serving(world, tls=True))
    sock.setblocking(False)
    yield world.loop.create_connection(world.protocol, sock=sock, **tls())
    sock.close()


@call
async def create_unix_connection(world):
    yield world.loop.create_unix_connection(world.protocol, await serving(world, unix=True))


@call
async def create_unix_connection_with_tls(world):
    address = await serving(world, tls=True, unix=True)
    yield world.loop.create_unix_connection(world.protocol, address, **tls())


@call
async def connect_accepted_socket(world):
    ours, theirs = socket.socketpair()
    world.stack.enter_context(theirs)
    yield world.loop.connect_accepted_socket(world.protocol, ours)
    ours.close()


@call
async def connect_accepted_socket_with_tls(world):
    ours, theirs = socket.socketpair()
    connecting = asyncio.ensure_future(
        world.loop.create_connection(world.protocol, sock=theirs, **tls())
    )
    yield world.loop.connect_accepted_socket(world.protocol, ours, ssl=server_context())
    ours.close()
    await asyncio.wait([connecting])
    connecting.exception()


@call
async def open_connection(world):
    streams = yield asyncio.open_connection(*await serving(world))
    if streams:
        streams[1].close()


@call
async def open_unix_connection(world):
    streams = yield asyncio.open_unix_connection(await serving(world, unix=True))
    if streams:
        streams[1].close()


# -- start_tls ------------------------------------------------------------------


async def both_ends(world):
    ours, theirs = socket.socketpair()
    near, _ = await world.loop.create_connection(world.protocol, sock=ours)
    far, _ = await world.loop.connect_accepted_socket(world.protocol, theirs)
    return near, far


@call
async def start_tls(world):
    near, far = await both_ends(world)
    accepting = asyncio.ensure_future(
        world.loop.start_tls(far, world.protocols[1], server_context(), server_side=True)
    )
    yield world.loop.start_tls(near, world.protocols[0], client_context(), **TLS)
    near.abort()
    await asyncio.wait([accepting])
    accepting.exception()


@call
async def start_tls_of_the_server(world):
    near, far = await both_ends(world)
    starting = asyncio.ensure_future(
        world.loop.start_tls(near, world.protocols[0], client_context(), **TLS)
    )
    yield world.loop.start_tls(far, world.protocols[1], server_context(), server_side=True)
    far.abort()
    await asyncio.wait([starting])
    starting.exception()


@call
async def start_tls_of_streams(world):
    ours, theirs = socket.socketpair()
    _, near = await asyncio.open_connection(sock=ours)
    far, _ = await world.loop.connect_accepted_socket(world.protocol, theirs)
    accepting = asyncio.ensure_future(
        world.loop.start_tls(far, world.protocols[0], server_context(), server_side=True)
    )
    yield near.start_tls(client_context(), **TLS)
    near.transport.abort()
    await asyncio.wait([accepting])
    accepting.exception()


# -- servers --------------------------------------------------------------------


@call
async def create_server(world):
    server = yield world.loop.create_server(world.protocol, "127.0.0.1", 0)
    if server:
        server.close()


@call
async def create_server_by_name(world):
    server = yield world.loop.create_server(world.protocol, "localhost", 0, family=socket.AF_INET)
    if server:
        server.close()


@call
async def create_unix_server(world):
    path = f"{world.folder}/{len(os.listdir(world.folder))}.sock"
    server = yield world.loop.create_unix_server(world.protocol, path)
    if server:
        server.close()


@call
async def start_server(world):
    server = yield asyncio.start_server(print, "127.0.0.1", 0)
    if server:
        server.close()


@call
async def start_serving(world):
    server = await world.loop.create_server(world.protocol, "127.0.0.1", 0, start_serving=False)
    yield server.start_serving()
    server.close()


@call
async def serve_forever(world):
    server = await world.loop.create_server(world.protocol, "127.0.0.1", 0)

    async def serve():
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()

    world.later(server.close)
    yield serve()
    server.close()


@call
async def wait_closed(world):
    server = await world.loop.create_server(world.protocol, "127.0.0.1", 0)
    transport, _ = await world.loop.create_connection(
        world.protocol, *server.sockets[0].getsockname()
    )
    await world.until(lambda: len(world.protocols) == 2, lambda: "not accepted")
    server.close()
    world.later(transport.close)
    yield server.wait_closed()
    transport.close()


# -- sockets --------------------------------------------------------------------


@call
async def sock_recv(world):
    ours, theirs = pair(world)
    world.later(theirs.send, DATA)
    got = yield world.loop.sock_recv(ours, 100)
    # a read that was interrupted has taken nothing, and the next one works
    assert (got or await world.loop.sock_recv(ours, 100)) == DATA


@call
async def sock_recv_into(world):
    ours, theirs = pair(world)
    world.later(theirs.send, DATA)
    buffer = bytearray(100)
    count = yield world.loop.sock_recv_into(ours, buffer)
    count = count or await world.loop.sock_recv_into(ours, buffer)
    assert buffer[:count] == DATA


@call
async def sock_recvfrom(world):
    ours, theirs = pair(world)
    world.later(theirs.send, DATA)
    got = yield world.loop.sock_recvfrom(ours, 100)
    assert (got or await world.loop.sock_recvfrom(ours, 100))[0] == DATA


@call
async def sock_recvfrom_into(world):
    ours, theirs = pair(world)
    world.later(theirs.send, DATA)
    buffer = bytearray(100)
    got = yield world.loop.sock_recvfrom_into(ours, buffer)
    count, _ = got or await world.loop.sock_recvfrom_into(ours, buffer)
    assert buffer[:count] == DATA


@call
async def sock_sendall(world):
    ours, theirs = pair(world)
    received = bytearray()
    world.loop.add_reader(theirs, lambda: received.extend(drained(theirs)))
    world.stack.callback(world.loop.remove_reader, theirs)
    yield world.loop.sock_sendall(ours, MUCH)
    await world.loop.sock_sendall(ours, b"end")
    await world.until(lambda: received.endswith(b"end"), lambda: "the end was not sent")
    assert MUCH.startswith(received[:-3])


@call
async def sock_sendto(world):
    address = f"\0aioxide-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours, socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM
    ) as theirs:
        theirs.bind(address)
        ours.setblocking(False)
        theirs.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while ours.sendto(DATA, address):
                sent += 1
        world.later(drained, theirs)
        yield world.loop.sock_sendto(ours, DATA, address)
        drained(theirs)
        assert await world.loop.sock_sendto(ours, DATA, address) == len(DATA)


@call
async def sock_connect(world):
    address = await serving(world)
    with socket.socket() as sock:
        sock.setblocking(False)
        yield world.loop.sock_connect(sock, address)
        await world.loop.sock_sendall(sock, DATA)


@call
async def sock_connect_to_a_full_server(world):
    """One that must wait."""
    address = f"\0aioxide-{os.getpid()}-full"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(address)
        server.listen(0)
        first, second = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        for sock in server, first, second:
            sock.setblocking(False)
        first.connect(address)
        world.later(lambda: stack.enter_context(server.accept()[0]))
        with contextlib.suppress(BlockingIOError):
            yield world.loop.sock_connect(second, address)


@call
async def sock_connect_by_name(world):
    _, port = await serving(world)
    with socket.socket() as sock:
        sock.setblocking(False)
        yield world.loop.sock_connect(sock, ("localhost", port))


@call
async def sock_accept(world):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setblocking(False)
        world.later(client.connect, server.getsockname())
        got = yield world.loop.sock_accept(server)
        # a connection that comes in meanwhile is the next one's
        connection, _ = got or await world.loop.sock_accept(server)
        connection.close()


# -- files ----------------------------------------------------------------------


def file_of(world, data=MUCH):
    file = world.stack.enter_context(tempfile.TemporaryFile())
    file.write(data)
    file.seek(0)
    return file


async def connected_with_reader(world, **options):
    address = await serving(world, tls=bool(options))
    transport, _ = await world.loop.create_connection(world.protocol, *address, **options)
    return transport


@call
async def sendfile(world):
    transport = await connected_with_reader(world)
    yield world.loop.sendfile(transport, file_of(world))
    assert not transport.is_closing() or transport.get_extra_info("socket").fileno() == -1


@call
async def sendfile_with_tls(world):
    transport = await connected_with_reader(world, **tls())
    yield world.loop.sendfile(transport, file_of(world, MUCH[:300_000]))


@call
async def sock_sendfile(world):
    ours, theirs = pair(world)
    world.loop.add_reader(theirs, drained, theirs)
    world.stack.callback(world.loop.remove_reader, theirs)
    yield world.loop.sock_sendfile(ours, file_of(world))
    await world.loop.sock_sendall(ours, DATA)


@call
async def sock_sendfile_by_the_fallback(world):
    ours, theirs = pair(world)
    world.loop.add_reader(theirs, drained, theirs)
    world.stack.callback(world.loop.remove_reader, theirs)
    yield world.loop.sock_sendfile(ours, io.BytesIO(MUCH[:300_000]))
    await world.loop.sock_sendall(ours, DATA)


# -- datagrams and pipes ----------------------------------------------------------


@call
async def create_datagram_endpoint(world):
    yield world.loop.create_datagram_endpoint(world.protocol, local_addr=("127.0.0.1", 0))


@call
async def create_datagram_endpoint_by_name(world):
    yield world.loop.create_datagram_endpoint(
        world.protocol, remote_addr=("localhost", 9), family=socket.AF_INET
    )


@call
async def create_datagram_endpoint_of_a_socket(world):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    yield world.loop.create_datagram_endpoint(world.protocol, sock=sock)
    sock.close()


@call
async def connect_read_pipe(world):
    ends = os.pipe()
    file = open(ends[0], "rb", 0)
    world.stack.callback(os.close, ends[1])
    if not (yield world.loop.connect_read_pipe(world.protocol, file)):
        file.close()


@call
async def connect_write_pipe(world):
    ends = os.pipe()
    file = open(ends[1], "wb", 0)
    world.stack.callback(os.close, ends[0])
    if not (yield world.loop.connect_write_pipe(world.protocol, file)):
        file.close()


# -- children ---------------------------------------------------------------------


@call
async def subprocess_exec(world):
    yield world.loop.subprocess_exec(world.protocol, "cat")


@call
async def subprocess_shell(world):
    yield world.loop.subprocess_shell(world.protocol, "cat; exit 3")


def cat(**options):
    return asyncio.create_subprocess_exec(
        "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    )


async def end(process):
    if process:
        process._transport.close()
        await process.wait()


@call
async def create_subprocess_exec(world):
    process = yield cat(stderr=subprocess.PIPE)
    await end(process)


@call
async def communicate(world):
    process = await cat()
    got = yield process.communicate(MUCH)
    assert got in (None, (MUCH, None))
    await end(process)


@call
async def wait(world):
    process = await cat()
    world.later(process.stdin.close)
    yield process.wait()
    process.stdin.close()
    assert await process.wait() == 0
    await end(process)


# -- threads ----------------------------------------------------------------------


@call
async def getaddrinfo(world):
    yield world.loop.getaddrinfo("localhost", "http", type=socket.SOCK_STREAM)


@call
async def getnameinfo(world):
    yield world.loop.getnameinfo(("127.0.0.1", 80))


@call
async def run_in_executor(world):
    yield world.loop.run_in_executor(None, time.sleep, 0.001)


@call
async def to_thread(world):
    yield asyncio.to_thread(time.sleep, 0.001)


@call
async def shutdown_default_executor(world):
    await world.loop.run_in_executor(None, time.sleep, 0)
    yield world.loop.shutdown_default_executor()


@call
async def shutdown_asyncgens(world):
    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)

    iterator = numbers()
    await anext(iterator)
    yield world.loop.shutdown_asyncgens()
    await iterator.aclose()


# -- queues between loops and threads -----------------------------------------------


@call
async def get_of_a_thread_queue(world):
    queue = Queue()
    world.later(queue.sync_q.put, DATA)
    got = yield queue.async_q.get()
    # a get that was interrupted has taken nothing
    assert (got or await queue.async_q.get()) == DATA
    assert not queue.qsize()


@call
async def put_of_a_thread_queue(world):
    queue = Queue(1)
    queue.sync_q.put(None)
    world.later(queue.sync_q.get)
    yield queue.async_q.put(DATA)
    # a put that was interrupted has put nothing, and kept no room
    await world.until(lambda: queue.unfinished_tasks == 2 or not queue.full(), lambda: repr(queue))
    if queue.unfinished_tasks == 1:
        queue.async_q.put_nowait(DATA)
    assert queue.sync_q.get_nowait() == DATA


@call
async def join_of_a_thread_queue(world):
    queue = Queue()
    queue.sync_q.put(None)
    world.later(queue.sync_q.task_done)
    yield queue.async_q.join()
    await queue.async_q.join()


# -- streams ----------------------------------------------------------------------


async def streams_of(world):
    ours, theirs = pair(world)
    reader, writer = await asyncio.open_connection(sock=ours)
    world.stack.callback(writer.close)
    world.stack.callback(writer.transport.abort)
    return reader, writer, theirs


async def reading(world):
    reader, _, theirs = await streams_of(world)
    world.later(theirs.send, DATA)
    return reader


@call
async def read(world):
    reader = await reading(world)
    got = yield reader.read(100)
    assert (got or await reader.read(100)) == DATA


@call
async def readline(world):
    reader = await reading(world)
    got = yield reader.readline()
    assert (got or await reader.readline()) == DATA


@call
async def readuntil(world):
    reader = await reading(world)
    got = yield reader.readuntil(b"data")
    got = got or await reader.readuntil(b"data")
    assert got + await reader.readexactly(1) == DATA


@call
async def readexactly(world):
    reader = await reading(world)
    got = yield reader.readexactly(len(DATA))
    assert (got or await reader.readexactly(len(DATA))) == DATA


@call
async def drain(world):
    _, writer, theirs = await streams_of(world)
    writer.write(MUCH)
    received = bytearray()

    def receive():
        received.extend(drained(theirs))

    world.later(world.loop.add_reader, theirs, receive)
    yield writer.drain()
    world.loop.add_reader(theirs, receive)
    world.stack.callback(world.loop.remove_reader, theirs)
    await writer.drain()
    await world.until(lambda: len(received) == len(MUCH), lambda: "bytes are lost")
    assert received == MUCH


async def close(writer):
    writer.close()
    await writer.wait_closed()


@call
async def wait_closed_of_a_stream(world):
    _, writer, _ = await streams_of(world)
    yield close(writer)


@call
async def wait_closed_of_a_stream_with_tls(world):
    _, writer = await asyncio.open_connection(*await serving(world, tls=True), **tls())
    yield close(writer)
    writer.transport.abort()
