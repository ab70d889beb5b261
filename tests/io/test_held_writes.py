"""Writes of a connection that is known to write several times in an iteration: aioxide sends them
together, and nobody can tell."""

import asyncio

import pytest

from peers import connected, program, receive, settle, until

HELD_AFTER = 16  # iterations


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


async def trained(case, transport, peer):
    """Writes twice in many iterations, until aioxide holds the first write back."""
    held = False
    rounds = 0
    while not held and (case.aio is not asyncio or rounds < HELD_AFTER):
        rounds += 1
        assert rounds < 10_000, "no write is ever held"
        transport.write(b"one")
        try:
            start = peer.recv(3)
        except BlockingIOError:
            start, held = b"", True
        transport.write(b"two")
        assert transport.get_write_buffer_size() == 0
        assert start + await receive(peer, 6 - len(start)) == b"onetwo"
        await asyncio.sleep(0)


def test_who_blocks_after_a_write_has_it_sent(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, _, peer):
            await trained(case, transport, peer)
            peer.settimeout(20)
            transport.write(b"question")
            case.record(peer.recv(100))
            transport.write(b"another")
            transport.write(b" one")
            case.record(peer.recv(7) + peer.recv(4))
            peer.setblocking(False)
            await trained(case, transport, peer)

    record = agree(scenario)
    assert record == [(b"question",), (b"another one",)]


def endings():
    yield "close", lambda transport: transport.close()
    yield "abort", lambda transport: transport.abort()
    yield "write_eof", lambda transport: transport.write_eof()
    yield "writelines", lambda transport: (transport.writelines([b", ", b"lines"]), transport.close())
    yield "bytearray", lambda transport: (transport.write(bytearray(b", more")), transport.close())
    yield "large", lambda transport: (transport.write(bytes(100_000)), transport.close())
    yield "empty", lambda transport: (transport.write(b""), transport.close())


@pytest.mark.parametrize("ending", [pytest.param(end, id=name) for name, end in endings()])
def test_what_comes_after_is_sent_after(agree, family, ending):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            await trained(case, transport, peer)
            transport.write(b"first")
            transport.write(b", second")
            ending(transport)
            case.record(await receive(peer))
            peer.close()
            await protocol.lost
            case.record(protocol.calls)

    record = agree(scenario)
    assert record[0][0].startswith(b"first, second")


def test_a_peer_that_does_not_read(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            await trained(case, transport, peer)
            written = 0
            while "pause_writing" not in protocol.calls:
                transport.write(b"x" * 5_000)
                transport.write(b"y" * 5_000)
                written += 10_000
                await asyncio.sleep(0)
            case.record(transport.get_write_buffer_size() > 0)
            data = await receive(peer, written)
            case.record(data == (b"x" * 5_000 + b"y" * 5_000) * (written // 10_000))
            await until(lambda: "resume_writing" in protocol.calls)
            case.record(transport.get_write_buffer_size(), protocol.calls)
            await trained(case, transport, peer)

    agree(scenario)


def test_a_peer_that_is_gone(agree, family):
    async def scenario(case):
        async with connected(family) as (transport, protocol, peer):
            await trained(case, transport, peer)
            transport.pause_reading()
            peer.close()
            await settle()
            while not transport.is_closing():
                transport.write(b"first")
                transport.write(b"second")
                await asyncio.sleep(0)
            await protocol.lost
            case.record(protocol.calls)

    agree(scenario)


def test_a_program_that_ends_after_a_write(aio):
    ended = program(
        aio,
        """
        import socket
        ours, theirs = socket.socketpair()
        theirs.settimeout(20)

        async def main():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
            for _ in range(100):
                transport.write(b"a")
                transport.write(b"b")
                await asyncio.sleep(0)
            theirs.recv(200)
            transport.write(b"last words")
            sys.exit(3)

        loop = aio.new_event_loop()
        try:
            loop.run_until_complete(main())
        except SystemExit:
            print(theirs.recv(100).decode())
        """,
        check=False,
    )
    assert ended.stdout.strip() == "last words", ended.stderr


def test_order_among_many_connections(agree, family):
    async def scenario(case):
        async def one(number):
            async with connected(family) as (transport, _, peer):
                for turn in range(60):
                    head, body = b"%d head %d;" % (number, turn), b"body %d;" % turn
                    transport.write(head)
                    transport.write(body)
                    got = await receive(peer, len(head + body))
                    assert got == head + body
                    if turn % 7 == 0:
                        await asyncio.sleep(0)

        await asyncio.gather(*(one(number) for number in range(40)))
        case.record("done")

    agree(scenario)

