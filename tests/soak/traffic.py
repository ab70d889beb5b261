"""What the soak does: each function is one short life of something, chosen by a random generator.

All take the soak (its servers, its books) and a random generator, and raise if anything is not as
it must be.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time

from tls_peers import HOST

KINDS = ("tcp", "unix", "tls", "tls over unix")
RESET = struct.pack("ii", 1, 0)


class Served:
    """The server's end: echoes, and writes into the books that it was made and lost."""

    def __init__(self, soak):
        self.soak = soak
        self.state = "new"

    def connection_made(self, transport):
        assert self.state == "new"
        self.state = "made"
        self.transport = transport
        self.soak.served.add(self)
        self.soak.count("connections served")

    def connection_lost(self, error):
        assert self.state == "made", f"lost while {self.state}"
        self.state = "lost"
        self.soak.served.remove(self)
        self.transport = None

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Echo(Served, asyncio.Protocol):
    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(Served, asyncio.BufferedProtocol):
    def __init__(self, soak):
        super().__init__(soak)
        self.buffer = bytearray(5000)

    def get_buffer(self, sizehint):
        # for TLS, asyncio loses what it reads into the end of a bytearray
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes):
        self.transport.write(bytes(self.buffer[:nbytes]))


class Client(asyncio.Protocol):
    """The client's end: collects what comes."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.received = bytearray()
        self.made, self.lost = 0, loop.create_future()
        self.more = asyncio.Event()

    def connection_made(self, transport):
        self.made += 1
        self.transport = transport

    def data_received(self, data):
        self.received += data
        self.more.set()

    def connection_lost(self, error):
        assert self.made == 1
        self.lost.set_result(error)
        self.more.set()

    async def receive(self, count):
        while len(self.received) < count and not self.lost.done():
            self.more.clear()
            await self.more.wait()
        return bytes(self.received[:count])


def data_of(rng):
    """Mostly small, at times more than any buffer takes at once."""
    size = rng.choice((1, 20, 1000, 1000, 20_000, 400_000))
    return rng.randbytes(rng.randint(1, size))


def connect(soak, kind, factory=Client):
    """A connection to the soak's server of that kind, as a coroutine."""
    loop = asyncio.get_running_loop()
    tls = {"ssl": soak.context, "server_hostname": HOST} if kind.startswith("tls") else {}
    address = soak.addresses[kind]
    if kind.endswith("unix"):
        return loop.create_unix_connection(factory, address, **tls)
    return loop.create_connection(factory, *address, **tls)


async def transports(soak, rng):
    """An echo, and one of the ways in which a connection ends."""
    kind = rng.choice(KINDS)
    transport, client = await connect(soak, kind)
    sent = bytearray()
    for _ in range(rng.randint(0, 5)):
        data = data_of(rng)
        sent += data
        if rng.random() < 0.2:
            transport.writelines([data[:7], data[7:]])
        else:
            transport.write(data)
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    ending = rng.choice(("close", "close", "eof", "abort", "reset by the server"))
    if ending == "eof" and transport.can_write_eof():
        transport.write_eof()
    if ending in ("close", "eof"):
        assert await client.receive(len(sent)) == sent, f"bytes lost over {kind}"
        soak.count("bytes echoed", len(sent))
        transport.close()
    elif ending == "abort":
        transport.abort()
    else:
        name = transport.get_extra_info("sockname")
        others = [other.transport for other in soak.served]
        others = [other for other in others if name and other.get_extra_info("peername") == name]
        for other in others:
            other.abort()
        # where nobody reads, what waits to be sent would wait for ever
        transport.close() if others else transport.abort()
    await client.lost
    assert client.made == 1
    soak.count(kind)


async def streams(soak, rng):
    """The same through readers and writers."""
    kind = rng.choice(KINDS)
    tls = {"ssl": soak.context, "server_hostname": HOST} if kind.startswith("tls") else {}
    address = soak.addresses[kind]
    if kind.endswith("unix"):
        reader, writer = await asyncio.open_unix_connection(address, **tls)
    else:
        reader, writer = await asyncio.open_connection(*address, **tls)
    with contextlib.suppress(ConnectionError):
        for _ in range(rng.randint(0, 5)):
            data = data_of(rng)
            writer.write(data)
            await writer.drain()
            if rng.random() < 0.3:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(reader.readexactly(1 << 30), rng.random() / 1000)
            left = len(data)
            while left and not reader.at_eof():
                left -= len(await reader.read(left))
        writer.close()
        await writer.wait_closed()
    writer.close()
    soak.count("streams")


