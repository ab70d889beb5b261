"""What fails in an entry of the loop's own, not in a callback of the program's, is reported; the
loop and everything else on it live on."""

import asyncio
import os
import socket

import pytest

from peers import program, settle, socket_pair, until


def named(report):
    """Of a report of a failed callback only what went wrong: its name differs by design."""
    return report["message"].partition(" callback ")[0], type(report["exception"]).__name__


@pytest.fixture
def reports(loop):
    seen = []
    loop.set_exception_handler(lambda _, report: seen.append(named(report)))
    return seen


class Closing(asyncio.Protocol):
    """Closes the socket, not the transport, in `connection_made`."""

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket")._sock.close()


@pytest.mark.parametrize("kind", ["file", "device"])
def test_read_pipe_of_what_cannot_be_watched(loop, reports, debug, kind, tmp_path):
    loop.set_debug(debug)
    path = tmp_path / "file" if kind == "file" else "/dev/null"
    with open(path, "a+") as pipe:

        async def main():
            transport, _ = await loop.connect_read_pipe(asyncio.Protocol, pipe)
            await settle()
            transport.close()
            await settle()
            return "alive"

        if kind == "file":
            with pytest.raises(ValueError, match="for pipes/sockets only"):
                loop.run_until_complete(main())
            assert reports == []
        else:
            assert loop.run_until_complete(main()) == "alive"
            assert reports == [("Exception in", "PermissionError")]


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_socket_closed_in_the_iteration_in_which_it_was_handed_over(loop, reports, debug, family):
    loop.set_debug(debug)
    ours, theirs = socket_pair(family)

    async def main():
        connecting = loop.create_task(loop.create_connection(asyncio.Protocol, sock=ours))
        await asyncio.sleep(0)
        ours.close()
        transport, _ = await connecting
        transport.abort()
        await settle()
        return "alive"

    with theirs:
        assert loop.run_until_complete(main()) == "alive"
    assert reports == [("Exception in", "OSError")]


def test_datagram_socket_closed_in_the_iteration_in_which_it_was_handed_over(loop, reports, debug):
    loop.set_debug(debug)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)

    async def main():
        making = loop.create_task(
            loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock)
        )
        await asyncio.sleep(0)
        sock.close()
        transport, _ = await making
        transport.abort()
        await settle()
        return "alive"

    assert loop.run_until_complete(main()) == "alive"
    assert reports == [("Exception in", "OSError")]


def test_server_outlives_a_connection_that_closes_its_socket(loop, reports, debug):
    loop.set_debug(debug)
    made = []

    def factory():
        made.append(Closing())
        return made[-1]

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for count in (1, 2, 3):
            with socket.create_connection(address):
                await until(lambda: len(made) == count and len(reports) == count)
            made[-1].transport.abort()
        await settle()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert reports == [("Exception in", "OSError")] * 3


def test_resuming_a_closed_socket_raises_to_the_caller(loop, reports):
    ours, theirs = socket_pair("tcp")

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.pause_reading()
        ours.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.resume_reading()
        transport.abort()
        await settle()
        return "alive"

    with theirs:
        assert loop.run_until_complete(main()) == "alive"
    assert reports == []


def test_transport_reads_a_number_that_another_transport_lost_without_a_word(loop):
    """The first socket is closed behind its transport; the second one gets its number."""
    received = []

    class Keeping(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

    async def main():
        lost, other = socket_pair("unix")
        number = lost.fileno()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=lost)
        os.close(number)
        ours, theirs = socket_pair("unix")
        assert number in (ours.fileno(), theirs.fileno())
        mine, peer = (ours, theirs) if ours.fileno() == number else (theirs, ours)
        lost.detach()
        loop._transports.pop(number, None)
        again, _ = await loop.create_connection(Keeping, sock=mine)
        peer.send(b"hello")
        await until(lambda: received)
        again.abort()
        await settle()
        transport.abort()
        await settle()
        peer.close()
        other.close()

    if type(loop).__module__ != "aioxide":
        pytest.skip("asyncio's selector does not notice that the number is another socket's")
    loop.run_until_complete(main())
    assert received == [b"hello"]


def test_caller_keeps_its_socket_where_a_server_cannot_start(loop, tmp_path):
    async def main(sock, create):
        def refuse(backlog):
            raise OSError("no room")

        with sock:
            number = sock.fileno()
            sock.listen = refuse
            with pytest.raises(OSError, match="no room"):
                await create(asyncio.Protocol, sock=sock)
            assert sock.fileno() == number
            # it can serve after all
            del sock.listen
            server = await create(asyncio.Protocol, sock=sock)
            server.close()

    class Socket(socket.socket):
        pass

    tcp = Socket(socket.AF_INET)
    tcp.bind(("127.0.0.1", 0))
    loop.run_until_complete(main(tcp, loop.create_server))
    unix = Socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "socket"))
    loop.run_until_complete(main(unix, loop.create_unix_server))


