"""TLS with somebody in the middle who changes, drops, repeats or cuts the encrypted bytes.

AIOXIDE_FUZZ_SECONDS makes it go on for so long, each time with other changes.
"""

import asyncio
import contextlib
import os
import random
import socket
import time

import pytest

from peers import Journal
from tls_peers import HOST, client_context, server_context

SECONDS = float(os.environ.get("AIOXIDE_FUZZ_SECONDS", "0"))
CHANGES = ("nothing", "flip", "drop", "repeat", "insert", "cut")


class End(Journal):
    """Sends some data as soon as it may, then closes when it has got as much as was promised."""

    def __init__(self, data, expected):
        super().__init__()
        self.data, self.expected = data, expected

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.writelines([self.data[:100], self.data[100:]])
        self.close_when_done()

    def data_received(self, data):
        super().data_received(data)
        self.close_when_done()

    def close_when_done(self):
        if len(self.received) >= self.expected:
            self.transport.close()


def changed(rng, change, data):
    """A piece of a stream, with one change somewhere."""
    at = rng.randrange(len(data))
    size = rng.randint(1, 40)
    if change == "flip":
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if change == "drop":
        return data[:at] + data[at + size :]
    if change == "repeat":
        return data[: at + size] + data[at:]
    if change == "insert":
        return data[:at] + rng.randbytes(size) + data[at:]
    return data


async def pump(rng, source, target, change, offset):
    """Passes a stream on in any pieces, changed at an offset."""
    loop = asyncio.get_running_loop()
    passed = 0
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, rng.choice((1, 50, 1000, 70_000))):
            if passed <= offset < passed + len(data):
                if change == "cut":
                    break
                data = changed(rng, change, data)
            passed += len(data)
            await loop.sock_sendall(target, data)
        target.shutdown(socket.SHUT_WR)
        if change == "cut":
            source.shutdown(socket.SHUT_RD)


async def connection(rng, version):
    loop = asyncio.get_running_loop()
    change, offset = rng.choice(CHANGES), rng.choice((rng.randrange(600), rng.randrange(100_000)))
    data = [rng.randbytes(rng.choice((0, 1, 200, 50_000))) for _ in range(2)]
    ends = End(data[0], len(data[1])), End(data[1], len(data[0]))
    near, near_middle = socket.socketpair()
    far, far_middle = socket.socketpair()
    near_middle.setblocking(False)
    far_middle.setblocking(False)
    limits = {"ssl_handshake_timeout": 0.5, "ssl_shutdown_timeout": 0.2}
    changes = [change, "nothing"]
    rng.shuffle(changes)
    with near_middle, far_middle:
        pumps = [
            asyncio.ensure_future(pump(rng, near_middle, far_middle, changes[0], offset)),
            asyncio.ensure_future(pump(rng, far_middle, near_middle, changes[1], offset)),
        ]
        connecting = asyncio.gather(
            loop.create_connection(
                lambda: ends[0], sock=near, ssl=client_context(version), server_hostname=HOST, **limits
            ),
            loop.connect_accepted_socket(
                lambda: ends[1], far, ssl=server_context(version), **limits
            ),
            return_exceptions=True,
        )
        results = await connecting
        failed = [result for result in results if isinstance(result, BaseException)]
        assert all(isinstance(error, OSError) for error in failed), failed
        if change == "nothing":
            assert not failed
        else:
            # what has become of the rest is for the timeouts
            await asyncio.wait([*pumps, *(end.lost for end in ends)], timeout=0.1)
            for end in ends:
                if end.transport is not None:
                    end.transport.close()
        for end in ends:
            if end.calls:
                await end.lost
        for one in pumps:
            one.cancel()
        await asyncio.wait(pumps)
    for end, sent in zip(ends, reversed(data)):
        names = [call if isinstance(call, str) else call[0] for call in end.calls]
        assert names.count("connection_made") == names.count("connection_lost") <= 1
        # nothing that was not sent, and all of it where nobody interfered
        assert sent.startswith(end.received)
        assert change != "nothing" or end.received == sent
    return change


@pytest.mark.hung_after(60 + 2 * int(SECONDS))
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tampering(run, version):
    async def main():
        seed = random.randrange(1 << 32) if SECONDS else 1
        rng = random.Random(seed)
        started, count = time.monotonic(), 0
        while count < 2 or time.monotonic() - started < SECONDS:
            count += 1
            lives = [connection(random.Random(rng.random()), version) for _ in range(20)]
            assert set(await asyncio.gather(*lives)) <= set(CHANGES), f"seed {seed}"

    run(main)
