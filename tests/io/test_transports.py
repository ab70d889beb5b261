"""Stream transports over TCP and Unix sockets: their life, its ends and its failures.

Writing is in test_transport_writing.py, reading and BufferedProtocol in test_transport_reading.py.
"""

import asyncio
import gc
import socket
import struct
import sys
import time
import weakref

import pytest

from peers import Journal, connected, receive, settle, socket_pair, until

# without lines it stops the writer for good; after the loss it raises TypeError
WRITELINES_IS_WRONG = (3, 12) <= sys.version_info < (3, 14)

BIG = bytes(range(256)) * 16_384  # 4 MiB


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


def test_the_life_of_a_connection(agree, family, debug):
    async def scenario(case):
        async with connected(family, lambda: Journal(case.record)) as (transport, protocol, peer):
            case.record(transport.is_closing(), transport.is_reading(), transport.can_write_eof())
            case.record(transport.get_protocol() is protocol, protocol.transport is transport)
            transport.write(b"hello")
            case.record(await receive(peer, 5))
            peer.send(b"world")
            await until(lambda: protocol.received)
            case.record(bytes(protocol.received))
            transport.close()
            case.record(transport.is_closing(), "closing")
            transport.close()
            await protocol.lost
            case.record(await receive(peer), transport.is_closing(), transport.is_reading())
            transport.close()
            transport.abort()

    record = agree(scenario, debug)
    assert record[0] == ("connection_made",)
    assert record.count(("connection_lost", None)) == 1


