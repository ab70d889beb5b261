"""Traffic of every kind, for a build that counts branches.

The echo servers of the benches run with clients in the same loop, over TCP, Unix sockets, TLS and
UDP, and child processes run too. The micro benches train the rest. Only the standard library is
needed: TLS goes without certificates, which OpenSSL allows up to TLS 1.2.
"""

import asyncio
import importlib
import pathlib
import ssl
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "benches"))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent / "benches" / "net"))
from report import targets

# The bytes of a request, and the number of requests on each connection. Each request ends with a
# newline.
REQUESTS = {64: 400, 1024: 200, 102_400: 20}
CONNECTIONS = 10
TRANSPORTS = ("protocol", "buffered", "streams", "lines")
TIMEOUT = 120


def anonymous(protocol: int) -> ssl.SSLContext:
    """A TLS context that shows no certificate and asks for none."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send all the requests on one connection, reading by lines and in one piece in turn."""
    for size, times in REQUESTS.items():
        request = b"x" * (size - 1) + b"\n"
        for number in range(times):
            writer.write(request)
            await writer.drain()
            if number % 2 and size < 65_536:
                answer = await reader.readline()
            else:
                answer = await reader.readexactly(size)
            assert answer == request
    writer.close()
    await writer.wait_closed()


async def echo(kind: str, unix: str | None, tls: bool) -> None:
    """Run a server of one kind and its clients."""
    program = importlib.import_module(f"servers.{kind}")
    serving = anonymous(ssl.PROTOCOL_TLS_SERVER) if tls else None
    asking = anonymous(ssl.PROTOCOL_TLS_CLIENT) if tls else None
    server = await program.start("127.0.0.1", unix, serving)
    connections = []
    for _ in range(CONNECTIONS):
        if unix:
            opening = asyncio.open_unix_connection(unix, ssl=asking)
        else:
            port = server.sockets[0].getsockname()[1]
            opening = asyncio.open_connection("127.0.0.1", port, ssl=asking)
        connections.append(asyncio.create_task(ask(*await opening)))
    await asyncio.gather(*connections)
    if kind in TRANSPORTS:
        server.close()


class Asking(asyncio.DatagramProtocol):
    """Sends the next datagram when one comes back, until enough have come."""

    def __init__(self) -> None:
        self.left = 2000
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.DatagramTransport
    ) -> None:
        self.transport = transport
        for _ in range(10):
            transport.sendto(b"x" * 64)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.left -= 1
        if self.left > 0:
            self.transport.sendto(data)
        elif not self.done.done():
            self.done.set_result(None)


async def datagrams() -> None:
    """Send datagrams to a server and receive them back."""
    program = importlib.import_module("servers.datagram")
    server = await program.start("127.0.0.1", None, None)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Asking, remote_addr=server.sockets[0].getsockname()
    )
    await protocol.done
    transport.close()
    server.close()


async def children() -> None:
    """Run child processes, write to them and read from them."""
    pipe = asyncio.subprocess.PIPE
    for _ in range(30):
        child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        out, _ = await child.communicate(bytes(65_536))
        assert len(out) == 65_536


async def main() -> None:
    """Run all traffic, one kind after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in TRANSPORTS:
            await echo(kind, None, False)
            await echo(kind, None, True)
            await echo(kind, f"{folder}/{kind}", False)
    await datagrams()
    await children()
    # This kind comes last, because its server ends with the loop.
    await echo("sock", None, False)


def run(target: str) -> None:
    """Run all traffic on one of the benches' targets."""
    factory = targets.load(target)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), TIMEOUT))


if __name__ == "__main__":
    run(sys.argv[1])
