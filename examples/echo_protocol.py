"""An echo server as a protocol, and ten clients that talk to it."""

import asyncio


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Sends one message and keeps what comes back."""

    def __init__(self, message):
        self.message = message
        self.received = bytearray()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.message)

    def data_received(self, data):
        self.received += data
        if len(self.received) == len(self.message):
            self.transport.close()

    def connection_lost(self, error):
        self.closed.set_result(bytes(self.received))


async def talk(port, number):
    loop = asyncio.get_running_loop()
    message = f"message {number}".encode()
    _, client = await loop.create_connection(
        lambda: Client(message), "127.0.0.1", port)
    return await client.closed


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for answer in await asyncio.gather(
                *(talk(port, number) for number in range(10))):
            print(answer.decode())


if __name__ == "__main__":
    asyncio.run(main())