def test_close_flushes(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            transport.write(BIG)
            transport.close()
            assert transport.is_closing() and not protocol.lost.done()
            assert await receive(peer) == BIG
            await protocol.lost
            assert protocol.calls[-1] == ("connection_lost", None)

    run(main)


def test_abort_does_not_flush(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            transport.write(BIG)
            transport.abort()
            assert transport.is_closing() and transport.get_write_buffer_size() == 0
            assert not protocol.lost.done()
            await protocol.lost
            try:
                assert len(await receive(peer)) < len(BIG)
            except ConnectionResetError:
                pass
            assert protocol.calls[-1] == ("connection_lost", None)

    run(main)


def test_abort_after_close(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            transport.write(BIG)
            transport.close()
            transport.abort()
            await protocol.lost
            case.record(protocol.calls[-1])
            await settle()
            case.record(protocol.calls.count(("connection_lost", None)))

    assert agree(scenario)[-1] == (1,)


def test_write_eof(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            transport.write(b"before")
            transport.write_eof()
            transport.write_eof()
            with case.catch():
                transport.write(b"after")
            with case.catch():
                transport.writelines([b"after"])
            case.record(await receive(peer), transport.is_closing())
            peer.send(b"half-open")
            await until(lambda: protocol.received)
            case.record(bytes(protocol.received))
            peer.close()
            await protocol.lost
            case.record(protocol.calls)

    record = agree(scenario)
    assert record[0] == ("raised", ("RuntimeError", "Cannot call write() after write_eof()"))
    assert (b"before", False) in record


def test_write_eof_flushes(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            transport.write(BIG)
            transport.write_eof()
            assert await receive(peer) == BIG
            transport.close()
            transport.write_eof()
            await protocol.lost
            transport.write_eof()

    run(main)


@pytest.mark.parametrize("keep", [False, True])
def test_end_of_file(agree, family, keep):
    async def scenario(case):
        class HalfOpen(Journal):
            def eof_received(self):
                super().eof_received()
                return keep

        async with connected(family, HalfOpen) as (transport, protocol, peer):
            peer.send(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof_received" in protocol.calls)
            case.record(transport.is_closing(), protocol.calls, transport.is_reading())
            transport.write(b"answer")
            if keep:
                await settle()
                case.record(protocol.calls.count("eof_received"), transport.is_closing())
                case.record(await receive(peer, 6))
                transport.close()
            await protocol.lost
            case.record(protocol.calls)

    record = agree(scenario)
    assert record[0][0] is not keep


def test_writes_after_the_loss_are_counted(agree, family):
    async def scenario(case):
        for how in ("close", "abort", "peer"):
            async with connected(family) as (transport, protocol, peer):
                if how == "peer":
                    peer.close()
                    await protocol.lost
                else:
                    getattr(transport, how)()
                case.record(how)
                for _ in range(8):
                    transport.write(b"into the void")
                transport.writelines([b"and", b"more"])
                await protocol.lost
                for _ in range(3):
                    transport.write(b"into the void")

    record = agree(scenario, asyncio_is_wrong=WRITELINES_IS_WRONG)
    assert ("log", "WARNING", "socket.send() raised exception.") in record


def test_a_reset_connection(agree):
    async def scenario(case):
        async with connected("tcp") as (transport, protocol, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await protocol.lost
            case.record(protocol.calls, transport.is_closing())
        async with connected("tcp") as (transport, protocol, peer):
            transport.pause_reading()
            transport.write(BIG)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await protocol.lost
            case.record(protocol.calls[-1])

    record = agree(scenario)
    assert record[0][0][-1] == ("connection_lost", "ConnectionResetError")


def test_writing_to_a_closed_peer(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            transport.pause_reading()
            peer.close()
            for _ in range(20):
                transport.write(b"x" * 1000)
                await settle()
            await protocol.lost
            case.record(protocol.calls[-1][0], protocol.calls[-1][1] is not None)

    record = [entry for entry in agree(scenario) if entry[0] != "log"]
    assert record == [("connection_lost", True)]


def test_extra_info(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            for name in ("sockname", "peername"):
                value = transport.get_extra_info(name)
                theirs = peer.getpeername() if name == "sockname" else peer.getsockname()
                case.record(name, value == theirs, type(value))
            for name in ("unknown", "sslcontext", "ssl_object", "peercert", "cipher", "pipe"):
                case.record(name, transport.get_extra_info(name))
                case.record(transport.get_extra_info(name, "default"))
            for arguments in (), (1, 2, 3):
                with case.catch():
                    transport.get_extra_info(*arguments)
            transport.close()
            await protocol.lost
            case.record(transport.get_extra_info("peername") is not None)

    record = agree(scenario)
    assert record[0][1] is True and record[1][1] is True


def test_texts(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            case.record(shape(repr(transport)))
            transport.pause_reading()
            case.record(shape(repr(transport)))
            transport.resume_reading()
            transport.write(BIG)
            case.record(shape(repr(transport)))
            transport.abort()
            case.record(shape(repr(transport)))
            await protocol.lost
            await asyncio.sleep(0)
            case.record(shape(repr(transport)))

    def shape(text):
        kind, _, rest = text[1:-1].partition(" ")
        words = rest.split(" ")
        return [word.partition("=")[0] for word in words], [
            word for word in words if word.startswith(("read=", "closed", "closing"))
        ]

    record = agree(scenario)
    assert record[0][0][0][0] == "fd"


def test_protocol_exceptions(agree, family):
    async def scenario(case):
        class Failing(Journal):
            where = None

            def note(self, *call):
                super().note(*call)
                if call[0] == self.where:
                    raise ValueError(self.where)

        for where in ("connection_made", "data_received", "eof_received", "connection_lost"):
            Failing.where = where
            ours, theirs = socket_pair(family)
            connect = getattr(
                case.loop, "create_unix_connection" if family == "unix" else "create_connection"
            )
            with theirs, case.catch(where):
                transport, protocol = await connect(Failing, sock=ours)
                theirs.send(b"data")
                await settle()
                theirs.shutdown(socket.SHUT_WR)
                await settle()
                transport.close()
                await settle()
                case.record(protocol.calls)

    record = agree(scenario)
    reports = [entry for entry in record if entry[0] == "report"]
    assert [entry[2][1] for entry in reports] == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_system_exits_in_data_received(agree, error):
    def scenario(case):
        async def main():
            class Leaving(Journal):
                def data_received(self, data):
                    super().data_received(data)
                    raise error

            async with connected("unix", Leaving) as (transport, protocol, peer):
                peer.send(b"x")
                await until(lambda: protocol.received)
                await settle()
                transport.close()

        task = case.loop.create_task(main())
        with case.catch():
            case.loop.run_until_complete(task)
        case.loop.run_until_complete(task)
        case.record(task.done())

    assert agree(scenario)[0] == ("raised", (error.__name__,))


def test_pause_and_resume_writing_that_fail(agree):
    async def scenario(case):
        class Failing(Journal):
            def pause_writing(self):
                raise ValueError("pause_writing")

            def resume_writing(self):
                raise ValueError("resume_writing")

        async with connected("unix", Failing) as (transport, protocol, peer):
            transport.write(BIG)
            await receive(peer, len(BIG))
            await until(lambda: transport.get_write_buffer_size() == 0)

    record = agree(scenario)
    assert [entry[2][1] for entry in record] == ["pause_writing", "resume_writing"]


def test_set_protocol(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, first, peer):
            peer.send(b"first")
            await until(lambda: first.received)
            second = Journal(lambda *call: case.record("second", *call))
            transport.set_protocol(second)
            case.record(transport.get_protocol() is second)
            peer.send(b"second")
            await until(lambda: second.received)
            case.record(bytes(first.received), bytes(second.received))
            second.transport = transport
            transport.close()
            await second.lost
            case.record(first.calls)

    record = agree(scenario)
    assert (b"first", b"second") in record


def test_unclosed_transports_warn(aio, loop, family):
    async def main():
        connect = loop.create_unix_connection if family == "unix" else loop.create_connection
        await connect(asyncio.Protocol, sock=ours)

    ours, theirs = socket_pair(family)
    with theirs:
        loop.run_until_complete(main())
        del ours
        with pytest.warns(ResourceWarning) as caught:
            loop.close()
            gc.collect()
        texts = [str(warning.message) for warning in caught]
        assert texts[-1].startswith("unclosed transport <")
        if aio is not asyncio:
            # asyncio's transport is in a cycle, in which its socket may warn before it
            assert len(texts) == 1
        theirs.settimeout(30)
        assert theirs.recv(1) == b""


def test_an_unclosed_transport_closes_a_socket_that_lives(agree, family):
    def scenario(case):
        async def main():
            name = "create_unix_connection" if family == "unix" else "create_connection"
            await getattr(case.loop, name)(asyncio.Protocol, sock=ours)

        ours, theirs = socket_pair(family)
        with theirs:
            case.loop.run_until_complete(main())
            case.loop.close()
            gc.collect()
            case.record(ours.fileno())

    assert agree(scenario) == [
        ("warning", "ResourceWarning", "unclosed transport <Transport fd=?>"),
        (-1,),
    ]


CALLS = {
    "write": [{"data": b"by name"}, {"x": b""}, {}],
    "writelines": [{"list_of_data": [b"by", b"name"]}, {"x": []}, {}],
    "set_protocol": [{"x": None}, {}],
    "get_extra_info": [{"name": "none"}, {"default": 1, "name": "none"}, {"default": 1}],
    "set_write_buffer_limits": [{"low": 1, "high": 5}, {"x": 1}],
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_by_name(agree, name):
    """Names are accepted and wrong arguments refused as by asyncio's methods."""

    async def scenario(case):
        async with connected("unix") as (transport, protocol, peer):
            method = getattr(transport, name)
            for arguments in CALLS[name]:
                with case.catch():
                    case.record(method(**arguments))
            first = next(iter(CALLS[name][0]))
            with case.catch("too many"):
                method(None, None, None, None)
            with case.catch("twice"):
                method(None, **{first if name != "set_write_buffer_limits" else "high": None})
            transport.close()
            case.record(await receive(peer))

    record = agree(scenario)
    assert [entry[0] for entry in record].count("too many") == 1


def test_no_cycle_keeps_a_connection(run, family):
    """Freed without the collector once the protocol lets go of the transport."""

    async def main():
        gc.disable()
        try:
            async with connected(family) as (transport, protocol, peer):
                gone = weakref.ref(protocol)
                transport.close()
                await protocol.lost
            for _ in range(3):
                await asyncio.sleep(0)
            del transport, protocol, peer
            return gone
        finally:
            gc.enable()

    gone = run(main)
    assert gone() is None


def test_a_connection_that_nobody_holds_lives(run, family):
    """The selector keeps transport and protocol: data still arrives."""

    async def main():
        loop = asyncio.get_running_loop()
        received = []

        class Once(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                received.append(data)
                self.transport.close()

        ours, theirs = socket_pair(family)
        with theirs:
            connect = loop.create_unix_connection if family == "unix" else loop.create_connection
            await connect(Once, sock=ours)
            gc.collect()
            await settle()
            gc.collect()
            theirs.send(b"still there")
            await until(lambda: received)
            await receive(theirs)
        await asyncio.sleep(0)

    run(main)


def test_writing_from_connection_made_and_lost(agree, family):
    async def scenario(case):
        class Eager(Journal):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.write(b"from connection_made")

            def connection_lost(self, error):
                self.transport.write(b"too late")
                self.transport.close()
                super().connection_lost(error)

        async with connected(family, Eager) as (transport, protocol, peer):
            case.record(await receive(peer, 20))
            transport.close()
            await protocol.lost
            case.record(await receive(peer))

    assert agree(scenario) == [(b"from connection_made",), (b"",)]


def test_closing_from_connection_made(agree, family):
    async def scenario(case):
        class Closing(Journal):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.write(b"bye")
                transport.close()

        async with connected(family, Closing) as (transport, protocol, peer):
            case.record(await receive(peer))
            await protocol.lost
            case.record(protocol.calls)

    assert agree(scenario) == [(b"bye",), (("connection_made", ("connection_lost", None)),)]


def test_blocking_after_write(run):
    async def main():
        async with connected("tcp") as (transport, protocol, peer):
            transport.write(b"sent before the sleep")
            time.sleep(0.01)
            assert peer.recv(100) == b"sent before the sleep"

    run(main)
