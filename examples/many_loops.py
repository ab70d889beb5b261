"""One HTTP service on several loops, each in a thread of its own, behind one port.

Three ways to share the port:

- each loop listens on a socket of its own, bound to the same port (SO_REUSEPORT): the system
  chooses the loop of each connection;
- the first loop accepts the connections and hands them round: the loop that asks first gets the
  next one;
- a uvicorn server on each loop, again with sockets of their own.

On a free-threaded Python the loops run at the same time. On others they share one processor, and
the example only shows that it works.
"""

import asyncio
import contextlib
import importlib.util
import socket
import threading

import aioxide
import aioxide.threads

LOOPS = 2
REQUESTS = 100


def listening_socket(port=0):
    """A socket that shares its port with others of the same process."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(REQUESTS)
    return sock


def listening_sockets():
    """A socket for each loop, all on one port. All are there before the first request comes."""
    first = listening_socket()
    return [first, *(listening_socket(first.getsockname()[1]) for _ in range(1, LOOPS))]


async def fetch(port):
    """One request, on a connection of its own; the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n\r\n")[2].decode()


async def fetch_all(port):
    """Many requests, and what became of them."""
    names = await asyncio.gather(*(fetch(port) for _ in range(REQUESTS)))
    return f"{len(names)} answers, from {len(set(names))} loops"


async def answer(reader, writer):
    """Answer a request with the name of the thread."""
    await reader.readuntil(b"\r\n\r\n")
    body = threading.current_thread().name.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    writer.write(head + body)
    writer.close()
    await writer.wait_closed()


def with_a_socket_for_each_loop():
    sockets = listening_sockets()
    port = sockets[0].getsockname()[1]
    # An event for all loops: asyncio's own are for one loop.
    end = aioxide.threads.Queue()

    async def main(number):
        async with await asyncio.start_server(answer, sock=sockets[number]):
            if number:
                with contextlib.suppress(aioxide.threads.QueueShutDown):
                    await end.async_q.get()
                return None
            said = await fetch_all(port)
            end.shutdown()
            return said

    return aioxide.run_in_threads(main, loops=LOOPS)[0]


def with_connections_handed_round():
    listener = listening_socket()
    listener.setblocking(False)
    port = listener.getsockname()[1]
    # At most ten wait here; more wait in the system's queue.
    accepted = aioxide.threads.Queue(10)
    ready = aioxide.threads.Queue()

    async def accept():
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            await accepted.async_q.put(connection)

    async def serve():
        async with asyncio.TaskGroup() as group:
            with contextlib.suppress(aioxide.threads.QueueShutDown):
                while True:
                    connection = await accepted.async_q.get()
                    # The streams of a connection that is there already, whoever began it.
                    group.create_task(answer(*await asyncio.open_connection(sock=connection)))

    async def main(number):
        if number:
            ready.async_q.put_nowait(number)
            return await serve()
        async with asyncio.TaskGroup() as group:
            for _ in range(1, LOOPS):
                await ready.async_q.get()
            group.create_task(serve())
            accepting = group.create_task(accept())
            said = await fetch_all(port)
            accepting.cancel()
            accepted.shutdown()
        return said

    with listener:
        return aioxide.run_in_threads(main, loops=LOOPS)[0]


async def app(scope, receive, send):
    """The same service for uvicorn."""
    body = threading.current_thread().name.encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def with_uvicorn_on_each_loop():
    import uvicorn

    sockets = listening_sockets()
    port = sockets[0].getsockname()[1]
    options = {"lifespan": "off", "log_level": "warning"}
    servers = [uvicorn.Server(uvicorn.Config(app, **options)) for _ in sockets]

    async def main(number):
        server = servers[number]
        serving = asyncio.create_task(server.serve(sockets=[sockets[number]]))
        try:
            if number:
                await asyncio.shield(serving)
                return None
            said = await fetch_all(port)
            for other in servers:
                other.should_exit = True
            await serving
            return said
        except asyncio.CancelledError:
            # Ctrl-C: end in order all the same.
            server.should_exit = True
            await serving
            raise

    return aioxide.run_in_threads(main, loops=LOOPS)[0]


if __name__ == "__main__":
    print("a socket for each loop:", with_a_socket_for_each_loop())
    print("connections handed round:", with_connections_handed_round())
    if importlib.util.find_spec("uvicorn"):
        print("uvicorn on each loop:", with_uvicorn_on_each_loop())
    else:
        print("uvicorn on each loop: uvicorn is not installed")
