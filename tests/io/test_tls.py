"""TLS transports: handshakes, what is read and written, extra information, flow control."""

import asyncio
import contextlib
import os
import ssl
from random import Random

import pytest
from cryptography.hazmat.primitives import serialization

from peers import BufferedJournal, Journal, settle, socket_pair, until
from tls_peers import HOST, Peer, certificate, client_context, encrypted, server_context

BIG = os.urandom(1 << 16) * 32


@pytest.fixture(params=["tcp", "unix"])
def family(request):
    return request.param


@pytest.fixture(params=["client", "server"])
def server_side(request):
    return request.param == "server"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_whole_connection(agree, family, server_side, version, debug):
    async def scenario(case):
        make = client_context if server_side else server_context
        async with encrypted(
            family, lambda: Journal(case.record), server_side, peer_context=make(version)
        ) as (transport, protocol, peer):
            for size in (1, 100, 16_384, 16_385, 300_000):
                await peer.send(BIG[:size])
                await until(lambda: len(protocol.received) >= size)
                assert protocol.received == BIG[:size]
                protocol.received.clear()
                transport.write(BIG[:size])
                assert await peer.receive(size) == BIG[:size]
            transport.close()
            case.record(transport.is_closing(), await peer.receive())
            await peer.unwrap()
            await protocol.lost

    agree(scenario, debug)


def test_extra_information(agree, server_side):
    context = server_context() if server_side else client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    other = client_context() if server_side else server_context()
    other.set_alpn_protocols(["http/1.1"])

    async def scenario(case):
        async with encrypted("tcp", Journal, server_side, context, other) as (transport, _, peer):
            info = transport.get_extra_info
            assert info("sslcontext") is context
            assert info("ssl_object") is transport._ssl_protocol._sslobj
            assert info("ssl_object").context is context
            assert info("peername") == peer.sock.getsockname()
            assert info("sockname") == peer.sock.getpeername()
            assert info("socket").fileno() > 0
            case.record(info("cipher"), info("compression"), info("peercert") or {})
            case.record(info("ssl_object").version(), info("ssl_object").selected_alpn_protocol())
            case.record(info("nothing"), info("nothing", "default"))
            protocol = transport._ssl_protocol
            transport.abort()
            await settle()
            assert info("ssl_object") is protocol._sslobj
            case.record(info("peername", "gone"), info("cipher"))

    agree(scenario)


def test_types_and_private_names(run):
    async def main():
        async with encrypted() as (transport, protocol, peer):
            below = transport._ssl_protocol
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.sslproto._SSLProtocolTransport)
            assert isinstance(below, asyncio.sslproto.SSLProtocol)
            assert isinstance(below, asyncio.BufferedProtocol)
            assert below._app_transport is transport
            assert below._app_protocol is protocol
            assert below._transport.get_protocol() is below
            assert below._state is asyncio.sslproto.SSLProtocolState.WRAPPED
            assert below._app_state is asyncio.sslproto.AppProtocolState.STATE_CON_MADE
            assert (below._server_side, below._server_hostname) == (False, HOST)
            assert transport._start_tls_compatible
            assert transport.get_protocol() is protocol

    run(main)


def test_a_method_put_on_the_protocol_is_called(run):
    async def main():
        async with encrypted() as (transport, protocol, peer):
            below, sizes = transport._ssl_protocol, []
            original = below.buffer_updated

            def counted(size):
                sizes.append(size)
                original(size)

            # before the transport below has looked it up
            below.buffer_updated = counted
            await peer.send(b"counted")
            await until(lambda: protocol.received)
            assert protocol.received == b"counted" and sizes
            del below.buffer_updated

    run(main)


class Viewed(BufferedJournal):
    """Shows a view of its buffer: asyncio slices what it gets."""

    def get_buffer(self, sizehint):
        return memoryview(self.buffer)


