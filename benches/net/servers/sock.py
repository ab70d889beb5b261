"""Echo by loop.sock_recv() and loop.sock_sendall() on plain sockets, a task for each connection."""

import asyncio
import socket
import ssl


class Server:
    def __init__(self, listener: socket.socket) -> None:
        self.sockets = [listener]
        self.tasks = {asyncio.create_task(self.accept(listener))}

    async def accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(self.echo(connection))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def echo(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            while data := await loop.sock_recv(connection, 256 * 1024):
                await loop.sock_sendall(connection, data)

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.sockets[0].close()


async def start(tcp: str, unix: str | None, tls: ssl.SSLContext | None) -> Server:
    if unix:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(unix)
        listener.listen(128)
    else:
        listener = socket.create_server((tcp, 0), backlog=128)
    listener.setblocking(False)
    return Server(listener)
