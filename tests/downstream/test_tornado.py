"""Tornado: its IOLoop on the asyncio loop, its own HTTP server and client, websockets, streams."""

import asyncio
import shutil
import signal
import urllib.request

import pytest
import tornado.gen
import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.iostream
import tornado.netutil
import tornado.tcpclient
import tornado.tcpserver
import tornado.web
import tornado.websocket

import servers


class About(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep(0)
        self.write({"loop": servers.loop_name()})


class Mirror(tornado.web.RequestHandler):
    def post(self):
        self.write(self.request.body)


class Old(tornado.web.RequestHandler):
    """As before async def: a generator."""

    @tornado.gen.coroutine
    def get(self):
        results = yield [tornado.gen.sleep(0.001), self.in_thread()]
        self.write(results[1])

    def in_thread(self):
        return tornado.ioloop.IOLoop.current().run_in_executor(None, lambda: "from a thread")


class Shout(tornado.websocket.WebSocketHandler):
    async def on_message(self, message):
        await self.write_message(message.upper())


def make_app():
    return tornado.web.Application(
        [("/about", About), ("/mirror", Mirror), ("/old", Old), ("/shout", Shout)]
    )


@pytest.fixture(params=["http", "https"])
def talk(request, run, server_tls, certificates):
    """talk(conversation): `conversation(url, fetch)` over plain TCP and over TLS."""
    tls = server_tls if request.param == "https" else None

    def talk(conversation):
        async def main():
            [listener] = tornado.netutil.bind_sockets(0, "127.0.0.1")
            server = tornado.httpserver.HTTPServer(make_app(), ssl_options=tls)
            server.add_socket(listener)
            client = tornado.httpclient.AsyncHTTPClient(
                force_instance=True, defaults={"ca_certs": str(certificates / "authority.pem")}
            )
            url = f"{request.param}://127.0.0.1:{listener.getsockname()[1]}"
            try:
                return await conversation(url, client.fetch)
            finally:
                client.close()
                server.stop()
                await server.close_all_connections()

        return run(main)

    return talk


def test_requests(talk, loop_name):
    async def conversation(url, fetch):
        assert (await fetch(f"{url}/about")).body.decode() == f'{{"loop": "{loop_name}"}}'
        body = bytes(range(256)) * 8000
        headers = {"Content-Type": "application/octet-stream"}
        assert (await fetch(f"{url}/mirror", method="POST", body=body, headers=headers)).body == body
        assert (await fetch(f"{url}/old")).body == b"from a thread"
        with pytest.raises(tornado.httpclient.HTTPClientError) as failed:
            await fetch(f"{url}/none")
        assert failed.value.code == 404

    talk(conversation)


def test_many_at_once(talk):
    async def conversation(url, fetch):
        asked = [fetch(f"{url}/mirror", method="POST", body=b"%d" % n) for n in range(60)]
        return [answer.body for answer in await asyncio.gather(*asked)]

    assert talk(conversation) == [b"%d" % n for n in range(60)]


def test_websocket(run):
    async def main():
        [listener] = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server = tornado.httpserver.HTTPServer(make_app())
        server.add_socket(listener)
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/shout"
        socket = await tornado.websocket.websocket_connect(url)
        for text in ("a", "b" * 100_000):
            await socket.write_message(text)
            assert await socket.read_message() == text.upper()
        socket.close()
        assert await socket.read_message() is None
        server.stop()
        await server.close_all_connections()

    run(main)


def test_streams(run):
    class Server(tornado.tcpserver.TCPServer):
        async def handle_stream(self, stream, address):
            try:
                while True:
                    line = await stream.read_until(b"\n")
                    await stream.write(line[::-1])
            except tornado.iostream.StreamClosedError:
                stream.close()

    async def main():
        server = Server()
        server.listen(0, "127.0.0.1")
        [listener] = server._sockets.values()
        stream = await tornado.tcpclient.TCPClient().connect(*listener.getsockname())
        await stream.write(b"x" * 300_000 + b"end\n")
        assert await stream.read_bytes(300_004) == b"\ndne" + b"x" * 300_000
        stream.close()
        server.stop()
        await asyncio.sleep(0.01)

    run(main)


def test_ioloop_calls(run):
    async def main():
        order = []
        loop = tornado.ioloop.IOLoop.current()
        assert loop.asyncio_loop is asyncio.get_running_loop()
        loop.add_callback(order.append, "callback")
        loop.call_later(0.01, order.append, "timer")
        periodic = tornado.ioloop.PeriodicCallback(lambda: order.append("periodic"), 4)
        periodic.start()
        while order.count("periodic") < 3 or "timer" not in order:
            await asyncio.sleep(0.001)
        periodic.stop()
        seen = len(order)
        await asyncio.sleep(0.01)
        assert order[0] == "callback" and len(order) == seen

    run(main)


INSTALL = "import aioxide; aioxide.install()"

PROGRAM = """\
import asyncio
{install}
import signal
import tornado.web
import servers

class About(tornado.web.RequestHandler):
    def get(self):
        self.write(servers.loop_name())

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = tornado.web.Application([("/", About)]).listen({port}, "127.0.0.1")
    await stop.wait()
    server.stop()
    await server.close_all_connections()

{run}(main())
"""


def test_program(way, tmp_path, loop_name):
    port = servers.free_port()
    (tmp_path / "program.py").write_text(
        PROGRAM.format(
            install={"install": INSTALL, "factory": "import aioxide"}.get(way, ""),
            port=port,
            run="aioxide.run" if way == "factory" else "asyncio.run",
        )
    )
    shutil.copy(servers.HERE / "servers.py", tmp_path)
    words = ["-m", "aioxide"] if way == "runner" else []
    with servers.Program([*words, "program.py"], tmp_path) as program:
        program.until(lambda: servers.answers(port))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
            assert answer.read().decode() == loop_name
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 0
    assert "Error" not in program.output and "Warning" not in program.output, program.output