@pytest.mark.parametrize("size", [1, 10, 1000, 16_384, 400_000])
def test_buffered_protocols(agree, server_side, size):
    data = BIG[: min(40 * size, 600_000)]

    async def scenario(case):
        make = lambda: Viewed(case.record, size)  # noqa: E731
        async with encrypted("tcp", make, server_side) as (transport, protocol, peer):
            await peer.send(data)
            await until(lambda: len(protocol.received) == len(data))
            assert protocol.received == data
            transport.write(data)
            assert await peer.receive(len(data)) == data
            await peer.unwrap()
            await protocol.lost

    agree(scenario)


@pytest.mark.aioxide_alone  # asyncio reads into slices, which are copies
def test_buffers_that_are_bytearrays(run):
    async def main():
        async with encrypted(make=lambda: BufferedJournal(size=5000)) as (_, protocol, peer):
            await peer.send(BIG[:100_000])
            await until(lambda: len(protocol.received) == 100_000)
            assert protocol.received == BIG[:100_000]

    run(main)


@pytest.mark.parametrize("what", ["empty", "raises", "no buffer", "updated raises"])
def test_failing_buffered_protocols(agree, what):
    class Failing(BufferedJournal):
        def get_buffer(self, sizehint):
            if not self.armed:
                return self.buffer
            if what == "empty":
                return bytearray()
            if what == "raises":
                raise ValueError("no buffer")
            return self.buffer if what == "updated raises" else "text"

        def buffer_updated(self, nbytes):
            raise ZeroDivisionError

        armed = False

    async def scenario(case):
        async with encrypted(make=lambda: Failing(case.record)) as (transport, protocol, peer):
            protocol.armed = True
            await peer.send(b"data")
            await until(lambda: transport.is_closing())
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await peer.unwrap()
            await protocol.lost

    agree(scenario)


def test_protocols_are_swapped(agree):
    async def scenario(case):
        async with encrypted() as (transport, first, peer):
            second = BufferedJournal(case.record, 7)
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            second.transport = transport
            await peer.send(b"to the second")
            await until(lambda: len(second.received) == 13)
            third = Journal(case.record)
            third.transport = transport
            transport.set_protocol(third)
            await peer.send(b"to the third")
            await until(lambda: len(third.received) == 12)
            case.record(first.received, second.received, third.received)
            transport.close()
            await peer.unwrap()
            await third.lost
            first.transport = None

    agree(scenario)


def test_what_may_be_written(agree):
    async def scenario(case):
        async with encrypted() as (transport, protocol, peer):
            for data in (b"bytes", bytearray(b"-array"), memoryview(b"-view"), b"", bytearray()):
                with case.catch():
                    transport.write(data)
            for data in ("text", None, 12, [b"list"], object()):
                with case.catch():
                    transport.write(data)
            transport.writelines([b"-a", bytearray(b"-b"), memoryview(b"-c"), b""])
            transport.writelines(b"-%d" % number for number in range(3))
            with case.catch(text=False):
                transport.writelines(12)
            with case.catch():
                transport.write_eof()
            case.record(transport.can_write_eof(), transport.get_write_buffer_size())
            transport.close()
            case.record(await peer.receive())

    record = agree(scenario)
    assert record[-1] == (b"bytes-array-view-a-b-c-0-1-2",)


def test_text_in_lines(agree):
    async def scenario(case):
        async with encrypted(make=lambda: Journal(case.record)) as (transport, protocol, peer):
            with case.catch():
                transport.writelines([b"good", "text"])
            case.record(transport.is_closing())
            await settle()

    agree(scenario)


@pytest.mark.aioxide_alone  # asyncio keeps what it refuses, and closes the connection later
@pytest.mark.parametrize("bad", [None, 12])
def test_what_is_refused_in_lines_is_not_kept(run, bad):
    async def main():
        async with encrypted() as (transport, protocol, peer):
            with pytest.raises(TypeError, match="has no len()"):
                transport.writelines([b"good ", bad, b"never"])
            transport.write(b"end")
            assert await peer.receive(8) == b"good end"

    run(main)


