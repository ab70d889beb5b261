"""add_reader, remove_reader, add_writer, remove_writer."""

import asyncio
import gc
import os
import socket
import weakref

import pytest

from peers import connected, settle, socket_pair, until


def test_a_reader_is_called_while_there_is_data(agree):
    async def scenario(case):
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            case.loop.add_reader(ours, lambda *args: case.record(args, ours.recv(2)), "argument")
            theirs.send(b"abcdef")
            await settle()
            case.record("no more data")
            theirs.send(b"g")
            await settle()
            case.record(case.loop.remove_reader(ours), case.loop.remove_reader(ours))
            theirs.send(b"h")
            await settle()

    record = agree(scenario)
    assert record == [
        (("argument",), b"ab"),
        (("argument",), b"cd"),
        (("argument",), b"ef"),
        ("no more data",),
        (("argument",), b"g"),
        (True, False),
    ]


def test_a_reader_that_does_not_read_is_called_again(run):
    """Level-triggered, one call an iteration."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            calls = []
            loop.add_reader(ours.fileno(), calls.append, 1)
            theirs.send(b"x")
            await until(lambda: len(calls) >= 10)
            loop.remove_reader(ours.fileno())
            count = len(calls)
            await settle()
            assert len(calls) == count

    run(main)


def test_a_writer_is_called_while_there_is_room(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            sent = 0

            def write():
                nonlocal sent
                sent += ours.send(b"x" * 4096)

            loop.add_writer(ours, write)
            while True:
                before = sent
                await settle()
                if sent == before and sent:
                    break
            received = len(theirs.recv(65536))
            await until(lambda: sent > before)
            assert loop.remove_writer(ours) and not loop.remove_writer(ours)
            assert received

    run(main)


def test_reader_and_writer_of_one_descriptor(agree):
    async def scenario(case):
        ours, theirs = socket_pair("unix")
        with ours, theirs:

            def write():
                case.record("write")
                case.loop.remove_writer(ours)

            def read():
                case.record("read", ours.recv(10))
                case.loop.add_writer(ours, write)

            case.loop.add_reader(ours, read)
            for text in (b"one", b"two"):
                theirs.send(text)
                await settle()
            case.loop.add_writer(ours, write)
            await settle()
            case.record(case.loop.remove_writer(ours), case.loop.remove_reader(ours))

    assert agree(scenario)[-1] == (False, True)


def test_a_replaced_reader(agree):
    async def scenario(case):
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            case.loop.add_reader(ours, case.record, "first")
            theirs.send(b"x")
            case.loop.add_reader(ours, lambda: case.record("second", ours.recv(10)))
            await settle()
            case.record(case.loop.remove_reader(ours))

    assert agree(scenario) == [("second", b"x"), (True,)]


def test_a_reader_replaced_while_its_call_is_queued(agree):
    """The old callback must not run: asyncio cancels its handle."""

    async def scenario(case):
        ours, theirs = socket_pair("unix")
        more, other = socket_pair("unix")
        with ours, theirs, more, other:

            def first():
                case.record("reader", ours.recv(10))
                case.loop.add_reader(more, lambda: case.record("new", more.recv(10)))

            def second():
                case.record("other way round", more.recv(10))
                case.loop.add_reader(ours, lambda: case.record("new", ours.recv(10)))

            case.loop.add_reader(ours, first)
            case.loop.add_reader(more, second)
            theirs.send(b"x")
            other.send(b"x")
            await settle()
            case.loop.remove_reader(ours)
            case.loop.remove_reader(more)

    record = sorted(agree(scenario))
    assert [entry[0] for entry in record][0] == "new"


def test_removing_and_closing_inside_the_callback(agree):
    async def scenario(case):
        ours, theirs = socket_pair("unix")
        with theirs:

            def read():
                case.record(ours.recv(1), case.loop.remove_reader(ours))
                ours.close()

            case.loop.add_reader(ours, read)
            theirs.send(b"xyz")
            await settle()

    assert agree(scenario) == [(b"x", True)]


def test_removed_by_an_earlier_callback_of_the_same_iteration(run):
    async def main():
        loop = asyncio.get_running_loop()
        pairs = [socket_pair("unix") for _ in range(5)]
        seen = []

        def read(number):
            seen.append(number)
            for ours, _ in pairs:
                loop.remove_reader(ours)

        for number, (ours, theirs) in enumerate(pairs):
            loop.add_reader(ours, read, number)
            theirs.send(b"x")
        await settle()
        for pair in pairs:
            for sock in pair:
                sock.close()
        assert len(seen) == 1

    run(main)


def test_a_descriptor_number_used_again(run):
    """Closed after remove_reader, its number taken by another: only the new one counts."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        for number in range(50):
            ours, theirs = socket_pair("unix")
            fd = ours.fileno()
            loop.add_reader(fd, seen.append, "old")
            theirs.send(b"x")
            loop.remove_reader(fd)
            ours.close()
            theirs.close()
            again, other = socket_pair("unix")
            with again, other:
                assert fd in (again.fileno(), other.fileno())
                loop.add_reader(again, lambda again=again: seen.append(again.recv(10)))
                other.send(b"new")
                await until(lambda: seen)
                loop.remove_reader(again)
                assert seen == [b"new"]
                seen.clear()

    run(main)


