"""What goes on on a loop while signal handlers raise: each actor checks that it has lost nothing.

An actor is a coroutine function of a Stage; it raises AssertionError, or never ends, if something
that the loop had fetched is gone.
"""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

from tls_peers import HOST, client_context, server_context

SERVER_CONTEXT, CLIENT_CONTEXT = server_context(), client_context()


class OwnFrames(ssl.SSLObject):
    """_ssl itself looks for signals once it has decrypted, and loses the bytes if a handler raises.

    In a function of Python, as everywhere with asyncio, the handlers do not.
    """

    def read(self, *arguments):
        return super().read(*arguments)

    def write(self, data):
        return super().write(data)

    def do_handshake(self):
        super().do_handshake()

    def unwrap(self):
        return super().unwrap()


SERVER_CONTEXT.sslobject_class = CLIENT_CONTEXT.sslobject_class = OwnFrames


class Stage:
    """The module under test and its running loop, random decisions, and how much each actor does."""

    def __init__(self, aio, random, rounds, shake):
        self.aio = aio
        self.random = random
        self.rounds = rounds
        self.shake = shake
        self.kept = contextlib.ExitStack()

    @property
    def loop(self):
        return asyncio.get_running_loop()

    def pair(self):
        """Two connected sockets, TCP or Unix."""
        if self.random.random() < 0.5:
            pair = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as server:
                pair = socket.create_connection(server.getsockname()), server.accept()[0]
        for sock in pair:
            sock.setblocking(False)
            self.kept.enter_context(sock)
        return pair

    def outside(self, *calls):
        """Makes calls in another thread, each with a signal right behind it.

        While the loop waits, it comes between what the loop has fetched and the moment when it goes
        on.
        """

        def run():
            for call in calls:
                call()
                self.shake()

        return self.loop.run_in_executor(None, run)

    def data(self, most=3_000):
        return self.random.randbytes(self.random.randrange(1, most))

    async def pause(self):
        """A wait of some kind, or none."""
        await self.aio.sleep(self.random.choice((0, 0, 0.0001, 0.001, 0.003)))


async def receiving(stage):
    """sock_recv and sock_sendall: a message at a time, which often comes only after a wait."""
    ours, theirs = stage.pair()

    async def send():
        for data in sent:
            await stage.pause()
            if stage.random.random() < 0.5:
                await stage.loop.sock_sendall(theirs, data)
            else:
                await stage.outside(lambda data=data: theirs.send(data))

    sent = [stage.data() for _ in range(stage.rounds)]
    task = stage.loop.create_task(send())
    got, expected = bytearray(), b"".join(sent)
    while len(got) < len(expected):
        if stage.random.random() < 0.5:
            got += await stage.loop.sock_recv(ours, 1_000)
        else:
            buffer = bytearray(1_000)
            count = await stage.loop.sock_recv_into(ours, buffer)
            got += buffer[:count]
    await task
    assert got == expected