def test_many_small_lines_are_few_records(run):
    async def main():
        async with encrypted() as (transport, protocol, peer):
            lines = [b"%05d" % number for number in range(5000)]
            transport.writelines(lines)
            assert await peer.receive(25_000) == b"".join(lines)

    run(main)


@pytest.mark.aioxide_alone  # asyncio counts items instead of bytes, or closes the connection
def test_views_that_are_not_of_bytes_are_sent_whole(run):
    async def main():
        async with encrypted() as (transport, protocol, peer):
            data = os.urandom(40_000)
            transport.write(memoryview(data).cast("B", (2, 20_000)))
            transport.write(memoryview(data).cast("I"))
            transport.write(memoryview(data)[::2])
            transport.writelines([memoryview(data)[::-1], memoryview(data).cast("H")])
            expected = data + data + data[::2] + data[::-1] + data
            assert await peer.receive(len(expected)) == expected

    run(main)


def test_small_records_in_one_read(agree, server_side):
    async def scenario(case):
        async with encrypted(server_side=server_side) as (transport, protocol, peer):
            for number in range(100):
                peer.object.write(b"%03d" % number)
            await peer.flush()
            await until(lambda: len(protocol.received) == 300)
            case.record(protocol.received, protocol.calls)

    agree(scenario)


