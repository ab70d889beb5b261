"""run_in_executor, the default executor and name resolution."""

import asyncio
import concurrent.futures
import contextvars
import socket
import sys
import threading
import time

import pytest


def test_results_and_exceptions(agree):
    async def scenario(case):
        loop = case.loop

        def fail():
            raise ValueError("in the thread")

        case.record(await loop.run_in_executor(None, sum, [1, 2, 3]))
        with case.catch():
            await loop.run_in_executor(None, fail)
        future = loop.run_in_executor(None, int)
        case.record(isinstance(future, asyncio.Future), await future)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            case.record(await loop.run_in_executor(pool, sum, [4]))

    assert agree(scenario)[:2] == [(6,), ("raised", ("ValueError", "in the thread"))]


def test_round_trips(run):
    async def main():
        loop = asyncio.get_running_loop()
        for number in range(200):
            assert await loop.run_in_executor(None, int, number) == number
        futures = [loop.run_in_executor(None, int, number) for number in range(500)]
        assert await asyncio.gather(*futures) == list(range(500))

    run(main)


def test_cancelled_calls(run):
    async def main():
        loop = asyncio.get_running_loop()
        started, leave = threading.Event(), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            blocking = loop.run_in_executor(pool, lambda: (started.set(), leave.wait()))
            queued = loop.run_in_executor(pool, pytest.fail, "ran though cancelled")
            assert queued.cancel()
            while not started.is_set():
                await asyncio.sleep(0.001)
            blocking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await blocking
            with pytest.raises(asyncio.CancelledError):
                await queued
            leave.set()
        await asyncio.sleep(0)

    run(main)


def test_an_executor_of_the_programs_own(run):
    async def main():
        loop = asyncio.get_running_loop()
        pool = concurrent.futures.ThreadPoolExecutor(1, "mine")
        loop.set_default_executor(pool)
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("mine")
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError):
            pool.submit(print)

    run(main)


def test_shutdown_waits_for_the_threads(agree):
    async def scenario(case):
        loop = case.loop
        future = loop.run_in_executor(None, time.sleep, 0.02)
        await loop.shutdown_default_executor()
        await asyncio.sleep(0)
        case.record("done", future.done())
        with case.catch():
            loop.run_in_executor(None, print)
        await loop.shutdown_default_executor()

    assert agree(scenario)[:2] == [
        ("done", True),
        ("raised", ("RuntimeError", "Executor shutdown has been called")),
    ]


if sys.version_info >= (3, 13):
    # 3.12 takes the argument, but its first releases wait for the threads all the same

    def test_shutdown_gives_up_after_its_timeout(agree):
        leave = threading.Event()

        def scenario(case):
            leave.clear()

            async def main():
                future = case.loop.run_in_executor(None, leave.wait)
                await case.loop.shutdown_default_executor(timeout=0.01)
                case.record("done", future.done())
                future.cancel()

            case.loop.run_until_complete(main())
            leave.set()
            for thread in set(threading.enumerate()) - {threading.current_thread()}:
                thread.join()

        record = agree(scenario)
        assert ("done", False) in record and record[0][:2] == ("warning", "RuntimeWarning")


def test_to_thread_carries_the_context(run):
    variable = contextvars.ContextVar("variable")

    async def main():
        variable.set("mine")
        return await asyncio.to_thread(variable.get)

    assert run(main) == "mine"


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