async def connecting(stage):
    """sock_connect and sock_accept."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        for number in range(stage.rounds):
            with socket.socket() as ours:
                ours.setblocking(False)
                accepting = stage.loop.create_task(stage.loop.sock_accept(listener))
                await stage.pause()
                if stage.random.random() < 0.5:
                    await stage.loop.sock_connect(ours, listener.getsockname())
                else:
                    ours.setblocking(True)
                    await stage.outside(lambda ours=ours: ours.connect(listener.getsockname()))
                theirs, address = await accepting
                with theirs:
                    assert address == ours.getsockname(), number


async def watching(stage):
    """add_reader and add_writer; what is read is all that was sent, on the loop and outside."""
    ours, theirs = stage.pair()
    got, written, done = bytearray(), stage.loop.create_future(), stage.loop.create_future()
    left, outside = ([stage.data(200) for _ in range(stage.rounds)] for _ in range(2))
    expected = b"".join(left + outside)

    def read():
        got.extend(ours.recv(100))
        if len(got) == len(expected):
            stage.loop.remove_reader(ours)
            done.set_result(None)

    def write():
        theirs.send(left.pop(0))
        stage.loop.remove_writer(theirs)
        if left:
            stage.loop.call_later(stage.random.choice((0, 0.001)), stage.loop.add_writer, theirs, write)
        else:
            written.set_result(None)

    stage.loop.add_reader(ours, read)
    stage.loop.add_writer(theirs, write)
    await written
    await stage.outside(*(lambda data=data: theirs.send(data) for data in outside))
    await done
    assert got == expected


async def timing(stage):
    """Timers: each fires once, in order."""
    fired, done = [], stage.loop.create_future()
    delays = sorted(stage.random.uniform(0, 0.002 * stage.rounds) for _ in range(5 * stage.rounds))
    start = stage.loop.time()
    for number, delay in enumerate(delays):
        stage.loop.call_at(start + delay, fired.append, number)
    stage.loop.call_at(start + delays[-1], done.set_result, None)
    await done
    assert fired == list(range(len(delays)))


async def sleeping(stage):
    for number in range(3 * stage.rounds):
        assert await stage.aio.sleep(stage.random.uniform(0, 0.002), number) == number


async def executing(stage):
    """Outcomes of the default executor: each comes, once."""

    def work(number):
        if number % 2:
            stage.shake()
        if number % 3 == 0:
            raise ValueError(number)
        return number

    for _ in range(stage.rounds):
        waited = [stage.loop.run_in_executor(None, work, number) for number in range(4)]
        waited.append(stage.aio.to_thread(work, 4))
        results = await stage.aio.gather(*waited, return_exceptions=True)
        assert [str(result) for result in results] == ["0", "1", "2", "3", "4"]


async def calling(stage):
    """call_soon_threadsafe from a thread: each call comes, once, in order."""
    loop, seen, done = stage.loop, [], stage.loop.create_future()
    pauses = [stage.random.choice((0, 0.0005)) for _ in range(10 * stage.rounds)]

    def call():
        wait = threading.Event()
        for number, pause in enumerate(pauses):
            loop.call_soon_threadsafe(seen.append, number)
            if not pause:
                stage.shake()
            wait.wait(pause)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=call)
    thread.start()
    await done
    thread.join()
    assert seen == list(range(len(pauses)))


async def running(stage):
    """Children: their output and how they ended."""
    for _ in range(max(1, stage.rounds // 5)):
        code, data = stage.random.randrange(100), stage.data(50_000)
        process = await stage.aio.create_subprocess_exec(
            "/bin/sh", "-c", f"cat; kill -USR1 $PPID; exit {code}", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(data)
        assert out == data
        assert process.returncode == code == await process.wait()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.waiter = None
        self.received = []

    def datagram_received(self, data, address):
        self.received.append(data)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def error_received(self, error):
        raise AssertionError from error


async def exchanging(stage):
    """Datagrams of a transport, some at a time."""
    endpoint = await stage.loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    transport, protocol = endpoint
    address = transport.get_extra_info("sockname")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.setblocking(False)
        theirs.bind(("127.0.0.1", 0))
        for _ in range(stage.rounds):
            sent = [b"%d" % number for number in range(stage.random.randrange(1, 20))]
            protocol.received = []
            sends = [lambda data=data: theirs.sendto(data, address) for data in sent]
            if stage.random.random() < 0.5:
                sending = stage.outside(*sends)
            else:
                sending = stage.aio.sleep(0, [send() for send in sends])
            for data in sent:
                transport.sendto(data, theirs.getsockname())
            while len(protocol.received) < len(sent):
                protocol.waiter = stage.loop.create_future()
                await protocol.waiter
            await sending
            assert protocol.received == sent
            assert [(await stage.loop.sock_recvfrom(theirs, 100))[0] for _ in sent] == sent
    transport.close()


async def _echo(stage, server, client, **tls):
    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                writer.write(await reader.readexactly(size))
                await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await server(serve) as listening:
        for _ in range(2):
            reader, writer = await client(listening)
            for _ in range(stage.rounds):
                data = stage.data(50_000)
                writer.write(len(data).to_bytes(4, "big"))
                await stage.pause()
                writer.write(data)
                await writer.drain()
                assert await reader.readexactly(len(data)) == data
            writer.close()
            await writer.wait_closed()
            # the server's end of it too
            await stage.aio.sleep(0.002)


async def streaming(stage):
    """Streams over TCP, a server and its clients."""
    await _echo(
        stage,
        lambda serve: stage.aio.start_server(serve, "127.0.0.1", 0),
        lambda server: stage.aio.open_connection(*server.sockets[0].getsockname()),
    )


async def streaming_unix(stage):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "1.sock")
        await _echo(
            stage,
            lambda serve: stage.aio.start_unix_server(serve, path),
            lambda server: stage.aio.open_unix_connection(path),
        )


async def encrypting(stage):
    """Streams over TLS."""
    await _echo(
        stage,
        lambda serve: stage.aio.start_server(serve, "127.0.0.1", 0, ssl=SERVER_CONTEXT),
        lambda server: stage.aio.open_connection(
            *server.sockets[0].getsockname(), ssl=CLIENT_CONTEXT, server_hostname=HOST
        ),
    )


async def serving(stage):
    """A server whose clients are in other threads."""

    async def serve(reader, writer):
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()

    def call(data, got):
        """A client's calls."""
        sock = socket.socket()
        yield lambda: sock.connect(address)
        for start in range(0, len(data), 300):
            yield lambda start=start: sock.sendall(data[start : start + 300])
        yield lambda: sock.shutdown(socket.SHUT_WR)

        def receive():
            with sock:
                while part := sock.recv(10_000):
                    got.extend(part)

        yield receive

    async with await stage.aio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        for _ in range(stage.rounds):
            clients = [(stage.data(), bytearray()) for _ in range(3)]
            await stage.aio.gather(*(stage.outside(*call(*client)) for client in clients))
            assert [bytes(got) for _, got in clients] == [data for data, _ in clients]
        await stage.aio.sleep(0.002)


