"""httpcore's connection pool, below httpx: its own TLS upgrade, proxies, what it keeps open."""

import asyncio
import contextlib
import ssl

import httpcore
import pytest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


@contextlib.asynccontextmanager
async def serving(tls=None, proxy=False):
    """A server with streams that answers with what was asked; gives its port and the connections.

    As a proxy it takes CONNECT and goes on as the server that was asked for, by start_tls.
    """
    connections, open_now = [], set()

    async def connected(reader, writer):
        connections.append(writer)
        open_now.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            if proxy:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"CONNECT elsewhere.example:443 ")
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await writer.start_tls(proxy)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line = head.split(b"\r\n")[0]
                writer.write(ANSWER % (len(line), line))
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        open_now.remove(writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], connections
        while open_now:
            await asyncio.sleep(0.001)


def test_connections_are_kept(run):
    async def main():
        async with serving() as (port, connections), httpcore.AsyncConnectionPool() as pool:
            for number in range(5):
                answer = await pool.request("GET", f"http://127.0.0.1:{port}/{number}")
                assert answer.content == b"GET /%d HTTP/1.1" % number
            assert len(connections) == len(pool.connections) == 1

    run(main)


def test_limit_makes_requests_wait(run):
    async def main():
        async with serving() as (port, connections), httpcore.AsyncConnectionPool(max_connections=3) as pool:
            asked = [pool.request("GET", f"http://127.0.0.1:{port}/{n}") for n in range(30)]
            answers = await asyncio.gather(*asked)
            assert [a.content for a in answers] == [b"GET /%d HTTP/1.1" % n for n in range(30)]
            assert len(connections) == 3

    run(main)


def test_tls(run, server_tls, client_tls):
    async def main():
        async with serving(server_tls) as (port, _), httpcore.AsyncConnectionPool(client_tls) as pool:
            answer = await pool.request("GET", f"https://localhost:{port}/secret")
            assert answer.content == b"GET /secret HTTP/1.1"

    run(main)


def test_untrusted(run, server_tls):
    async def main():
        async with serving(server_tls) as (port, _), httpcore.AsyncConnectionPool() as pool:
            with pytest.raises(httpcore.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await pool.request("GET", f"https://localhost:{port}/")

    run(main)


def test_tunnel(run, server_tls, certificates):
    """TLS inside a connection that began without, to a name that the certificate does not have."""
    context = ssl.create_default_context(cafile=certificates / "authority.pem")
    context.check_hostname = False

    async def main():
        async with (
            serving(proxy=server_tls) as (port, _),
            httpcore.AsyncHTTPProxy(f"http://127.0.0.1:{port}", ssl_context=context) as pool,
        ):
            answer = await pool.request("GET", "https://elsewhere.example/inside")
            assert answer.content == b"GET /inside HTTP/1.1"

    run(main)
