"""TLS transports with parts that the program has put in the place of asyncio's."""

from peers import Journal, until
from tls_peers import encrypted

BIG = b"0123456789abcdef" * 4096


def test_a_buffer_of_the_programs_own(agree):
    """A program that has put its own buffer for received bytes in the place of asyncio's may keep
    what it gets."""

    class Buffer:
        def __init__(self, inside):
            self.inside, self.kept = inside, []

        def __getattr__(self, name):
            return getattr(self.inside, name)

        def write(self, data):
            self.kept.append(memoryview(data))
            return self.inside.write(data)

    async def scenario(case):
        async with encrypted("tcp", Journal, False) as (transport, protocol, peer):
            below = transport._ssl_protocol
            below._incoming = buffer = Buffer(below._incoming)
            for size in (10, 40_000):
                await peer.send(BIG[:size])
                await until(lambda: len(protocol.received) >= size)
                assert protocol.received == BIG[:size]
                protocol.received.clear()
            case.record(bool(buffer.kept), all(len(data) > 0 for data in buffer.kept))
            transport.abort()

    agree(scenario)
