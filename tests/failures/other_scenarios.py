"""Scenarios over everything that is no connection: datagrams, pipes, children, sock_* calls, threads."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile

import injecting
from case import INCOMING, OUTGOING, PATIENCE, Stuck, amount, what_error

# A child or another thread takes its time: the number of looks without anything new.
SLOW = 12 * PATIENCE


class Datagrams(asyncio.DatagramProtocol):
    """A protocol that notes what ends it, and counts what comes."""

    def __init__(self, case):
        self.case = case
        self.received = []
        self.lost = False

    def connection_made(self, transport):
        self.transport = self.case.keep(transport, self)
        self.case.note("ours", "connection_made")

    def datagram_received(self, data, address):
        self.case.moved += 1
        self.received.append(data)

    def error_received(self, error):
        self.case.note("ours", "error_received", what_error(error))

    def connection_lost(self, error):
        self.lost = True
        self.case.note("ours", "connection_lost", what_error(error))


# No two are equal; their lengths differ.
SENT = [b"%d." % number + b"x" * (number % 7) for number in range(40)]


def _missing(case, side, got, sent):
    """Datagrams may be missing one by one, but are never doubled, changed or out of order."""
    missing = [data for data in sent if data not in got]
    if [data for data in sent if data in got] != got:
        case.note(side, "received", "WRONG")
    else:
        case.note(side, "missing", min(len(missing), 2) if missing != sent else "all")


async def _send(case, theirs, data, address):
    """Sends a datagram. A Unix socket takes ten, then the other side has to read, if it still does."""
    for _ in range(100):
        try:
            theirs.sendto(data, address)
            return
        except BlockingIOError:
            await case.aio.sleep(0.001)
        except OSError:
            return


async def _datagrams(case, family, is_connected):
    with tempfile.TemporaryDirectory() as folder, case.paused():
        ours, theirs = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_UNIX:
            ours.bind(os.path.join(folder, "1.sock"))
            theirs.bind(os.path.join(folder, "2.sock"))
        else:
            ours.bind(("127.0.0.1", 0))
            theirs.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        case.exempt(theirs)
        address, target = ours.getsockname(), theirs.getsockname()
        if is_connected:
            ours.connect(target)
        case.arm()
        protocol = Datagrams(case)
        with case.catch("ours", "create_datagram_endpoint"):
            await case.within(case.loop.create_datagram_endpoint(lambda: protocol, sock=ours))
        if not hasattr(protocol, "transport"):
            ours.close()
            case.stop()
            return
        got = []

        def look():
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(theirs.recv(1000))
                    case.moved += 1

        for turn in range(4):
            for data in SENT[turn * 10 : turn * 10 + 10]:
                with case.catch("sendto", "sendto"):
                    protocol.transport.sendto(data, None if is_connected else target)
                await _send(case, theirs, data, address)
            await case.aio.sleep(0.001)
            look()
        case.sides["sendto"] = [[line] for line in sorted({str(line) for line in case.sides["sendto"]})]
        with contextlib.suppress(Stuck):
            await case.until(lambda: look() or (len(got) >= 40 and len(protocol.received) >= 40))
        protocol.transport.close()
        with case.catch("ours", "end"):
            await case.until(lambda: protocol.lost)
        _missing(case, "peer", got, SENT)
        _missing(case, "ours", protocol.received, SENT)
        case.stop()


async def udp(case):
    await _datagrams(case, socket.AF_INET, False)


async def udp_connected(case):
    await _datagrams(case, socket.AF_INET, True)


async def unix_datagrams(case):
    await _datagrams(case, socket.AF_UNIX, False)


async def udp_endpoint(case):
    """Made by the loop itself."""
    protocol = Datagrams(case)
    case.arm()
    with case.catch("ours", "create_datagram_endpoint"):
        await case.within(
            case.loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
        )
        case.note("ours", protocol.transport.get_extra_info("sockname") is not None)
        case.note("ours", protocol.transport.get_extra_info("peername"))


class Reading(asyncio.Protocol):
    def __init__(self, case):
        self.case = case
        self.received = bytearray()
        self.lost = False

    def connection_made(self, transport):
        self.case.note("ours", "connection_made")

    def data_received(self, data):
        self.case.moved += 1
        self.received += data

    def eof_received(self):
        self.case.note("ours", "eof_received")

    def connection_lost(self, error):
        self.case.note("ours", "received", amount(bytes(self.received), INCOMING))
        self.case.note("ours", "connection_lost", what_error(error))
        self.lost = True

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass


async def read_pipe(case):
    reading, writing = case.pipe()
    os.set_blocking(writing, False)
    with open(writing, "wb", 0) as theirs:
        ours = open(reading, "rb", 0)
        injecting.exempt(writing)
        case.arm()
        protocol = Reading(case)
        transport = None
        with case.catch("ours", "connect_read_pipe"):
            transport, _ = await case.within(case.loop.connect_read_pipe(lambda: protocol, ours))
        if transport is None:
            ours.close()
            case.stop()
            return
        data = memoryview(INCOMING)

        def send():
            nonlocal data
            with contextlib.suppress(BrokenPipeError):
                count = theirs.write(data[:20_000])
                if count:
                    data = data[count:]
                    case.moved += 1
                return not data
            return True

        with contextlib.suppress(Stuck):
            await case.until(send)
        theirs.close()
        with case.catch("ours", "end"):
            await case.until(lambda: protocol.lost)
        transport.close()
        await case.aio.sleep(0)
        case.stop()


async def write_pipe(case):
    reading, writing = case.pipe()
    os.set_blocking(reading, False)
    injecting.exempt(reading)
    received = bytearray()
    with open(reading, "rb", 0) as theirs:
        ours = open(writing, "wb", 0)
        case.arm()
        protocol = Reading(case)
        transport = None
        with case.catch("ours", "connect_write_pipe"):
            transport, _ = await case.within(case.loop.connect_write_pipe(lambda: protocol, ours))
        if transport is None:
            ours.close()
            case.stop()
            return
        with case.catch("ours", "write"):
            transport.write(OUTGOING[:10])
            transport.write(OUTGOING[10:100])
            transport.write(OUTGOING[100:])
            transport.write_eof()

        ended = False

        def look():
            nonlocal ended
            while data := theirs.read(65536):
                received.extend(data)
                case.moved += 1
            ended = data == b""
            return ended

        with contextlib.suppress(Stuck):
            await case.until(look)
        case.note("peer", "received", amount(bytes(received), OUTGOING), ended)
        with case.catch("ours", "end"):
            await case.until(lambda: protocol.lost)
        if not protocol.lost:
            transport.abort()
        await case.aio.sleep(0)
        case.stop()


CAT = [sys.executable, "-S", "-c", "import os\nwhile d := os.read(0, 65536): os.write(1, d)"]
CAT = ["/bin/cat"] if os.path.exists("/bin/cat") else CAT


def _environment():
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


async def child(case):
    """A child process with pipes, by streams."""
    case.arm()
    process = None
    with case.catch("ours", "create_subprocess_exec"):
        process = await case.within(
            case.aio.create_subprocess_exec(
                *CAT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=_environment()
            ),
            SLOW,
        )
    if process is None:
        return
    failed = True
    with case.catch("ours", "communicate"):
        out, _ = await case.within(process.communicate(OUTGOING), SLOW)
        case.note("ours", amount(out, OUTGOING))
        failed = False
    if process.returncode is None:
        process.kill()
    with case.catch("ours", "wait"):
        await case.within(process.wait(), SLOW)
        # After a failure the child may see the end of its input before the signal.
        ended = failed and process.returncode in (0, -signal.SIGKILL)
        case.note("ours", "ended" if ended else process.returncode)
    process._transport.close()


class Child(asyncio.SubprocessProtocol):
    def __init__(self, case):
        self.case = case
        self.received = bytearray()
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport
        self.case.note("child", "connection_made")

    def pipe_data_received(self, fd, data):
        self.case.moved += 1
        self.received += data

    def pipe_connection_lost(self, fd, error):
        self.case.note(f"pipe {fd}", "pipe_connection_lost", what_error(error))

    def process_exited(self):
        self.case.note("child", "process_exited", self.transport.get_returncode())

    def connection_lost(self, error):
        self.case.note("child", "received", amount(bytes(self.received), b"out\n"))
        self.case.note("child", "connection_lost", what_error(error))
        self.lost = True


async def child_protocol(case):
    case.arm()
    protocol = Child(case)
    with case.catch("child", "subprocess_exec"):
        await case.within(
            case.loop.subprocess_exec(lambda: protocol, "/bin/sh", "-c", "echo out; exit 3", env=_environment()),
            SLOW,
        )
        with case.catch("child", "end"):
            await case.until(lambda: protocol.lost, SLOW)
        protocol.transport.close()


async def sock_streams(case):
    """sock_recv, sock_recv_into and sock_sendall."""
    ours, peer = case.pair("tcp")
    with ours:
        case.arm()
        loop = case.loop
        with case.catch("ours", "sock_recv"):
            task = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await case.aio.sleep(0)  # it waits
            await peer.send(INCOMING[:10])
            case.note("ours", amount(await case.within(task), INCOMING[:10]))
        with case.catch("ours", "sock_recv_into"):
            task = asyncio.ensure_future(loop.sock_recv_into(ours, buffer := bytearray(100)))
            await case.aio.sleep(0)
            await peer.send(INCOMING[:10])
            count = await case.within(task)
            case.note("ours", amount(bytes(buffer[:count]), INCOMING[:10]))
        with case.catch("ours", "sock_sendall"):
            task = asyncio.ensure_future(loop.sock_sendall(ours, OUTGOING))
            await peer.receive(len(OUTGOING))
            await case.within(task)
        # what is left from above, and the end
        await peer.send(b"more")
        peer.shut()
        with case.catch("ours", "sock_recv at the end"):
            got = b""
            while data := await case.within(loop.sock_recv(ours, 1000)):
                got += data
            case.note("ours", got[-4:])
        case.stop()
    await peer.drain(OUTGOING)


async def sock_datagrams(case):
    """sock_recvfrom, sock_recvfrom_into and sock_sendto."""
    with case.paused():
        ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (ours, theirs):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        case.exempt(theirs)
    address, target = ours.getsockname(), theirs.getsockname()
    with ours:
        case.arm()
        loop = case.loop
        with case.catch("ours", "sock_recvfrom"):
            task = asyncio.ensure_future(loop.sock_recvfrom(ours, 100))
            await case.aio.sleep(0)
            theirs.sendto(b"one", address)
            case.note("ours", (await case.within(task))[0])
        with case.catch("ours", "sock_recvfrom_into"):
            task = asyncio.ensure_future(loop.sock_recvfrom_into(ours, buffer := bytearray(10)))
            await case.aio.sleep(0)
            theirs.sendto(b"two", address)
            case.note("ours", (await case.within(task))[0], buffer)
        with case.catch("ours", "sock_sendto"):
            case.note("ours", await case.within(loop.sock_sendto(ours, b"three", target)))
        case.stop()
        with contextlib.suppress(BlockingIOError):
            case.note("peer", theirs.recv(100))


async def sock_connections(case):
    """sock_accept and sock_connect."""
    with case.paused():
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        theirs = case.exempt(socket.create_server(("127.0.0.1", 0)))
        ours, client = socket.socket(), socket.socket()
        ours.setblocking(False)
        case.exempt(client)
    with listener, ours:
        case.arm()
        loop = case.loop
        with case.catch("accept", "sock_accept"):
            task = asyncio.ensure_future(loop.sock_accept(listener))
            await case.aio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
            sock, _ = await case.within(task)
            case.note("accept", sock.gettimeout(), sock.get_inheritable())
            sock.close()
        with case.catch("connect", "sock_connect"):
            await case.within(loop.sock_connect(ours, theirs.getsockname()))
            case.note("connect", ours.getpeername() == theirs.getsockname())
        case.stop()


async def sock_file(case):
    """sock_sendfile."""
    with tempfile.TemporaryFile() as file:
        file.write(OUTGOING)
        file.flush()
        file.seek(0)
        ours, peer = case.pair("tcp")
        with ours:
            case.arm()
            task = asyncio.ensure_future(case.loop.sock_sendfile(ours, file))
            await peer.receive(len(OUTGOING))
            with case.catch("ours", "sock_sendfile"):
                case.note("ours", "sent", await case.within(task))
            case.stop()
        await peer.drain(OUTGOING)


async def callbacks(case):
    """add_reader and add_writer, both on one descriptor."""
    ours, peer = case.pair("tcp")
    with ours:
        seen = {"read": b"", "wrote": 0}

        def read():
            case.moved += 1
            with case.catch("reader", "recv"):
                seen["read"] += ours.recv(4)

        def write():
            case.moved += 1
            seen["wrote"] += 1
            if seen["wrote"] == 2:
                with case.catch("writer", "remove_writer"):
                    case.loop.remove_writer(ours)

        case.arm()
        with case.catch("ours", "add_reader"):
            case.loop.add_reader(ours, read)
        with case.catch("ours", "add_writer"):
            case.loop.add_writer(ours, write)
        await peer.send(b"12345678")
        with case.catch("ours", "both"):
            await case.until(lambda: len(seen["read"]) == 8 and seen["wrote"] >= 2)
        case.note("ours", seen["read"])
        with case.catch("ours", "remove_reader"):
            case.note("ours", case.loop.remove_reader(ours))
        with case.catch("ours", "add_reader again"):
            case.loop.add_reader(ours, read)
            case.loop.add_reader(ours, read)
            await peer.send(b"9")
            await case.until(lambda: seen["read"].endswith(b"9"))
        with case.catch("ours", "remove_writer"):
            case.loop.remove_writer(ours)
        with case.catch("ours", "remove_reader"):
            case.note("ours", case.loop.remove_reader(ours))
        case.stop()


async def threads(case):
    """run_in_executor, to_thread, and calls from other threads."""
    case.arm()
    with case.catch("ours", "run_in_executor"):
        case.note("ours", await case.within(case.loop.run_in_executor(None, lambda: 1), SLOW))
    with case.catch("ours", "to_thread"):
        case.note("ours", await case.within(case.aio.to_thread(lambda: 2), SLOW))
    many = [case.loop.run_in_executor(None, int, number) for number in range(3)]
    for waited in many:
        with case.catch("ours", "one of many"):
            case.note("ours", await case.within(waited, SLOW))


def new_loop(case):
    """Making a loop, and closing it."""
    case.arm()
    with case.catch("loop", "new_event_loop"):
        loop = case.aio.new_event_loop()
        with case.catch("loop", "run"):
            case.note("loop", loop.run_until_complete(asyncio.sleep(0.001, "slept")))
        with case.catch("loop", "close"):
            loop.close()


async def signals(case):
    """add_signal_handler, a signal, remove_signal_handler."""
    seen = []
    case.arm()
    with case.catch("ours", "add_signal_handler"):
        case.loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        return
    with case.paused():
        waker = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(waker)
        injecting.mark_waker(waker)
    for count in (1, 2):
        signal.raise_signal(signal.SIGUSR1)
        with case.catch("ours", "signal"):
            await case.until(lambda count=count: len(seen) == count)
    with case.catch("ours", "remove_signal_handler"):
        case.note("ours", case.loop.remove_signal_handler(signal.SIGUSR1))
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


async def reporting(case):
    """An exception in a callback and an exception never retrieved, reported by asyncio's own handler."""
    case.loop.set_exception_handler(None)
    case.arm()

    def fail():
        raise ValueError("failed")

    case.loop.call_soon(fail)
    case.loop.call_later(0.001, fail)
    future = case.loop.create_future()
    future.set_exception(ValueError("never retrieved"))
    del future
    await case.aio.sleep(0.003)


SCENARIOS = [
    udp, udp_connected, unix_datagrams, udp_endpoint, read_pipe, write_pipe, child, child_protocol,
    sock_streams, sock_datagrams, sock_connections, sock_file, callbacks, threads, new_loop, signals,
    reporting,
]  # fmt: skip
