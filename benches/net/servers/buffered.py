"""Echo by asyncio.BufferedProtocol: one buffer per connection, written from without a copy.

One request at a time leaves the buffer alone until its echo is on the way; the load generator
compares every reply, so a loop that writes what came later would be found out.
"""

import asyncio


class Echo(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = memoryview(bytearray(256 * 1024))

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(self.buffer[:nbytes])


async def start(tcp, unix, tls):
    loop = asyncio.get_running_loop()
    if unix:
        return await loop.create_unix_server(Echo, unix, ssl=tls)
    return await loop.create_server(Echo, tcp, 0, ssl=tls)
