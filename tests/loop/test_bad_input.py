"""Wrong arguments and wrong moments: the same exception and the same words as asyncio's."""

import asyncio
import socket
import sys
import threading

import pytest


async def coroutine():
    pass


async def generator():
    yield


def function():
    pass


WITHOUT_CONNECTION = dict(host="127.0.0.1", port=1)

# Each is called with a fresh loop, in debug mode and not.
CALLS = {
    "call_soon of a coroutine function": lambda loop: loop.call_soon(coroutine),
    "call_soon of None": lambda loop: loop.call_soon(None),
    "call_soon_threadsafe of a coroutine function": lambda loop: loop.call_soon_threadsafe(
        coroutine
    ),
    "call_soon_threadsafe of 5": lambda loop: loop.call_soon_threadsafe(5),
    "call_later of None": lambda loop: loop.call_later(None, function),
    "call_later of text": lambda loop: loop.call_later("1", function),
    "call_later of a coroutine function": lambda loop: loop.call_later(1, coroutine),
    "call_at of None": lambda loop: loop.call_at(None, function),
    "call_at of a coroutine function": lambda loop: loop.call_at(1, coroutine),
    "create_task of None": lambda loop: loop.create_task(None),
    "create_task of a function": lambda loop: loop.create_task(function),
    "create_task of a coroutine function": lambda loop: loop.create_task(coroutine),
    "create_task of an asynchronous generator": lambda loop: loop.create_task(generator),
    "run_until_complete of None": lambda loop: loop.run_until_complete(None),
    "run_until_complete of a function": lambda loop: loop.run_until_complete(function),
    "set_task_factory of 5": lambda loop: loop.set_task_factory(5),
    "set_exception_handler of 5": lambda loop: loop.set_exception_handler(5),
    "set_default_executor of 5": lambda loop: loop.set_default_executor(5),
    "run_in_executor of a coroutine function": lambda loop: loop.run_in_executor(None, coroutine),
    "add_reader of -1": lambda loop: loop.add_reader(-1, function),
    "add_reader of text": lambda loop: loop.add_reader("x", function),
    "add_reader of an object": lambda loop: loop.add_reader(NoDescriptor(), function),
    "add_reader of a wrong fileno": lambda loop: loop.add_reader(WrongDescriptor(), function),
    "add_writer of -1": lambda loop: loop.add_writer(-1, function),
    "add_writer of None": lambda loop: loop.add_writer(None, function),
    "remove_reader of text": lambda loop: loop.remove_reader("x"),
    "remove_writer of -1": lambda loop: loop.remove_writer(-1),
    "add_signal_handler of text": lambda loop: loop.add_signal_handler("x", function),
    "add_signal_handler of 0": lambda loop: loop.add_signal_handler(0, function),
    "add_signal_handler of 1000": lambda loop: loop.add_signal_handler(1000, function),
    "add_signal_handler of SIGKILL": lambda loop: loop.add_signal_handler(9, function),
    "add_signal_handler of a coroutine": lambda loop: loop.add_signal_handler(10, coroutine),
    "remove_signal_handler of 1000": lambda loop: loop.remove_signal_handler(1000),
    "remove_signal_handler of SIGKILL": lambda loop: loop.remove_signal_handler(9),
    "an unknown attribute": lambda loop: loop.nonsense,
}

COROUTINES = {
    "create_connection without an address": lambda loop: loop.create_connection(asyncio.Protocol),
    "create_connection with address and socket": lambda loop: loop.create_connection(
        asyncio.Protocol, sock=5, **WITHOUT_CONNECTION
    ),
    "create_connection with server_hostname": lambda loop: loop.create_connection(
        asyncio.Protocol, server_hostname="x", **WITHOUT_CONNECTION
    ),
    "create_connection with ssl_handshake_timeout": lambda loop: loop.create_connection(
        asyncio.Protocol, ssl_handshake_timeout=1, **WITHOUT_CONNECTION
    ),
    "create_connection to a name that is none": lambda loop: loop.create_connection(
        asyncio.Protocol, "999.999.999.999", "x y"
    ),
    "create_server without an address": lambda loop: loop.create_server(asyncio.Protocol),
    "create_server with ssl of a wrong type": lambda loop: loop.create_server(
        asyncio.Protocol, "127.0.0.1", 0, ssl=True
    ),
    "create_server with address and socket": lambda loop: loop.create_server(
        asyncio.Protocol, "127.0.0.1", 0, sock=5
    ),
    "create_unix_connection without a path": lambda loop: loop.create_unix_connection(
        asyncio.Protocol
    ),
    "create_unix_server without a path": lambda loop: loop.create_unix_server(asyncio.Protocol),
    "create_unix_server in no folder": lambda loop: loop.create_unix_server(
        asyncio.Protocol, "/of/a/test/that/is/not/there"
    ),
    "start_tls of None": lambda loop: loop.start_tls(None, None, None),
    "sendfile of None": lambda loop: loop.sendfile(None, None),
    "subprocess_exec of text bytes": lambda loop: loop.subprocess_exec(
        asyncio.SubprocessProtocol, 5
    ),
    "subprocess_shell of 5": lambda loop: loop.subprocess_shell(asyncio.SubprocessProtocol, 5),
}

