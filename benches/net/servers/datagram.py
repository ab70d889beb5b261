"""Echo over UDP, by asyncio.DatagramProtocol: one socket for all who ask."""

import asyncio


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Server:
    def __init__(self, transport):
        self.transport = transport
        self.sockets = [transport.get_extra_info("socket")]

    def close(self):
        self.transport.close()


async def start(tcp, unix, tls):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=(tcp, 0))
    return Server(transport)
