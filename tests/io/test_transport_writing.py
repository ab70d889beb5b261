"""Stream transports over TCP and Unix sockets: writing and flow control."""

import array
import asyncio
import os
import sys

import pytest

from peers import connected, receive, settle, until

# without lines it stops the writer for good; after the loss it raises TypeError
WRITELINES_IS_WRONG = (3, 12) <= sys.version_info < (3, 14)

BIG = bytes(range(256)) * 16_384  # 4 MiB


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


def test_what_may_be_written(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            for data in (
                b"bytes",
                bytearray(b"bytearray"),
                memoryview(b"memoryview"),
                b"",
                bytearray(),
                memoryview(b""),
            ):
                with case.catch():
                    transport.write(data)
            for data in ("text", None, 12, [b"list"], {}, object()):
                with case.catch():
                    transport.write(data)
            transport.write(b"end")
            case.record(transport.get_write_buffer_size())
            transport.close()
            case.record(await receive(peer))

    record = agree(scenario)
    assert record[-1] == (b"bytesbytearraymemoryviewend",)


VIEWS = {
    "two-dimensional": lambda data: memoryview(data).cast("B", (2, len(data) // 2)),
    "words": lambda data: memoryview(data).cast("I"),
    "two-dimensional words": lambda data: memoryview(data).cast("H", (4, len(data) // 8)),
    "floats": lambda data: memoryview(data).cast("d"),
    "array": lambda data: memoryview(array.array("Q", data)),
}


@pytest.mark.aioxide_alone  # asyncio sends a part, or closes the connection (cpython#135862)
@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("how", ["write", "writelines", "write behind others"])
def test_views_that_are_not_of_bytes_are_sent_whole(run, family, kind, how):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            expected = b""
            if how == "write behind others":
                transport.write(BIG)
                expected = BIG
            view = VIEWS[kind](os.urandom(1_000_000))
            expected += view.tobytes()
            transport.write(view) if how != "writelines" else transport.writelines([view])
            transport.close()
            assert await receive(peer) == expected

    run(main)


@pytest.mark.aioxide_alone  # asyncio closes the connection
def test_strided_views(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            lines = [memoryview(b"0123456789")[::-1], b"end"]
            transport.write(memoryview(b"0123456789")[::2])
            if sys.version_info >= (3, 12):
                transport.writelines(lines)
            else:
                with pytest.raises(TypeError, match="sequence item 0: expected"):
                    transport.writelines(lines)
                transport.write(lines[0])
                transport.write(lines[1])
            transport.close()
            assert await receive(peer) == b"02468" + b"9876543210" + b"end"

    run(main)


def test_what_writelines_takes(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            transport.writelines([b"list", bytearray(b"-of-"), memoryview(b"several")])
            transport.writelines(bytes([65 + number]) for number in range(5))
            transport.writelines((b"tuple",))
            transport.writelines([])
            transport.writelines([b"", b""])
            for data in (None, 12, ["text"], [None], "text"):
                with case.catch():
                    transport.writelines(data)
            transport.close()
            case.record(await receive(peer))

    record = agree(scenario, asyncio_is_wrong=WRITELINES_IS_WRONG)
    assert record[-1][0].startswith(b"list-of-severalABCDEtuple")


@pytest.mark.aioxide_alone  # asyncio may forget to register its writer
def test_a_failing_generator_in_writelines(run, family):
    async def main():
        def failing():
            yield b"first"
            raise ValueError("in the generator")

        async with connected(family) as (transport, protocol, peer):
            with pytest.raises(ValueError, match="in the generator"):
                transport.writelines(failing())
            transport.write(b"next")
            transport.close()
            assert await receive(peer) in (b"firstnext", b"next")

    run(main)


@pytest.mark.parametrize("count", [1, 1000, 1024, 1025, 5000])
def test_writelines_over_iov_max(run, family, count):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            lines = [b"%6d" % number for number in range(count)]
            transport.writelines(lines)
            transport.close()
            assert await receive(peer) == b"".join(lines)

    assert os.sysconf("SC_IOV_MAX") == 1024
    run(main)


def test_writelines_of_much(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            lines = [bytes([number % 256]) * (number * 37 % 5000) for number in range(3000)]
            transport.writelines(lines)
            transport.write(b"the end")
            transport.writelines(lines[:10])
            transport.close()
            assert await receive(peer) == b"".join(lines) + b"the end" + b"".join(lines[:10])

    run(main)


@pytest.mark.aioxide_alone  # 3.12 to 3.13.1 forgot the limit (cpython#127655)
def test_writelines_over_high_water_pauses(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=1000)
            transport.writelines([b"x" * 100_000 for _ in range(50)])
            paused = "pause_writing" in protocol.calls
            reading = asyncio.ensure_future(receive(peer, 5_000_000))
            await reading
            await until(lambda: protocol.calls.count("resume_writing") == paused)
            return paused

    assert run(main)


@pytest.mark.aioxide_alone  # asyncio queues a view of the writer's own buffer
@pytest.mark.parametrize("how", ["write", "writelines"])
def test_buffers_changed_after_the_write(run, family, how):
    """What is queued is a copy."""

    async def main():
        async with connected(family) as (transport, protocol, peer):
            transport.write(BIG)
            data = bytearray(b"a" * 1000)
            view = memoryview(bytearray(b"b" * 1000))
            for buffer in data, view:
                transport.write(buffer) if how == "write" else transport.writelines([buffer])
            data[:] = b"x" * 1000
            data.extend(b"and it may be resized")
            view[:] = b"x" * 1000
            transport.close()
            return await receive(peer)

    assert run(main) == BIG + b"a" * 1000 + b"b" * 1000


def test_write_sends_at_once(run, family):
    """Code that blocks right after write() has had its bytes sent."""

    async def main():
        async with connected(family) as (transport, protocol, peer):
            for text in (b"first", b"second"):
                transport.write(text)
                peer.settimeout(30)
                assert peer.recv(100) == text
            transport.writelines([b"a", b"b"])
            assert transport.get_write_buffer_size() in (0, 2)
            await settle()
            assert peer.recv(100) == b"ab"

    run(main)


def test_big_writes_arrive_whole(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            sizes = [1, 100, 65_536, 100_000, 262_144, 1_000_000]
            parts = [os.urandom(size) for size in sizes for _ in range(3)]
            reading = asyncio.ensure_future(receive(peer))
            for part in parts:
                transport.write(part)
                await asyncio.sleep(0)
            transport.close()
            assert await reading == b"".join(parts)

    run(main)


def test_flow_control(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            case.record(transport.get_write_buffer_limits(), transport.get_write_buffer_size())
            transport.set_write_buffer_limits(high=100_000, low=50_000)
            case.record(transport.get_write_buffer_limits())
            while not transport.get_write_buffer_size():
                transport.write(b"x" * 50_000)
            protocol.calls.clear()
            base = transport.get_write_buffer_size()
            case.record(protocol.calls, base <= 50_000)
            transport.write(b"x" * (100_000 - base))
            case.record(protocol.calls, transport.get_write_buffer_size())
            transport.write(b"x")
            case.record(protocol.calls, transport.get_write_buffer_size())
            transport.write(b"x" * 100)
            case.record(protocol.calls, transport.get_write_buffer_size())
            await receive(peer, 1)
            while transport.get_write_buffer_size():
                await receive(peer, 10_000)
            case.record(protocol.calls)
            transport.abort()
            await protocol.lost

    record = agree(scenario)
    assert record[0][0] == (16384, 65536)
    assert [entry[0] for entry in record[2:6]] == [
        (),
        (),
        ("pause_writing",),
        ("pause_writing",),
    ]
    assert record[-1] == (("pause_writing", "resume_writing"),)


def test_limits(agree):
    async def scenario(case):
        async with connected("unix") as (transport, protocol, peer):
            for options in (
                {},
                {"high": 1000},
                {"low": 1000},
                {"high": 0},
                {"high": 10, "low": 10},
                {"high": 10, "low": 20},
                {"high": -1},
                {"low": -1},
                {"high": 7},
            ):
                with case.catch():
                    transport.set_write_buffer_limits(**options)
                case.record(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(1000, 10)
            case.record(transport.get_write_buffer_limits())

    record = agree(scenario)
    assert record[1] == ((16384, 65536),) and record[3] == ((250, 1000),)
    assert record[5] == ((1000, 4000),)


def test_lowering_the_limit_under_what_is_buffered(agree):
    async def scenario(case):
        async with connected("unix") as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=100_000_000)
            transport.write(BIG)
            case.record(protocol.calls)
            transport.set_write_buffer_limits(high=10)
            case.record(protocol.calls)
            transport.write(b"x")
            case.record(protocol.calls)

    agree(scenario)


def test_the_size_of_the_buffer(run, family):
    async def main():
        async with connected(family) as (transport, protocol, peer):
            assert transport.get_write_buffer_size() == 0
            transport.write(BIG)
            sent = len(BIG) - transport.get_write_buffer_size()
            assert 0 <= sent < len(BIG)
            transport.write(b"x" * 10)
            transport.writelines([b"x" * 10] * 5)
            assert transport.get_write_buffer_size() == len(BIG) - sent + 60
            await receive(peer, len(BIG) + 60)
            await until(lambda: transport.get_write_buffer_size() == 0)

    run(main)
