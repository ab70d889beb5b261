"""connect_read_pipe() and connect_write_pipe(): pipes, terminals, sockets as file objects."""

import asyncio
import contextvars
import gc
import os
import pty
import socket
import tempfile
import tty

import pytest

from peers import Journal, receive, settle, until

BIG = bytes(range(256)) * 4096  # 1 MiB

variable = contextvars.ContextVar("variable", default="outside")


class Reading:
    """A transport that reads from a pipe, and the descriptor that the pipe is fed by."""

    def __init__(self, make=Journal):
        self.make = make

    async def __aenter__(self):
        reader, self.writer = os.pipe()
        self.file = open(reader, "rb", 0)
        loop = asyncio.get_running_loop()
        self.transport, self.protocol = await loop.connect_read_pipe(self.make, self.file)
        return self

    def close_writer(self):
        if self.writer is not None:
            os.close(self.writer)
            self.writer = None

    async def __aexit__(self, *error):
        self.close_writer()
        self.transport.close()
        await settle()
        assert self.file.closed


class Writing(Reading):
    """A transport that writes to a pipe, and the descriptor that reads it."""

    async def __aenter__(self):
        self.writer, writer = os.pipe()  # the plain end
        os.set_blocking(self.writer, False)
        self.file = open(writer, "wb", 0)
        loop = asyncio.get_running_loop()
        self.transport, self.protocol = await loop.connect_write_pipe(self.make, self.file)
        return self

    async def __aexit__(self, *error):
        if not self.protocol.lost.done():
            self.transport.abort()
        await super().__aexit__(*error)


def test_the_life_of_a_reading_pipe(agree, debug):
    async def scenario(case):
        async with Reading(lambda: Journal(case.record)) as pipe:
            transport, protocol = pipe.transport, pipe.protocol
            case.record(isinstance(transport, asyncio.ReadTransport), transport.is_reading())
            case.record(transport.get_extra_info("pipe") is pipe.file)
            case.record(transport.get_extra_info("none", 7), transport.get_protocol() is protocol)
            os.write(pipe.writer, b"one")
            await until(lambda: protocol.received)
            transport.pause_reading()
            transport.pause_reading()
            os.write(pipe.writer, b"two")
            await settle()
            case.record(bytes(protocol.received), transport.is_reading())
            transport.resume_reading()
            transport.resume_reading()
            await until(lambda: len(protocol.received) > 3)
            case.record(bytes(protocol.received), transport.is_closing())
            pipe.close_writer()
            await protocol.lost
            case.record(transport.is_closing(), transport.is_reading())
            case.record(transport.get_protocol() is protocol)

    record = agree(scenario, debug)
    assert record[-5:-2] == [(b"onetwo", False), ("eof_received",), ("connection_lost", None)]


def test_reading_pipe_closed_by_us(agree, debug):
    async def scenario(case):
        async with Reading(lambda: Journal(case.record)) as pipe:
            os.write(pipe.writer, b"never read")
            pipe.transport.close()
            pipe.transport.close()
            pipe.transport.pause_reading()
            pipe.transport.resume_reading()
            case.record(pipe.transport.is_closing(), pipe.file.closed)
            await pipe.protocol.lost
            await asyncio.sleep(0)
            case.record(pipe.file.closed)

    assert agree(scenario, debug)[-1] == (True,)


def test_all_is_read_in_bounded_pieces(run):
    async def main():
        class Protocol(Journal):
            def data_received(self, data):
                sizes.append(len(data))
                super().data_received(data)

        sizes = []
        async with Reading(Protocol) as pipe:
            os.set_blocking(pipe.writer, False)
            sent = 0
            while sent < len(BIG):
                try:
                    sent += os.write(pipe.writer, BIG[sent:])
                except BlockingIOError:
                    await asyncio.sleep(0)
            pipe.close_writer()
            await pipe.protocol.lost
            assert pipe.protocol.received == BIG
            assert max(sizes) <= 256 * 1024

    run(main)


def test_fast_writer_starves_nobody(run):
    async def main():
        class Protocol(Journal):
            def data_received(self, data):
                # there is always more
                os.write(pipe.writer, b"x")
                self.count = getattr(self, "count", 0) + 1

        async with Reading(Protocol) as pipe:
            os.write(pipe.writer, b"x")
            for _ in range(500):
                await asyncio.sleep(0)
            await until(lambda: pipe.protocol.count > 10)

    run(main)