def test_a_descriptor_closed_without_remove(run):
    """epoll forgets it silently; the number registered anew works."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("unix")
        fd = ours.fileno()
        loop.add_reader(fd, pytest.fail, "the closed descriptor is no reader")
        ours.close()
        theirs.close()
        await settle()
        loop.remove_reader(fd)
        again, other = socket_pair("unix")
        with again, other:
            seen = []
            if again.fileno() != fd:
                os.dup2(again.fileno(), fd)
            loop.add_reader(fd, seen.append, 1)
            other.send(b"x")
            await until(lambda: seen)
            assert loop.remove_reader(fd)
            if again.fileno() != fd:
                os.close(fd)

    run(main)


def test_end_of_file_and_errors_call_the_reader(run):
    async def main():
        loop = asyncio.get_running_loop()
        for family in ("unix", "tcp"):
            ours, theirs = socket_pair(family)
            with ours:
                seen = []
                loop.add_reader(ours, seen.append, "end of file")
                theirs.close()
                await until(lambda: seen)
                loop.remove_reader(ours)
                assert ours.recv(10) == b""
        reading, writing = os.pipe()
        seen = []
        loop.add_reader(reading, seen.append, "pipe")
        os.close(writing)
        await until(lambda: seen)
        loop.remove_reader(reading)
        os.close(reading)
        reading, writing = os.pipe()
        os.close(reading)
        seen = []
        loop.add_writer(writing, seen.append, "no reader")
        await until(lambda: seen)
        loop.remove_writer(writing)
        os.close(writing)

    run(main)


def test_wrong_descriptors(agree):
    async def scenario(case):
        loop = case.loop
        closed = socket.socket()
        closed.close()

        class Odd:
            def fileno(self):
                return "odd"

        for thing in (-1, None, "text", closed, Odd(), 1.5, object()):
            for call in (
                lambda: loop.add_reader(thing, print),
                lambda: loop.add_writer(thing, print),
                lambda: loop.remove_reader(thing),
                lambda: loop.remove_writer(thing),
            ):
                with case.catch():
                    case.record(call())
        with open(__file__) as file:
            with case.catch():
                loop.add_reader(file, print)
        case.record(loop.remove_reader(999), loop.remove_writer(999))
        with case.catch():
            loop.add_reader(999, print)

    record = agree(scenario)
    assert record[0] == ("raised", ("ValueError", "Invalid file descriptor: -1"))
    assert ("raised", ("PermissionError", 1, "Operation not permitted")) in record


def test_a_transports_descriptor_is_refused(agree):
    async def scenario(case):
        async with connected("tcp") as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            for thing in (sock, sock.fileno()):
                for name in "add_reader", "add_writer":
                    with case.catch(name):
                        getattr(case.loop, name)(thing, print)
                for name in "remove_reader", "remove_writer":
                    with case.catch(name):
                        getattr(case.loop, name)(thing)

    record = agree(scenario)
    assert record[0][1][0] == "RuntimeError" and "is used by transport" in record[0][1][1]


def test_a_failing_reader_is_reported_each_time(agree):
    async def scenario(case):
        ours, theirs = socket_pair("unix")
        with ours, theirs:

            def fail():
                ours.recv(1)
                raise ValueError("in the reader")

            case.loop.add_reader(ours, fail)
            theirs.send(b"xy")
            await settle()
            case.loop.remove_reader(ours)

    record = agree(scenario)
    assert [entry[2] for entry in record] == [("ValueError", "in the reader")] * 2


def test_many_readers(run):
    async def main():
        loop = asyncio.get_running_loop()
        pairs = [socket_pair("unix") for _ in range(200)]
        seen = set()

        def read(number):
            pairs[number][0].recv(10)
            seen.add(number)

        for number, (ours, _) in enumerate(pairs):
            loop.add_reader(ours, read, number)
        for _ in range(5):
            seen.clear()
            for _, theirs in pairs:
                theirs.send(b"x")
            await until(lambda: len(seen) == len(pairs))
        for ours, theirs in pairs:
            assert loop.remove_reader(ours)
            ours.close()
            theirs.close()

    run(main)


def test_closing_the_loop_forgets_readers(loop_factory):
    ours, theirs = socket_pair("unix")
    with ours, theirs:
        loop = loop_factory()
        loop.add_reader(ours, print)
        loop.add_writer(ours, print)
        loop.close()
        assert ours.fileno() >= 0
        theirs.send(b"still open")
        assert ours.recv(10) == b"still open"


def test_ready_callbacks_and_a_busy_reader_take_turns(run):
    """A descriptor that is always ready does not starve callbacks, nor they it."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("unix")
        counts = {"reader": 0, "callback": 0}

        def read():
            counts["reader"] += 1

        def callback():
            counts["callback"] += 1
            if counts["reader"] < 100:
                loop.call_soon(callback)

        with ours, theirs:
            theirs.send(b"x")
            loop.add_reader(ours, read)
            loop.call_soon(callback)
            await until(lambda: counts["reader"] >= 100)
            loop.remove_reader(ours)
        assert counts["callback"] >= 10

    run(main)


