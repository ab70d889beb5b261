"""Receiving datagrams: many at once, pausing, closing, failing and switching between two."""

import contextvars

from datagrams import Journal, endpoint, udp_socket
from peers import settle, until


def test_a_protocol_that_fails(agree):
    class Failing(Journal):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if data == b"fail":
                raise ZeroDivisionError(data)

        def error_received(self, error):
            super().error_received(error)
            raise ZeroDivisionError(error)

    async def scenario(case):
        async with endpoint(Failing) as (transport, protocol):
            here = transport.get_extra_info("sockname")
            with udp_socket() as peer:
                # several at once, so that they may come together
                for data in (b"1", b"fail", b"2", b"fail", b"fail", b"3") * 4:
                    peer.sendto(data, here)
                await until(lambda: len(protocol.received) == 24)
                case.record([data for data, _ in protocol.received])
            with case.catch():
                transport.sendto(bytes(70_000), here)
            case.record(transport.is_closing())
        with udp_socket() as gone:
            there = gone.getsockname()
        async with endpoint(Failing, remote_addr=there) as (transport, protocol):
            transport.sendto(b"refused")
            await until(lambda: len(protocol.calls) > 1)
            await settle()
            case.record(*protocol.calls)

    record = agree(scenario)
    assert [entry[0] for entry in record[:12]] == ["report"] * 12


def test_many_at_once_come_in_order(agree):
    async def scenario(case):
        async with endpoint() as (transport, protocol):
            here = transport.get_extra_info("sockname")
            peers = [udp_socket() for _ in range(70)]
            for turn in range(3):
                for number, peer in enumerate(peers):
                    peer.sendto(b"%d-%d" % (turn, number), here)
                await until(lambda: len(protocol.received) == (turn + 1) * len(peers))
            case.record([data for data, _ in protocol.received])
            names = [peer.getsockname() for peer in peers]
            case.record([address for _, address in protocol.received] == names * 3)
            # the same objects may be used to answer, in any order
            for data, address in reversed(protocol.received):
                transport.sendto(data, address)
            case.record([peer.recv(100) for peer in peers])
            for peer in peers:
                peer.close()

    assert agree(scenario)[0][0][:2] == (b"0-0", b"0-1")


def test_pausing(agree):
    class Pausing(Journal):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if data == b"pause":
                self.transport.pause_reading()
                self.note("reading", self.transport.is_reading())

    async def scenario(case):
        async with endpoint(Pausing) as (transport, protocol):
            here = transport.get_extra_info("sockname")
            with udp_socket() as peer:
                for turn in range(5):
                    for data in (b"1", b"2", b"pause", b"3", b"4", b"pause", b"5"):
                        peer.sendto(data, here)
                    for _ in range(2):
                        await settle()
                        protocol.note("resume", len(protocol.received))
                        transport.resume_reading()
                        transport.resume_reading()
                        case.record(len(protocol.received), transport.is_reading())
                    await until(lambda: len(protocol.received) == (turn + 1) * 7)
                case.record(*protocol.calls)
                transport.pause_reading()
                transport.pause_reading()
                peer.sendto(b"unseen", here)
                await settle()
                case.record(len(protocol.received))

    assert agree(scenario)[-1] == (35,)


def test_closing_between_two_datagrams(agree):
    class Closing(Journal):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if data == b"close":
                getattr(self.transport, how)()

    async def scenario(case):
        async with endpoint(Closing, local_addr=("127.0.0.1", 0)) as (transport, protocol):
            here = transport.get_extra_info("sockname")
            with udp_socket() as peer:
                for data in [b"1"] * 40 + [b"close"] + [b"2"] * 40:
                    peer.sendto(data, here)
                await protocol.lost
                await settle()
                case.record(*protocol.calls)

    for how in "close", "abort":
        assert agree(scenario)[0][-2:] == (("datagram_received", b"close"), ("connection_lost", None))


def test_another_protocol(agree):
    class Switching(Journal):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if data == b"switch":
                other.transport = self.transport
                self.transport.set_protocol(other)

    async def scenario(case):
        nonlocal other
        async with endpoint(Switching) as (transport, protocol):
            other = Journal()
            here = transport.get_extra_info("sockname")
            with udp_socket() as peer:
                for data in [b"1"] * 20 + [b"switch"] + [b"2"] * 20:
                    peer.sendto(data, here)
                await until(lambda: len(other.received) == 20)
            case.record(len(protocol.received), transport.get_protocol() is other)
            transport.close()
            await other.lost
            case.record(protocol.calls[-1], other.calls[-1])
            other = None

    other = None
    assert agree(scenario)[0] == (21, True)


def test_the_program_ends_in_a_callback(agree):
    """SystemExit passes through the loop; no datagram is lost when the loop runs again."""

    class Ending(Journal):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if data == b"end":
                raise SystemExit(3)

    def scenario(case):
        loop = case.loop

        async def main():
            async with endpoint(Ending) as (transport, protocol):
                here = transport.get_extra_info("sockname")
                with udp_socket() as peer:
                    for data in [b"1"] * 20 + [b"end"] + [b"2"] * 20:
                        peer.sendto(data, here)
                    await until(lambda: len(protocol.received) == 41)
                    case.record([data for data, _ in protocol.received])

        task = loop.create_task(main())
        with case.catch():
            loop.run_until_complete(task)
        loop.run_until_complete(task)

    assert agree(scenario)[0] == ("raised", ("SystemExit", 3))


def test_contexts(agree):
    variable = contextvars.ContextVar("variable", default="outside")

    class Setting(Journal):
        def note(self, *call):
            super().note(*call, variable.get())

        def connection_made(self, transport):
            super().connection_made(transport)
            variable.set("set in connection_made")

        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            variable.set(data.decode())

    async def scenario(case):
        variable.set("endpoint")
        async with endpoint(Setting) as (transport, protocol):
            with udp_socket() as peer:
                for data in b"1", b"2":
                    peer.sendto(data, transport.get_extra_info("sockname"))
                    await until(lambda: data in [got for got, _ in protocol.received])
            variable.set("resume")
            transport.pause_reading()
            transport.resume_reading()
            with udp_socket() as peer:
                peer.sendto(b"3", transport.get_extra_info("sockname"))
                await until(lambda: len(protocol.received) == 3)
            variable.set("close")
            transport.close()
            await protocol.lost
            case.record(*protocol.calls)

    agree(scenario)
