"""getaddrinfo() and getnameinfo(): socket's answers, no thread for addresses, threads of their own
for the rest."""

import asyncio
import concurrent.futures
import contextlib
import socket
import threading

import pytest

HOSTS = [
    None,
    "127.0.0.1",
    b"127.0.0.1",
    "::1",
    "fe80::1%lo",
    "fe80::1%nowhere",
    "127.1",
    "localhost",
    b"localhost",
    "",
    "::1::",
    "a b",
    b"\xff",
    "é" * 70,
    5,
]
PORTS = [None, 80, "80", b"80", "http", b"http", "nonsense", "", "70000", 70000, -1, 1.5, True]


def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_getaddrinfo_answers_as_socket_does(loop, host):
    for port in PORTS:
        expected = outcome(lambda: socket.getaddrinfo(host, port))
        seen = outcome(lambda: loop.run_until_complete(loop.getaddrinfo(host, port)))
        assert seen == expected, port


@pytest.mark.parametrize("family", [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 77])
@pytest.mark.parametrize("kind", [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, 99])
def test_getaddrinfo_takes_every_option(loop, family, kind):
    options = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_CANONNAME, 1 << 30]
    hosts = [None, "127.0.0.1", "::1"]
    if family in (0, socket.AF_INET):
        hosts.append("localhost")  # for the others some systems ask the network
    for host in hosts:
        for proto in (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            for flags in options:
                numbers = dict(family=family, type=kind, proto=proto, flags=flags)
                expected = outcome(lambda: socket.getaddrinfo(host, 80, **numbers))
                seen = outcome(
                    lambda: loop.run_until_complete(loop.getaddrinfo(host, 80, **numbers))
                )
                assert seen == expected, (host, numbers)


@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 80), ("::1", 80), ("::1", 80, 0, 0), ("localhost", 80), ("x", 80), (), None, 5],
    ids=str,
)
def test_getnameinfo_answers_as_socket_does(loop, address):
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    for flags in (0, socket.NI_NUMERICHOST, numeric, numeric | socket.NI_DGRAM):
        expected = outcome(lambda: socket.getnameinfo(address, flags))
        seen = outcome(lambda: loop.run_until_complete(loop.getnameinfo(address, flags)))
        assert seen == expected, flags


def test_addresses_need_no_thread(loop, aio):
    before = threading.active_count()
    for host in (None, "127.0.0.1", b"::1", "fe80::1%lo"):
        loop.run_until_complete(loop.getaddrinfo(host, 80))
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), numeric))
    assert (threading.active_count() > before) == (aio is asyncio)


def test_look_ups_do_not_wait_for_the_default_executor(aio):
    if aio is asyncio:
        return  # there they do
    from concurrent.futures import ThreadPoolExecutor

    loop = aio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    released = threading.Event()

    async def main():
        busy = loop.run_in_executor(None, released.wait, 60)
        await loop.getaddrinfo("localhost", 80)
        assert not busy.done()
        released.set()
        assert await busy is True
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()


def test_look_ups_are_logged_in_debug_mode(loop, debug_log):
    loop.set_debug(True)
    loop.slow_callback_duration = 60.0
    for host in ("localhost", "127.0.0.1"):
        del debug_log[:]
        arguments = {"type": socket.SOCK_STREAM}
        answer = loop.run_until_complete(loop.getaddrinfo(host, 80, **arguments))
        shown = f"{host}:80, type={socket.SOCK_STREAM!r}"
        asked, told = (text for text in debug_log if "ddress info" in text)
        assert asked == f"Get address info {shown}"
        assert told.startswith(f"Getting address info {shown} took ")
        assert told.endswith(f"ms: {answer!r}")


def test_look_ups_on_a_closed_loop(loop_factory):
    loop = loop_factory()
    loop.close()
    for coro in (
        loop.getaddrinfo("127.0.0.1", 80),
        loop.getaddrinfo("localhost", 80),
        loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    ):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            coro.send(None)


def test_no_thread_of_a_look_up_survives_the_shutdown_of_the_executors(loop):
    async def main(with_default_executor):
        before = threading.enumerate()
        await loop.getaddrinfo("localhost", 80)
        if with_default_executor:
            await loop.run_in_executor(None, print)
        await loop.shutdown_default_executor()
        assert set(threading.enumerate()) <= set(before)
        with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
            await loop.getaddrinfo("localhost", 80)

    for with_default_executor in (False, True):
        loop.run_until_complete(main(with_default_executor))
        loop._executor_shutdown_called = False
        loop._default_executor = None


def test_a_cancelled_look_up(loop, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: released.wait(60))

    async def main():
        task = loop.create_task(loop.getaddrinfo("localhost", 80))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        released.set()
        return task.cancelled()

    assert loop.run_until_complete(main()) is True


def test_getaddrinfo_like_the_socket_module(run):
    questions = [
        (host, port, dict(family=family, type=kind, proto=proto, flags=flags))
        for host in ("127.0.0.1", "::1", b"127.0.0.1", None, "0", "fe80::1%lo", "")
        for port in (80, "80", "http", None, 0, b"80")
        for family in (0, socket.AF_INET, socket.AF_INET6)
        for kind, proto in ((0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 17))
        for flags in (0, socket.AI_PASSIVE, socket.AI_NUMERICHOST)
    ]

    async def answer(question):
        try:
            return await question
        except (OSError, UnicodeError, TypeError) as error:
            return type(error), *error.args

    def plain(host, port, options):
        try:
            return socket.getaddrinfo(host, port, **options)
        except (OSError, UnicodeError, TypeError) as error:
            return type(error), *error.args

    async def main():
        loop = asyncio.get_running_loop()
        for host, port, options in questions:
            got = await answer(loop.getaddrinfo(host, port, **options))
            assert got == plain(host, port, options), (host, port, options)

    run(main)


def test_getnameinfo_like_the_socket_module(run):
    async def main():
        loop = asyncio.get_running_loop()
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        for address in ("127.0.0.1", 80), ("::1", 443, 0, 0):
            got = await loop.getnameinfo(address, numeric)
            assert got == socket.getnameinfo(address, numeric)
        with pytest.raises(OSError):
            await loop.getnameinfo(("no address", 80), numeric)

    run(main)


@pytest.mark.aioxide_alone
def test_a_full_default_executor_does_not_delay_names(run):
    """In asyncio it does (cpython#112169)."""

    async def main():
        loop = asyncio.get_running_loop()
        leave = threading.Event()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        blocking = loop.run_in_executor(None, leave.wait)
        try:
            for host in ("127.0.0.1", "localhost"):
                question = loop.getaddrinfo(host, 80, family=socket.AF_INET)
                assert await asyncio.wait_for(question, 30)
            assert await asyncio.wait_for(loop.getnameinfo(("127.0.0.1", 80)), 30)
        finally:
            leave.set()
            await blocking

    run(main)


def test_a_replaced_getaddrinfo_is_honoured(run):
    async def main():
        loop = asyncio.get_running_loop()
        asked = []

        async def getaddrinfo(host, port, **options):
            asked.append(host)
            raise OSError("no such name")

        loop.getaddrinfo = getaddrinfo
        with pytest.raises(OSError, match="no such name"):
            await loop.create_connection(asyncio.Protocol, "example.invalid", 80)
        assert asked == ["example.invalid"]

    run(main)