# These fail on a closed loop in asyncio's words.
CLOSED = {
    "call_soon": lambda loop: loop.call_soon(function),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(function),
    "call_later": lambda loop: loop.call_later(0, function),
    "call_at": lambda loop: loop.call_at(0, function),
    "run_forever": lambda loop: loop.run_forever(),
    "run_in_executor": lambda loop: loop.run_in_executor(None, function),
    "add_reader": lambda loop: loop.add_reader(0, function),
    "add_writer": lambda loop: loop.add_writer(0, function),
    "remove_reader": lambda loop: loop.remove_reader(0),
    "remove_writer": lambda loop: loop.remove_writer(0),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, function),
    "close": lambda loop: loop.close(),
    "stop": lambda loop: loop.stop(),
}


class NoDescriptor:
    pass


class WrongDescriptor:
    def fileno(self):
        return "x"


def plain_call(call, loop):
    """What became of a call: the exception's type and text, or the kind of the result."""
    try:
        result = call(loop)
    except Exception as error:
        return type(error), str(error)
    if isinstance(result, asyncio.Handle):
        result.cancel()
    return result if result is None or isinstance(result, bool) else "a result"


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments(agree, name, debug):
    def scenario(case):
        case.loop.set_debug(debug)
        outcome = plain_call(CALLS[name], case.loop)
        if name == "an unknown attribute":
            outcome = outcome[0]  # the text names the class
        case.record(outcome if isinstance(outcome, type) else repr(outcome))

    agree(scenario)


@pytest.mark.parametrize("name", COROUTINES)
def test_wrong_arguments_of_coroutines(agree, name, debug):
    async def scenario(case):
        with case.catch():
            await COROUTINES[name](case.loop)

    agree(scenario, debug=debug)


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_loop(agree, name, debug):
    def scenario(case):
        case.loop.set_debug(debug)
        case.loop.close()
        case.record(repr(plain_call(CLOSED[name], case.loop)))

    agree(scenario)


def test_tasks_and_coroutines_of_a_closed_loop(agree):
    def scenario(case):
        case.loop.close()
        for start in (case.loop.create_task, case.loop.run_until_complete):
            coro = coroutine()
            with case.catch():
                start(coro)
            coro.close()

    agree(scenario)


def test_a_bad_socket(agree, debug):
    async def scenario(case):
        loop = case.loop
        with socket.socket() as blocking, socket.socket() as unconnected:
            unconnected.setblocking(False)
            for coro in (
                loop.sock_recv(blocking, 1),
                loop.sock_sendall(blocking, b"x"),
                loop.sock_connect(blocking, ("127.0.0.1", 1)),
                loop.sock_accept(blocking),
            ):
                if debug:
                    with case.catch("blocking"):
                        await coro
                else:
                    coro.close()
            with case.catch("unconnected"):
                await loop.sock_recv(unconnected, 1)
            with case.catch("not listening"):
                await loop.sock_accept(unconnected)
            with case.catch("no bytes"):
                await loop.sock_sendall(unconnected, "text")
            with case.catch("no address"):
                await loop.sock_connect(unconnected, 5)

    agree(scenario, debug=debug)


def test_a_loop_that_runs_is_not_run_again(agree):
    async def scenario(case):
        future = case.loop.create_future()
        with case.catch("itself"):
            case.loop.run_until_complete(future)
        with case.catch("close"):
            case.loop.close()
        other = case.aio.new_event_loop()
        try:
            with case.catch("other"):
                other.run_until_complete(future)
        finally:
            other.close()

    agree(scenario)


def test_a_refused_run_forever_leaves_the_running_loop_alone(loop, aio):
    if aio is asyncio and sys.version_info[:2] == (3, 13):
        return  # there the running loop forgets that it runs

    async def main():
        other = aio.new_event_loop()
        try:
            for again, text in (
                (loop, "This event loop is already running"),
                (other, "Cannot run the event loop while another loop is running"),
            ):
                with pytest.raises(RuntimeError, match=f"^{text}$"):
                    again.run_forever()
                assert loop.is_running() and not other.is_running()
                assert asyncio.get_running_loop() is loop
        finally:
            other.close()

    loop.run_until_complete(main())


def test_a_loop_that_stops_early(agree):
    def scenario(case):
        future = case.loop.create_future()
        case.loop.call_soon(case.loop.stop)
        with case.catch():
            case.loop.run_until_complete(future)

    agree(scenario)


def test_the_wrong_thread(agree, debug):
    async def scenario(case):
        def other():
            for name in ("call_soon", "call_later", "call_at"):
                arguments = (function,) if name == "call_soon" else (0, function)
                with case.catch(name):
                    getattr(case.loop, name)(*arguments).cancel()
            with case.catch("call_soon_threadsafe"):
                case.loop.call_soon_threadsafe(function)
            with case.catch("add_signal_handler"):
                case.loop.add_signal_handler(10, function)

        thread = threading.Thread(target=other)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)

    agree(scenario, debug=debug)


def test_a_future_of_another_loop(agree):
    async def scenario(case):
        other = case.aio.new_event_loop()
        future = other.create_future()
        try:
            with case.catch():
                await case.loop.create_task(wait_for(future))
        finally:
            other.close()

    async def wait_for(future):
        await future

    agree(scenario)


@pytest.mark.parametrize("yielded", [5, None, "text"], ids=ascii)
def test_a_coroutine_that_yields_something_else(agree, yielded):
    class Odd:
        def __await__(self):
            return (yield yielded)

    async def main():
        return await Odd()

    def scenario(case):
        with case.catch():
            case.record(case.loop.run_until_complete(main()))

    agree(scenario)


def test_a_task_that_awaits_itself(agree):
    async def scenario(case):
        async def main():
            await task

        task = case.loop.create_task(main())
        with case.catch():
            await task

    agree(scenario)