def test_failing_callbacks_of_a_reading_pipe(agree, debug):
    class Protocol(Journal):
        def data_received(self, data):
            super().data_received(data)
            raise ZeroDivisionError

        def eof_received(self):
            super().eof_received()
            raise IndexError

        def connection_lost(self, error):
            super().connection_lost(error)
            raise KeyError

    async def scenario(case):
        async with Reading(lambda: Protocol(case.record)) as pipe:
            # which callback a report names is a matter of names
            case.loop.set_exception_handler(
                lambda loop, report: case.record(report["exception"], pipe.transport.is_closing())
            )
            os.write(pipe.writer, b"1")
            await until(lambda: pipe.protocol.received == b"1")
            os.write(pipe.writer, b"2")
            await until(lambda: pipe.protocol.received == b"12")
            pipe.close_writer()
            await pipe.protocol.lost
            await settle()

    assert agree(scenario, debug) == [
        ("connection_made",), ("data_received",), (("ZeroDivisionError",), False),
        (("ZeroDivisionError",), False), ("eof_received",), (("IndexError",), True),
        ("connection_lost", None), (("KeyError",), True),
    ]  # fmt: skip


def test_protocol_is_swapped(agree):
    async def scenario(case):
        async with Reading() as pipe:
            os.write(pipe.writer, b"first")
            await until(lambda: pipe.protocol.received)
            second = Journal(case.record)
            pipe.transport.set_protocol(second)
            case.record(pipe.transport.get_protocol() is second)
            os.write(pipe.writer, b"second")
            await until(lambda: second.received)
            case.record(bytes(pipe.protocol.received), bytes(second.received))
            pipe.close_writer()
            await second.lost

    assert agree(scenario)[-1] == ("connection_lost", None)


def test_contexts(agree):
    class Protocol(Journal):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.record(variable.get())
            variable.set("made")

        def data_received(self, data):
            self.record(variable.get())
            variable.set("received")

        def eof_received(self):
            self.record(variable.get())
            variable.set("eof")

        def connection_lost(self, error):
            self.record(variable.get())
            super().connection_lost(error)

    async def scenario(case):
        variable.set("inside")
        async with Reading(lambda: Protocol(case.record)) as pipe:
            for _ in range(2):
                os.write(pipe.writer, b"x")
                await settle()
            pipe.close_writer()
            await pipe.protocol.lost
            case.record(variable.get())

    assert ("received",) in agree(scenario)


def test_the_life_of_a_writing_pipe(agree, debug):
    async def scenario(case):
        async with Writing(lambda: Journal(case.record)) as pipe:
            transport = pipe.transport
            case.record(isinstance(transport, asyncio.WriteTransport), transport.can_write_eof())
            case.record(transport.get_extra_info("pipe") is pipe.file)
            case.record(transport.get_write_buffer_limits(), transport.get_write_buffer_size())
            transport.write(b"hello ")
            # it has left at once
            case.record(os.read(pipe.writer, 100))
            transport.write(b"")
            transport.write(bytearray(b"one "))
            transport.write(memoryview(b"two "))
            transport.writelines([b"three ", bytearray(b"four")])
            case.record(await receive(pipe.writer, 18))
            transport.write_eof()
            transport.write_eof()
            case.record(transport.is_closing(), pipe.file.closed)
            await pipe.protocol.lost
            case.record(await receive(pipe.writer))

    record = agree(scenario, debug)
    assert record[4] == (b"hello ",)
    assert record[-2:] == [("connection_lost", None), (b"",)]


def test_flow_control(agree, debug):
    async def scenario(case):
        async with Writing(lambda: Journal(case.record)) as pipe:
            transport = pipe.transport
            transport.set_write_buffer_limits(high=100_000)
            case.record(transport.get_write_buffer_limits())
            transport.write(BIG)
            size = transport.get_write_buffer_size()
            transport.write(b"end")
            case.record(transport.get_write_buffer_size() - size, 0 < size < len(BIG))
            case.record(await receive(pipe.writer, len(BIG) + 3) == BIG + b"end")
            await until(lambda: not transport.get_write_buffer_size())
            await settle()
            with case.catch():
                transport.set_write_buffer_limits(high=1, low=2)
            transport.set_write_buffer_limits(low=10)
            case.record(transport.get_write_buffer_limits())
            transport.write(BIG)
            transport.close()
            case.record(transport.is_closing())
            case.record(await receive(pipe.writer) == BIG)
            await pipe.protocol.lost

    record = agree(scenario, debug)
    assert record.count(("pause_writing",)) == record.count(("resume_writing",)) == 2
    assert record.count(("connection_lost", None)) == 1


