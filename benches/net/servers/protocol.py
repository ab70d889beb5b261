"""Echo by asyncio.Protocol."""

import asyncio
import ssl


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def start(tcp: str, unix: str | None, tls: ssl.SSLContext | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if unix:
        return await loop.create_unix_server(Echo, unix, ssl=tls)
    return await loop.create_server(Echo, tcp, 0, ssl=tls)