async def upgrades(soak, rng):
    """start_tls on both sides of a connection that was plain, or a hang-up instead."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    server_transport, server = await loop.connect_accepted_socket(Client, theirs)
    transport, client = await loop.create_connection(Client, sock=ours)
    accepting = asyncio.ensure_future(
        loop.start_tls(server_transport, server, soak.server_context, server_side=True)
    )
    try:
        if rng.random() < 0.3:
            transport.write(rng.randbytes(20))
            transport.close()
            with contextlib.suppress(OSError):
                await accepting
            server_transport.close()
        else:
            upgraded = await loop.start_tls(transport, client, soak.context, server_hostname=HOST)
            accepted = await accepting
            data = data_of(rng)
            upgraded.write(data)
            assert await server.receive(len(data)) == data
            upgraded.close() if rng.random() < 0.5 else upgraded.abort()
            accepted.close()
        await asyncio.wait([client.lost, server.lost])
        assert client.made == server.made == 1
    finally:
        accepting.cancel()
    soak.count("upgrades")


async def rude_peers(soak, rng):
    """A plain socket that says something or nothing and is gone, often by a reset."""
    kind = rng.choice(KINDS)
    family = socket.AF_UNIX if kind.endswith("unix") else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, soak.addresses[kind])
        if rng.random() < 0.7:
            with contextlib.suppress(BlockingIOError):
                sock.send(rng.choice((b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", data_of(rng))))
        for _ in range(rng.randint(0, 3)):
            await asyncio.sleep(0)
        if rng.random() < 0.7 and family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    soak.count("rude peers")


class Answers(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = {}
        self.more = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        number = int.from_bytes(data[:4], "big")
        assert number not in self.received
        self.received[number] = data
        self.more.set()

    def connection_lost(self, error):
        self.lost.set_result(error)


async def datagrams(soak, rng):
    """A handful of datagrams at a time to an endpoint that sends them back."""
    loop = asyncio.get_running_loop()
    transport, answers = await loop.create_datagram_endpoint(
        Answers, remote_addr=soak.addresses["udp"]
    )
    sent = {}
    for _ in range(rng.randint(1, 5)):
        for _ in range(rng.randint(1, 8)):
            number = len(sent)
            sent[number] = number.to_bytes(4, "big") + rng.randbytes(rng.randint(0, 1200))
            transport.sendto(sent[number])
        while len(answers.received) < len(sent):
            answers.more.clear()
            await asyncio.wait_for(answers.more.wait(), 20)
    assert answers.received == sent
    transport.close() if rng.random() < 0.5 else transport.abort()
    await answers.lost
    soak.count("datagrams", len(sent))


async def children(soak, rng):
    """A child that echoes, ends, is killed, or is left by a cancelled communicate()."""
    way = rng.choice(("cat", "exit", "kill", "cancel", "closed"))
    if way == "exit":
        status = rng.randint(0, 100)
        process = await asyncio.create_subprocess_shell(f"exit {status}")
        assert await process.wait() == status
    else:
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    if way == "cat":
        data = data_of(rng)
        assert await process.communicate(data) == (data, b"")
        assert process.returncode == 0
    elif way == "kill":
        process.stdin.write(b"data")
        process.kill() if rng.random() < 0.5 else process.terminate()
        assert await process.wait() in (-signal.SIGKILL, -signal.SIGTERM)
        await process.communicate()
    elif way == "cancel":
        talking = asyncio.ensure_future(process.communicate(bytes(1_000_000)))
        for _ in range(rng.randint(0, 5)):
            await asyncio.sleep(0)
        talking.cancel()
        await asyncio.wait([talking])
        process.kill()
        await process.communicate()
    elif way == "closed":
        process._transport.close()
        await process.wait()
    soak.count("children")


async def pipes(soak, rng):
    """A pipe with transports on both ends."""
    loop = asyncio.get_running_loop()
    ends = os.pipe()
    reading, client = await loop.connect_read_pipe(Client, open(ends[0], "rb", 0))
    writing, _ = await loop.connect_write_pipe(Client, open(ends[1], "wb", 0))
    data = data_of(rng)
    writing.write(data)
    if rng.random() < 0.2:
        reading.close()
        writing.abort()
    else:
        writing.close()
        assert await client.receive(len(data)) == data
    await client.lost
    soak.count("pipes")


async def files(soak, rng):
    """A file over a connection, by the transport or by the socket."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as file:
        data = data_of(rng)
        file.write(data)
        # the fallback for TLS begins where the file stands
        file.seek(0)
        if rng.random() < 0.3:
            with ours, theirs:
                ours.setblocking(False)
                theirs.setblocking(False)
                sending = asyncio.ensure_future(loop.sock_sendfile(ours, file, 0))
                received = bytearray()
                while len(received) < len(data):
                    received += await loop.sock_recv(theirs, 100_000)
                assert await sending == len(received) and received == data
        else:
            tls = rng.random() < 0.5
            accepting = asyncio.ensure_future(
                loop.connect_accepted_socket(
                    Client, theirs, ssl=soak.server_context if tls else None
                )
            )
            transport, client = await loop.create_connection(
                Client,
                sock=ours,
                ssl=soak.context if tls else None,
                server_hostname=HOST if tls else None,
            )
            accepted, server = await accepting
            assert await loop.sendfile(transport, file) == len(data)
            assert await server.receive(len(data)) == data
            transport.close()
            accepted.close()
            await asyncio.wait([client.lost, server.lost])
    soak.count("files")