async def piping(stage):
    """Transports of both ends of a pipe."""
    reading, writing = os.pipe()
    reader = stage.aio.StreamReader()
    reading = await stage.loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), open(reading, "rb", 0)
    )
    transport, _ = await stage.loop.connect_write_pipe(asyncio.BaseProtocol, open(writing, "wb", 0))
    for _ in range(stage.rounds):
        data = stage.data(30_000)
        if stage.random.random() < 0.5:
            transport.write(data)
        else:
            data = data[:4_000]
            await stage.outside(lambda data=data: os.write(writing, data))
        assert await reader.readexactly(len(data)) == data
        await stage.pause()
    transport.close()
    assert await reader.read() == b""
    reading[0].close()


async def signalling(stage):
    """add_signal_handler: a handler runs for each signal that was waited for."""
    for _ in range(stage.rounds):
        seen = stage.loop.create_future()
        stage.loop.add_signal_handler(signal.SIGUSR2, lambda seen=seen: seen.done() or seen.set_result(None))
        await stage.pause()
        os.kill(os.getpid(), signal.SIGUSR2)
        await seen
    stage.loop.remove_signal_handler(signal.SIGUSR2)


async def sending_file(stage):
    """sendfile over a transport."""
    data = stage.random.randbytes(200_000)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        for _ in range(max(1, stage.rounds // 5)):
            ours, theirs = stage.pair()
            transport, _ = await stage.loop.create_connection(asyncio.Protocol, sock=ours)
            sending = stage.loop.create_task(stage.loop.sendfile(transport, file))
            got = bytearray()
            while len(got) < len(data):
                got += await stage.loop.sock_recv(theirs, 30_000)
            assert await sending == len(data)
            assert got == data
            transport.close()


ACTORS = [
    receiving, connecting, watching, timing, sleeping, executing, calling, running, exchanging,
    streaming, streaming_unix, encrypting, serving, piping, signalling, sending_file,
]  # fmt: skip