def test_timers_fire_while_readers_are_busy(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            theirs.send(b"x")
            loop.add_reader(ours, int)
            await settle()
            loop.remove_reader(ours)

    run(main)


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_what_was_closed_first_can_be_removed(agree, side):
    """anyio closes its socket, then says so to the loop."""

    async def scenario(case):
        add = getattr(case.loop, f"add_{side}")
        remove = getattr(case.loop, f"remove_{side}")
        ours, theirs = socket_pair("unix")
        with ours, theirs:
            add(ours, case.record, "ready")
            ours.close()
            case.record(remove(ours))
            with pytest.raises(ValueError) as caught:
                remove(ours)
            case.record(str(caught.value))

    assert agree(scenario) == [(True,), ("Invalid file descriptor: -1",)]


def test_a_reader_keeps_its_socket_until_it_is_removed(agree):
    async def scenario(case):
        ours, theirs = socket_pair("unix")
        kept = weakref.ref(ours)
        with theirs:
            number = ours.fileno()
            case.loop.add_reader(ours, case.record, "reader")
            case.loop.add_writer(ours, lambda: None)
            del ours
            gc.collect()
            theirs.send(b"x")
            case.loop.remove_writer(number)
            case.record(kept() is not None)
            kept().recv(1)
            kept().detach()
            case.loop.remove_reader(number)
            os.close(number)
            case.record(kept() is None)

    assert agree(scenario) == [(True,), (True,)]
