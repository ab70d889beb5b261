"""Scenarios of sockets without a stream's transport: readers, sock_* calls, datagrams."""

import asyncio
import socket

from scenarios import on_loop, whole


@on_loop
async def readers_and_sockets(aio, loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ready = loop.create_future()
        loop.add_reader(ours, ready.set_result, object())
        theirs.send(b"data")
        await ready
        loop.remove_reader(ours)
        loop.add_writer(ours, print)
        loop.remove_writer(ours)
        await loop.sock_recv(ours, 10)
        task = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await loop.sock_sendall(ours, b"data")
        # left to the loop
        loop.add_reader(ours, print, object())
        loop.remove_reader(ours)


@on_loop
async def sock_calls(aio, loop):
    ours, theirs = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.socket()
    with ours, theirs, server, client:
        for sock in ours, theirs, server, client:
            sock.setblocking(False)
        buffer = bytearray(10)
        for receive in (
            lambda: loop.sock_recv(ours, 10),
            lambda: loop.sock_recv_into(ours, buffer),
            lambda: loop.sock_recvfrom(ours, 10),
            lambda: loop.sock_recvfrom_into(ours, buffer),
        ):
            task = loop.create_task(receive())
            await asyncio.sleep(0)
            await loop.sock_sendall(theirs, b"data")
            await task
            task = loop.create_task(receive())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            coroutine = receive()
            coroutine.send(None)
            coroutine.close()
            receive().close()
        accepting = loop.create_task(loop.sock_accept(server))
        await loop.sock_connect(client, server.getsockname())
        connection, _ = await accepting
        with connection:
            full = loop.create_task(loop.sock_sendall(connection, bytearray(10_000_000)))
            await asyncio.sleep(0)
            full.cancel()
            await asyncio.wait([full])
        # left to the loop
        loop.sock_recv(ours, 10).send(None)


@on_loop
async def datagrams(aio, loop):
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.lost = loop.create_future()

        def datagram_received(self, data, address):
            self.transport.sendto(data, address)
            if data == b"fail":
                raise ValueError(object())

        def error_received(self, error):
            self.error = error

        def connection_lost(self, error):
            self.lost.set_result(error)

    transport, protocol = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    there = transport.get_extra_info("sockname")
    clients = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(5)]
    for client in clients:
        client.setblocking(False)
        client.sendto(b"data", there)
        client.sendto(b"fail", there)
    for client in clients:
        for _ in range(2):
            await loop.sock_recv(client, 10)
        client.close()
    transport.sendto(bytes(70_000), there)
    transport.pause_reading()
    transport.resume_reading()
    transport.close()
    await protocol.lost
    # closed with datagrams that wait, and wrongly used
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    with theirs:
        transport, protocol = await loop.create_datagram_endpoint(Echo, sock=ours)
        transport.sendto(b"nowhere")
        await protocol.lost


@whole
def datagram_transports_never_closed(aio):
    loop = aio.new_event_loop()
    loop.run_until_complete(
        loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    )
    loop.close()