@pytest.mark.parametrize("piece", [1, 4, 50, 400])
def test_records_in_small_pieces(agree, server_side, piece):
    async def scenario(case):
        async with encrypted("unix", Journal, server_side) as (transport, protocol, peer):
            for size in (0, 1, 100, 300):
                peer.object.write(b"whole"[: size % 5] + b"whole" * (size // 5))
            data = peer.outgoing.read()
            for start in range(0, len(data), piece):
                peer.sock.send(data[start : start + piece])
                await asyncio.sleep(0)
            await until(lambda: len(protocol.received) == 401)
            case.record(protocol.received)

    agree(scenario)


def test_keys_are_updated_under_load(run, server_side):
    async def main():
        async with encrypted(server_side=server_side) as (transport, protocol, peer):
            for number in range(5):
                if peer.object.version() == "TLSv1.3":
                    peer.update_keys()
                await peer.send(BIG[:50_000])
                transport.write(BIG[:50_000])
                transport.write(b"%02d" % number)
                assert await peer.receive(50_002) == BIG[:50_000] + b"%02d" % number
            await until(lambda: len(protocol.received) == 250_000)

    run(main)


def test_the_server_renegotiates_under_load(run):
    async def main():
        context = client_context("TLSv1_2")
        async with encrypted(context=context) as (transport, protocol, peer):
            for number in range(5):
                transport.write(BIG[:20_000])
                peer.renegotiate()
                await peer.handshake()
                transport.write(b"%02d" % number)
                assert await peer.receive(20_002) == BIG[:20_000] + b"%02d" % number
                await peer.send(b"answer")
            await until(lambda: protocol.received == b"answer" * 5)

    run(main)


def test_writing_is_paused_and_resumed(agree):
    async def scenario(case):
        async with encrypted("unix", lambda: Journal(case.record)) as (transport, protocol, peer):
            case.record(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(high=100_000)
            case.record(transport.get_write_buffer_limits())
            written = 0
            while protocol.calls[-1] != "pause_writing":
                transport.write(BIG[:50_000])
                written += 50_000
            case.record(transport._protocol_paused, transport.get_write_buffer_size() > 100_000)
            assert len(await peer.receive(written)) == written
            await until(lambda: protocol.calls[-1] == "resume_writing")
            case.record(transport._protocol_paused, transport.get_write_buffer_size())

    agree(scenario)


def test_limits(agree):
    async def scenario(case):
        async with encrypted(make=lambda: Journal(case.record)) as (transport, protocol, peer):
            for kind in ("write", "read"):
                set_limits = getattr(transport, f"set_{kind}_buffer_limits")
                get_limits = getattr(transport, f"get_{kind}_buffer_limits")
                case.record(kind, get_limits())
                for limits in (
                    {"high": 1000}, {"low": 1000}, {"high": 10, "low": 10}, {"high": 1, "low": 2},
                    {"high": -1}, {},
                ):  # fmt: skip
                    with case.catch():
                        set_limits(**limits)
                    case.record(get_limits())
                case.record(getattr(transport, f"get_{kind}_buffer_size")())

    agree(scenario)


def test_reading_is_paused_and_resumed(agree, server_side):
    async def scenario(case):
        async with encrypted("unix", Journal, server_side) as (transport, protocol, peer):
            case.record(transport.is_reading())
            transport.pause_reading()
            transport.pause_reading()
            case.record(transport.is_reading())
            sending = asyncio.ensure_future(peer.send(BIG))
            below = transport._ssl_protocol
            await until(lambda: below._ssl_reading_paused)
            assert transport.get_read_buffer_size() >= 256 * 1024
            case.record(protocol.calls, below._transport.is_reading(), sending.done())
            transport.resume_reading()
            transport.resume_reading()
            await sending
            await until(lambda: len(protocol.received) == len(BIG))
            assert protocol.received == BIG
            case.record(protocol.calls, transport.is_reading(), transport.get_read_buffer_size())

    agree(scenario)


def test_pausing_in_data_received(agree):
    class Pausing(Journal):
        def data_received(self, data):
            self.note(bytes(data))
            self.transport.pause_reading()

    async def scenario(case):
        async with encrypted(make=lambda: Pausing(case.record)) as (transport, protocol, peer):
            await peer.send(b"part 0")
            await until(lambda: len(protocol.calls) == 2)
            await peer.send(b"part 1")
            await peer.send(b"part 2")
            await settle()
            case.record("resumed")
            transport.resume_reading()
            await until(lambda: len(protocol.calls) == 3)

    agree(scenario)


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received"])
def test_failing_protocols(agree, method):
    def fail(self, *arguments):
        getattr(Journal, method)(self, *arguments)
        raise ZeroDivisionError(method)

    failing = type("Failing", (Journal,), {method: fail})

    async def scenario(case):
        made = []
        connecting = encrypted(make=lambda: made.append(failing(case.record)) or made[-1])
        try:
            async with connecting as (transport, protocol, peer):
                await peer.send(b"data")
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    await peer.unwrap()
                await protocol.lost
        except ZeroDivisionError:
            case.record("not connected")
            await made[0].lost

    agree(scenario)


def test_a_true_answer_to_eof_received_is_warned_about(agree):
    class Keeping(Journal):
        def eof_received(self):
            self.note("eof_received")
            return True

    async def scenario(case):
        async with encrypted(make=lambda: Keeping(case.record)) as (transport, protocol, peer):
            await peer.unwrap()
            await protocol.lost

    agree(scenario)


def test_names_and_certificates_are_the_contexts_matter(agree):
    seen = []

    def chosen(ssl_object, name, context):
        seen.append(name)
        ssl_object.context = other

    first, other = (server_context(name=name, ask_client=True) for name in ("first.example", HOST))
    first.sni_callback = chosen

    async def scenario(case):
        context = client_context(name="client.example")
        async with encrypted("tcp", Journal, True, first, context) as (transport, _, peer):
            certificate = transport.get_extra_info("peercert")
            case.record(seen.pop(), certificate["subjectAltName"])
            assert transport.get_extra_info("ssl_object").context is other

    agree(scenario)


def test_encrypted_keys(agree, tmp_path):
    key = serialization.load_pem_private_key(certificate().private_key_pem.bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    file = tmp_path / "key.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret
        )
        + certificate().cert_chain_pems[0].bytes()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, password=lambda: "secret")

    async def scenario(case):
        async with encrypted("tcp", Journal, True, context) as (transport, protocol, peer):
            await peer.send(b"hello")
            await until(lambda: protocol.received == b"hello")
            case.record(transport.get_extra_info("sslcontext") is context)

    assert agree(scenario) == [(True,)]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", [HOST, "other.example"])
def test_what_the_client_checks(agree, check, trust, name):
    async def scenario(case):
        context = client_context(trust=trust)
        context.check_hostname = check
        if not check and not trust:
            context.verify_mode = ssl.CERT_NONE
        ours, theirs = socket_pair("tcp")
        peer = Peer(theirs, True)
        shaking = case.loop.create_task(peer.handshake())
        with theirs, case.catch(text=False):
            transport, protocol = await case.loop.create_connection(
                Journal, sock=ours, ssl=context, server_hostname=name
            )
            case.record(bool(transport.get_extra_info("peercert")))
            transport.abort()
            await protocol.lost
        shaking.cancel()
        await asyncio.wait([shaking])
        shaking.cancelled() or shaking.exception()

    refused = check and not (trust and name == HOST)
    assert (("raised", "SSLCertVerificationError") in agree(scenario)) == refused


def test_a_session_is_resumed(agree):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Journal, "127.0.0.1", 0, ssl=server_context("TLSv1_2"))
        address = server.sockets[0].getsockname()
        context = client_context()
        for _ in range(2):
            transport, protocol = await loop.create_connection(
                Journal, *address, ssl=context, server_hostname=HOST
            )
            ssl_object = transport.get_extra_info("ssl_object")
            case.record(ssl_object.session_reused, ssl_object.session.has_ticket)
            transport.close()
            await protocol.lost
        server.close()
        await server.wait_closed()
        await settle()

    agree(scenario)


def test_a_class_of_the_programs_own(agree):
    calls = []

    class Spy(ssl.SSLObject):
        def read(self, *arguments):
            calls.append("read")
            return super().read(*arguments)

        def write(self, data):
            calls.append("write")
            return super().write(data)

    async def scenario(case):
        context = client_context()
        context.sslobject_class = Spy
        async with encrypted(context=context) as (transport, protocol, peer):
            calls.clear()
            transport.write(b"question")
            case.record(await peer.receive(8))
            await peer.send(b"answer" * 10_000)
            await until(lambda: len(protocol.received) == 60_000)
            assert calls[0] == "write" and calls.count("read") > 1
            case.record(protocol.received)

    agree(scenario)


async def handshake_fails(case, connecting, peer, other):
    """Records how a connection ends whose handshake fails."""
    other = asyncio.ensure_future(other)
    with case.catch(text=False):
        await connecting
    with peer.sock, case.catch("the peer's", text=False):
        await other
    await settle()


@pytest.mark.parametrize("reason", ["not trusted", "other name", "version", "garbage", "end"])
def test_a_clients_handshake_fails(agree, reason, debug):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("tcp")
        peer = Peer(theirs, True, server_context("TLSv1_3"))
        context = client_context("TLSv1_2" if reason == "version" else None, reason != "not trusted")
        name = "other.example" if reason == "other name" else HOST

        async def other():
            await peer.fetch()
            if reason == "garbage":
                theirs.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                await peer.fetch()
            elif reason != "end":
                await peer.handshake()
                await peer.receive()
            theirs.close()

        made = []
        connecting = loop.create_connection(
            lambda: made.append(Journal(case.record)) or made[-1],
            sock=ours, ssl=context, server_hostname=name,
        )  # fmt: skip
        await handshake_fails(case, connecting, peer, other())
        case.record([protocol.calls for protocol in made])

    agree(scenario, debug)


def test_a_servers_handshakes_fail(agree, debug):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        made = []
        server = await loop.create_server(
            lambda: made.append(Journal(case.record)) or made[-1], "127.0.0.1", 0,
            ssl=server_context(ask_client=True),
        )  # fmt: skip
        address = server.sockets[0].getsockname()
        # without the certificate that is asked for
        with case.catch(text=False):
            _, writer = await asyncio.open_connection(
                *address, ssl=client_context("TLSv1_2"), server_hostname=HOST
            )
        for data in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b""):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(data)
            if not data.startswith(b"GET"):
                writer.write_eof()
            with case.catch(text=False):
                await reader.read()
            writer.close()
            await settle()
        case.record([protocol.calls for protocol in made])
        server.close()
        await server.wait_closed()

    agree(scenario, debug)


