"""Echo by asyncio.Protocol."""

import asyncio


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def start(tcp, unix, tls):
    loop = asyncio.get_running_loop()
    if unix:
        return await loop.create_unix_server(Echo, unix, ssl=tls)
    return await loop.create_server(Echo, tcp, 0, ssl=tls)