def test_report_that_cannot_be_made_is_unraisable(aio, loop):
    """asyncio's loop ends there; what matters is that a loop which goes on hides nothing."""
    output = program(
        aio,
        """
        import asyncio, sys
        sys.unraisablehook = lambda hook: print("unraisable:", hook.exc_value)

        class Callback:
            def __call__(self):
                raise ValueError("first")
            @property
            def __class__(self):
                raise RuntimeError("no report")

        async def main():
            asyncio.get_running_loop().call_soon(Callback())
            await asyncio.sleep(0.01)
            return "alive"

        try:
            print(aio.run(main()))
        except RuntimeError as error:
            print("raised:", error)
        """,
    )
    shown = output if isinstance(output, str) else output.stdout
    if aio.__name__ == "aioxide":
        assert shown.splitlines() == ["unraisable: no report", "alive"]
    else:
        assert shown.splitlines() == ["raised: no report"]


WITHOUT_DESCRIPTORS = """
    import asyncio, os, resource, sys

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def take_all():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return taken
"""


@pytest.mark.parametrize("debug", ["", "True"], ids=["normal", "debug"])
def test_first_report_of_a_process_needs_no_descriptor(aio, debug):
    done = program(
        aio,
        WITHOUT_DESCRIPTORS
        + """
    async def main():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0
        seen = []
        loop.set_exception_handler(lambda _, report: seen.append(type(report["exception"])))

        async def fail():
            raise KeyError

        taken = take_all()
        loop.call_soon(lambda: 1 / 0)
        loop.call_later(0.001, lambda: [][1])
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        await asyncio.sleep(0.01)
        del task
        for descriptor in taken:
            os.close(descriptor)
        print(*sorted(kind.__name__ for kind in seen))

    aio.run(main(), debug=bool(sys.argv[1]))
    """,
        debug,
    )
    assert done.stdout == "IndexError KeyError ZeroDivisionError\n"


def test_first_call_on_another_thread_needs_no_descriptor(aio):
    done = program(
        aio,
        WITHOUT_DESCRIPTORS
        + """
    async def main():
        import concurrent.futures.thread  # asyncio imports it late
        taken = take_all()
        print(await aio.to_thread(int, "7"))
        for descriptor in taken:
            os.close(descriptor)

    aio.run(main())
    """,
    )
    assert done.stdout == "7\n"


def test_loop_takes_no_more_descriptors_than_asyncios(agree):
    def scenario(case):
        import signal

        before = set(os.listdir("/proc/self/fd"))
        loop = case.aio.new_event_loop()
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()
        new = len(set(os.listdir("/proc/self/fd")) - before)
        loop.add_signal_handler(signal.SIGUSR1, int)
        with_signals = len(set(os.listdir("/proc/self/fd")) - before)
        loop.close()
        case.record(new <= 3, with_signals <= 3)
        assert set(os.listdir("/proc/self/fd")) <= before

    assert agree(scenario) == [(True, True)]


def test_numbers_that_no_descriptor_can_have(agree):
    async def scenario(case):
        for number in (2**31, 2**32, 2**63, 2**64, 2**200, -1, -(2**63), -(2**200)):
            for add in (case.loop.add_reader, case.loop.add_writer):
                with case.catch(add.__name__):
                    add(number, int)
            for remove in (case.loop.remove_reader, case.loop.remove_writer):
                with case.catch(remove.__name__):
                    case.record(remove(number))

    agree(scenario)


def test_datagram_socket_closed_while_datagrams_wait_for_their_protocol(loop):
    """asyncio raises from resume_reading(); where datagrams have come together, they are handed
    out first, and the report comes after that."""
    reports, got, wanted = [], [], 60

    class Pausing(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            got.append(data)
            if len(got) in (1, 20):
                receiver.pause_reading()

    loop.set_exception_handler(lambda _, report: reports.append(type(report["exception"])))

    async def main():
        nonlocal receiver
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        receiver, _ = await loop.create_datagram_endpoint(Pausing, sock=sock)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(sock.getsockname())
            for number in range(wanted):
                sender.send(b"%d" % number)
            await until(lambda: got)
            receiver.resume_reading()
            await until(lambda: len(got) == 20)
            sock.close()
            try:
                receiver.resume_reading()
            except OSError:
                reports.append(OSError)
            await until(lambda: reports)
        receiver.abort()
        await settle()
        return "alive"

    receiver = None
    assert loop.run_until_complete(main()) == "alive"
    assert reports == [OSError]
    assert got == [b"%d" % number for number in range(len(got))]
