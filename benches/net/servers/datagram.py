"""Echo over UDP, by asyncio.DatagramProtocol: one socket for all clients."""

import asyncio
import ssl


class Echo(asyncio.DatagramProtocol):
    def connection_made(  # type: ignore[override]
        self, transport: asyncio.DatagramTransport
    ) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(data, address)


class Server:
    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport
        self.sockets = [transport.get_extra_info("socket")]

    def close(self) -> None:
        self.transport.close()


async def start(tcp: str, unix: str | None, tls: ssl.SSLContext | None) -> Server:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=(tcp, 0))
    return Server(transport)