def test_what_is_queued_is_a_copy(run):
    async def main():
        async with Writing() as pipe:
            data = bytearray(BIG)
            pipe.transport.write(data)
            data[:] = bytes(len(data))
            pipe.transport.write(data)
            data[:] = b"1" * len(data)
            assert await receive(pipe.writer, 2 * len(BIG)) == BIG + bytes(len(BIG))

    run(main)


@pytest.mark.aioxide_alone
def test_any_memoryview_is_sent_whole(run):
    async def main():
        async with Writing() as pipe:
            view = memoryview(BIG)
            pipe.transport.write(view.cast("I"))
            pipe.transport.write(view.cast("B", (1024, 1024)))
            pipe.transport.write(view[::2])
            assert await receive(pipe.writer, len(BIG) * 5 // 2) == BIG + BIG + BIG[::2]

    run(main)


def test_what_cannot_be_written(agree):
    async def scenario(case):
        async with Writing() as pipe:
            for wrong in ("text", 1, None, [1]):
                with case.catch():
                    pipe.transport.write(wrong)

    assert agree(scenario)[0] == ("raised", ("AssertionError", "'text'"))


def test_writing_after_the_end(agree):
    async def scenario(case):
        async with Writing(lambda: Journal(case.record)) as pipe:
            pipe.transport.close()
            for _ in range(8):
                pipe.transport.write(b"lost")
            pipe.transport.write(b"")
            await pipe.protocol.lost
            case.record(await receive(pipe.writer))

    record = agree(scenario)
    text = "pipe closed by peer or os.write(pipe, data) raised exception."
    assert record.count(("log", "WARNING", text)) == 3


@pytest.mark.parametrize("buffered", [False, True])
def test_the_reader_goes_away(agree, debug, buffered):
    async def scenario(case):
        async with Writing(lambda: Journal(case.record)) as pipe:
            if buffered:
                pipe.transport.write(BIG)
            pipe.close_writer()
            await pipe.protocol.lost
            case.record(pipe.transport.is_closing(), pipe.transport.get_write_buffer_size())
            pipe.transport.write(b"more")

    record = agree(scenario, debug)
    assert ("connection_lost", "BrokenPipeError" if buffered else None) in record


def test_writing_to_a_reader_that_is_gone(agree, debug):
    async def scenario(case):
        async with Writing(lambda: Journal(case.record)) as pipe:
            pipe.close_writer()
            pipe.transport.write(b"nobody reads it")
            case.record(pipe.transport.is_closing())
            await pipe.protocol.lost

    assert agree(scenario, debug)[-2:] == [(True,), ("connection_lost", "BrokenPipeError")]


def test_abort_loses_what_waits(agree, debug):
    async def scenario(case):
        async with Writing(lambda: Journal(case.record)) as pipe:
            pipe.transport.write(BIG)
            pipe.transport.abort()
            case.record(pipe.transport.get_write_buffer_size(), pipe.transport.is_closing())
            await pipe.protocol.lost
            case.record(len(await receive(pipe.writer)) < len(BIG))

    assert agree(scenario, debug)[-2:] == [("connection_lost", None), (True,)]


@pytest.mark.aioxide_alone
@pytest.mark.parametrize("first", ["close", "abort", "reader"])
def test_abort_after_the_end_loses_it_once(run, first):
    async def main():
        async with Writing() as pipe:
            if first == "reader":
                pipe.close_writer()
                await until(pipe.transport.is_closing)
            else:
                getattr(pipe.transport, first)()
            pipe.transport.abort()
            await pipe.protocol.lost
            pipe.transport.abort()
            await settle()
            assert pipe.protocol.calls.count(("connection_lost", None)) == 1

    run(main)


@pytest.mark.parametrize("same", [False, True], ids=["two descriptors", "one descriptor"])
def test_terminal_in_both_directions(agree, same):
    async def scenario(case):
        master, slave = pty.openpty()
        tty.setraw(slave)
        reading = open(slave, "rb", 0, closefd=not same)
        writing = open(slave if same else os.dup(slave), "wb", 0)
        _, reader = await case.loop.connect_read_pipe(Journal, reading)
        _, writer = await case.loop.connect_write_pipe(Journal, writing)
        for _ in range(2):
            reader.received.clear()
            os.write(master, b"in")
            await until(lambda: reader.received == b"in")
            writer.transport.write(b"out")
            case.record(bytes(reader.received), os.read(master, 10))
        reader.transport.close()
        await reader.lost
        writer.transport.write(b"still")
        case.record(os.read(master, 10))
        writer.transport.close()
        await writer.lost
        await asyncio.sleep(0)
        os.close(master)
        case.record(reader.calls, writer.calls)

    assert agree(scenario)[:2] == [(b"in", b"out")] * 2


def test_the_other_end_of_a_terminal_goes_away(agree, debug):
    async def scenario(case):
        master, slave = pty.openpty()
        make = lambda: Journal(case.record)  # noqa: E731
        _, protocol = await case.loop.connect_read_pipe(make, open(master, "rb", 0))
        os.close(slave)
        await protocol.lost
        await asyncio.sleep(0)

    # the error of a terminal is no fault: it is not reported
    assert agree(scenario, debug) == [("connection_made",), ("connection_lost", "OSError")]


def test_sockets_as_pipes(agree):
    async def scenario(case):
        ours, theirs = socket.socketpair()
        _, reader = await case.loop.connect_read_pipe(Journal, open(ours.detach(), "rb", 0))
        _, writer = await case.loop.connect_write_pipe(Journal, open(theirs.detach(), "wb", 0))
        writer.transport.write(b"over a socket")
        await until(lambda: reader.received)
        case.record(bytes(reader.received))
        reader.transport.close()
        await writer.lost
        case.record(reader.calls, writer.calls)
        await asyncio.sleep(0)

    assert agree(scenario)[0] == (b"over a socket",)


def test_what_is_no_pipe(agree):
    async def scenario(case):
        for name in ("connect_read_pipe", "connect_write_pipe"):
            connect = getattr(case.loop, name)
            with tempfile.TemporaryFile() as file:
                with case.catch():
                    await connect(Journal, file)
                case.record(file.closed)

    record = agree(scenario)
    assert record[0] == ("raised", ("ValueError", "Pipe transport is for pipes/sockets only."))


@pytest.mark.aioxide_alone
def test_closed_files_are_refused_without_a_trace(run):
    async def main():
        loop = asyncio.get_running_loop()
        ends = os.pipe()
        file = open(ends[0], "rb", 0)
        file.close()
        for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
            with pytest.raises(ValueError, match="closed file"):
                await connect(Journal, file)
            with pytest.raises(OSError, match="Bad file descriptor"):
                await connect(Journal, Reusing(ends[0]))
            with pytest.raises(AttributeError):
                await connect(Journal, object())
        os.close(ends[1])

    run(main)


class Reusing:
    """A file object with another one in its place as soon as it is closed."""

    def __init__(self, number):
        self.number, self.other, self.closes = number, None, 0

    def fileno(self):
        return self.number

    def close(self):
        self.closes += 1
        if self.other is None:
            os.close(self.number)
            self.other = os.open("/dev/null", os.O_RDONLY)


@pytest.mark.parametrize("direction", [0, 1], ids=["read", "write"])
@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
def test_connecting_is_cancelled(agree, direction, iterations):
    async def scenario(case):
        ends = os.pipe()
        file = Reusing(ends[direction])
        connect = (case.loop.connect_read_pipe, case.loop.connect_write_pipe)[direction]
        protocol = Journal()
        task = asyncio.ensure_future(connect(lambda: protocol, file))
        for _ in range(iterations):
            await asyncio.sleep(0)
        case.record(task.cancel())
        with case.catch():
            transport, _ = await task
            transport.close()
        await settle()
        case.record(protocol.calls, file.closes)
        if file.other is None:
            os.close(file.number)
        else:
            # the number is another file's now, which must not have been closed
            os.fstat(file.other)
            os.close(file.other)
        os.close(ends[1 - direction])

    agree(scenario)


def test_unclosed_transports_warn(run):
    async def main():
        ends = os.pipe()
        loop = asyncio.get_running_loop()
        files = open(ends[0], "rb", 0), open(ends[1], "wb", 0)
        reader, _ = await loop.connect_read_pipe(asyncio.Protocol, files[0])
        writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, files[1])
        return [reader, writer], files

    transports, files = run(main)
    for transport in transports:
        assert "open" in repr(transport)
        transport.get_extra_info("pipe")
    del transport
    for _ in range(2):
        with pytest.warns(ResourceWarning, match="unclosed transport <.*Pipe"):
            transports.pop()
            gc.collect()
    assert all(file.closed for file in files)


def test_replaced_call_soon_sees_the_callbacks(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        plain = loop.call_soon

        def call_soon(callback, *args, context=None):
            seen.append(getattr(callback, "__name__", ""))
            return plain(callback, *args, context=context)

        loop.call_soon = call_soon
        async with Reading() as pipe:
            pipe.close_writer()
            await pipe.protocol.lost
        for name in ("connection_made", "eof_received", "_call_connection_lost"):
            assert seen.count(name) == 1

    run(main)
