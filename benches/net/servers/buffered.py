"""Echo by asyncio.BufferedProtocol: one buffer per connection, from which the echo is written
without a copy.

With one request at a time, the buffer does not change until its echo is on the way. The load
generator compares every reply, so it would notice a loop that writes later bytes.
"""

import asyncio
import ssl


class Echo(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.buffer = memoryview(bytearray(256 * 1024))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])


async def start(tcp: str, unix: str | None, tls: ssl.SSLContext | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if unix:
        return await loop.create_unix_server(Echo, unix, ssl=tls)
    return await loop.create_server(Echo, tcp, 0, ssl=tls)