async def threads(soak, rng):
    """Calls from other threads, each of them in order, and work given to them."""
    loop = asyncio.get_running_loop()
    seen, count = [], rng.randint(1, 100)
    done = asyncio.Event()

    def call():
        for number in range(count):
            loop.call_soon_threadsafe(seen.append, number)
        loop.call_soon_threadsafe(done.set)
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "slept"), loop).result()

    assert await asyncio.to_thread(call) == "slept"
    await done.wait()
    assert seen == list(range(count))
    soak.count("calls from threads", count)


async def tasks(soak, rng):
    """Locks, queues, timeouts and cancelled waiters."""
    queue, lock = asyncio.Queue(3), asyncio.Lock()
    got = []

    async def produce():
        for number in range(20):
            await queue.put(number)

    async def consume():
        while True:
            number = await queue.get()
            async with lock:
                await asyncio.sleep(0)
            got.append(number)
            queue.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    async with lock:
        waiter = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        waiter.cancel()
    await produce()
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.wait([waiter, *consumers])
    assert waiter.cancelled() and not lock.locked()
    assert sorted(got) == list(range(20))
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.sleep(1000), rng.random() / 1000)
    soak.count("tasks", 5)


def _waits(soak, rng, stack):
    """One of the calls that wait, and what undoes it if it came through."""
    loop = asyncio.get_running_loop()

    def socks():
        ours, theirs = map(stack.enter_context, socket.socketpair())
        ours.setblocking(False)
        theirs.setblocking(False)
        return ours, theirs

    def listening():
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        sock.setblocking(False)
        return sock

    def hang_up(result):
        result[0].abort()

    def close(result):
        result[0].close()

    async def child():
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
        process.stdin.close()
        await process.wait()

    async def connected_socket():
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, soak.addresses["tcp"])

    async def streams():
        _, writer = await asyncio.open_connection(*soak.addresses["tcp"])
        return [writer]

    async def serving():
        server = await asyncio.start_server(print, "127.0.0.1", 0)
        async with server:
            await server.serve_forever()

    choices = [
        *((lambda kind=kind: (connect(soak, kind), hang_up)) for kind in KINDS),
        lambda: (streams(), close),
        lambda: (connected_socket(), None),
        lambda: (child(), None),
        lambda: (serving(), None),
        lambda: (loop.sock_recv(socks()[0], 10), None),
        lambda: (loop.sock_recv_into(socks()[0], bytearray(10)), None),
        lambda: (loop.sock_sendall(socks()[0], bytes(1_000_000)), None),
        lambda: (loop.sock_accept(listening()), close),
        lambda: (loop.getaddrinfo("localhost", "http"), None),
        lambda: (loop.run_in_executor(None, time.sleep, 0.001), None),
        lambda: (
            loop.create_datagram_endpoint(Answers, remote_addr=("localhost", 9)),
            hang_up,
        ),
    ]
    return rng.choice(choices)()


async def cancellations(soak, rng):
    """A call that waits, cancelled after some iterations or some time."""
    with contextlib.ExitStack() as stack:
        waiting, undo = _waits(soak, rng, stack)
        task = asyncio.ensure_future(waiting)
        if rng.random() < 0.7:
            for _ in range(rng.randint(0, 8)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(rng.random() / 200)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            soak.count("cancelled")
        elif task.exception() is not None:
            raise task.exception()
        elif undo is not None:
            undo(task.result())


ALL = (
    *(transports, streams, cancellations) * 3,
    upgrades,
    rude_peers,
    datagrams,
    children,
    pipes,
    files,
    threads,
    tasks,
)