def test_the_handshake_times_out(agree, server_side):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("tcp")
        with theirs, case.catch():
            if server_side:
                await loop.connect_accepted_socket(
                    Journal, ours, ssl=server_context(), ssl_handshake_timeout=0.02
                )
            else:
                await loop.create_connection(
                    Journal, sock=ours, ssl=client_context(), server_hostname=HOST,
                    ssl_handshake_timeout=0.02,
                )  # fmt: skip
        await settle()

    agree(scenario)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_wrong_timeouts(agree, name):
    async def scenario(case):
        loop = asyncio.get_running_loop()
        for timeout in (0, -1, -0.5):
            ours, theirs = socket_pair("tcp")
            with ours, theirs, case.catch():
                await loop.create_connection(
                    Journal, sock=ours, ssl=client_context(), server_hostname=HOST,
                    **{name: timeout},
                )  # fmt: skip

    agree(scenario)


def test_nothing_comes_before_the_handshake(agree):
    """What a client sends with the end of its handshake comes after connection_made."""
    async def scenario(case):
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("tcp")
        peer = Peer(theirs)

        async def other():
            await peer.do(peer.object.do_handshake)
            peer.object.write(b"at once")
            await peer.flush()

        with theirs:
            sending = loop.create_task(other())
            transport, protocol = await loop.connect_accepted_socket(
                lambda: Journal(case.record), ours, ssl=server_context()
            )
            await sending
            await until(lambda: protocol.received)
            case.record(protocol.received)
            transport.abort()
            await protocol.lost

    agree(scenario)


@pytest.mark.aioxide_alone  # asyncio keeps back the end of the handshake
def test_a_program_that_reads_later_completes_the_handshake(run):
    class Pausing(Journal):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        async with encrypted(make=Pausing) as (transport, protocol, peer):
            await peer.send(b"later")
            await settle()
            assert not protocol.received
            transport.resume_reading()
            await until(lambda: protocol.received == b"later")

    run(main)


def test_streams(agree, debug):
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def scenario(case):
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname=HOST
        )
        writer.write(b"line\n")
        case.record(await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await settle()

    agree(scenario, debug)


@pytest.mark.parametrize("seed", range(6))
def test_traffic_of_any_shape(run, server_side, seed):
    random = Random(seed)
    sizes = [1, 5, 100, 1000, 16_384, 16_385, 32_769, 60_000]
    make = random.choice([Journal, lambda: Viewed(size=random.choice([1000, 70_000]))])

    async def main():
        async with encrypted("unix", make, server_side) as (transport, protocol, peer):
            written = sent = 0
            for _ in range(15):
                size = random.choice(sizes)
                data = BIG[written : written + size]
                kind = random.choice([bytes, bytearray, memoryview, list])
                if kind is list:
                    step = size // 7 + 1
                    transport.writelines(data[at : at + step] for at in range(0, size, step))
                else:
                    transport.write(kind(data))
                written += size
                size = random.choice(sizes)
                peer.object.write(BIG[sent : sent + size])
                sent += size
                if random.random() < 0.3:
                    transport.pause_reading()
                    await asyncio.sleep(0)
                    transport.resume_reading()
                encrypted_data = peer.outgoing.read()
                while encrypted_data:
                    piece = encrypted_data[: random.choice([3, 17, 1000, 16_406, 100_000])]
                    try:
                        encrypted_data = encrypted_data[peer.sock.send(piece) :]
                    except BlockingIOError:
                        await asyncio.sleep(0)
            assert await peer.receive(written) == BIG[:written]
            await until(lambda: len(protocol.received) == sent)
            assert protocol.received == BIG[:sent]

    run(main)
