"""The loop as an object: its class, what replaces its methods, closing it."""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
import warnings

import pytest

from observing import finish


@pytest.fixture
def loop_class(loop_factory):
    loop = loop_factory()
    loop.close()
    return type(loop)


@pytest.fixture(params=["subclass", "instance"])
def replaced(request, loop_class):
    """replaced(method=function, ...): a loop with these methods replaced, in a subclass or on the
    instance. A function gets the loop and the arguments."""
    loops = []

    def replaced(**methods):
        if request.param == "subclass":
            loop = type("Mine", (loop_class,), methods)()
        else:
            loop = loop_class()
            for name, function in methods.items():
                setattr(loop, name, function.__get__(loop))
        loops.append(loop)
        return loop

    yield replaced
    for loop in loops:
        finish(loop)


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


# The class.


def test_the_loop_is_a_selector_loop(loop):
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_attributes_can_be_set(loop):
    loop.of_the_program = 1
    assert loop.of_the_program == 1 and vars(loop)["of_the_program"] == 1


def test_the_loop_has_no_dict_of_its_own(loop, aio):
    assert (vars(loop) == {}) == (aio is not asyncio)


def test_weak_references_and_hash(loop):
    import weakref

    assert weakref.ref(loop)() is loop and {loop: 1}[loop] == 1


def test_repr(loop_class):
    class Mine(loop_class):
        pass

    loop = Mine()
    assert repr(loop) == "<Mine running=False closed=False debug=False>"
    loop.set_debug(True)
    loop.call_soon(lambda: seen.append(repr(loop)))
    seen = []
    run_once(loop)
    loop.close()
    assert seen == ["<Mine running=True closed=False debug=True>"]
    assert repr(loop) == "<Mine running=False closed=True debug=True>"


def test_a_subclass_has_an_init_of_its_own(loop_class):
    class Mine(loop_class):
        def __init__(self, name, *, size=1):
            super().__init__()
            self.name, self.size = name, size

    loop = Mine("x", size=2)
    loop.close()
    assert (loop.name, loop.size) == ("x", 2)


def test_a_selector_given_is_closed_with_the_loop(loop_class):
    import selectors

    selector = selectors.SelectSelector()
    loop = loop_class(selector)
    loop.run_until_complete(asyncio.sleep(0))
    assert selector.get_map() is not None
    loop.close()
    assert selector.get_map() is None


def test_unclosed_loops_warn(loop_class):
    with pytest.warns(ResourceWarning, match="unclosed event loop <.* running=False closed=False"):
        loop_class()
        gc.collect()


def test_debug_follows_the_environment(aio):
    import subprocess

    code = f"import {aio.__name__} as aio; print(aio.new_event_loop().get_debug())"
    for flags, variables, expected in (
        ([], {}, False),
        (["-X", "dev"], {}, True),
        ([], {"PYTHONASYNCIODEBUG": "1"}, True),
        (["-E"], {"PYTHONASYNCIODEBUG": "1"}, False),
    ):
        shown = subprocess.run(
            [sys.executable, *flags, "-W", "ignore", "-c", code],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert shown.stdout == f"{expected}\n", shown.stderr


# Methods replaced by the program.


def test_time_is_honoured_by_timers(replaced, loop_class):
    def later(self):
        return loop_class.time(self) + 1000

    loop = replaced(time=later)
    started = time.monotonic()
    seen = []
    handle = loop.call_later(0.01, lambda: (seen.append(loop.time()), loop.stop()))
    assert 1000 <= handle.when() - started < 1060
    loop.run_forever()
    assert handle.when() <= seen[0] + 0.001
    assert time.monotonic() - started < 60


def test_time_can_be_the_programs_own(replaced):
    now = [5.0]
    loop = replaced(time=lambda self: now[0])
    seen = []
    handle = loop.call_later(10, seen.append, "due")
    assert handle.when() == 15.0
    run_once(loop)
    assert seen == []
    now[0] = 15.5
    run_once(loop)
    assert seen == ["due"]


def test_call_soon_is_honoured(replaced, loop_class):
    seen = []

    def call_soon(self, callback, *args, context=None):
        seen.append(getattr(callback, "__name__", type(callback).__name__))
        return loop_class.call_soon(self, callback, *args, context=context)

    loop = replaced(call_soon=call_soon)
    future = loop.create_future()
    future.add_done_callback(lambda future: loop.stop())
    future.set_result(None)
    loop.run_forever()
    assert seen == ["<lambda>"]

    async def main():
        await asyncio.sleep(0)

    del seen[:]
    loop.run_until_complete(main())
    assert len(seen) >= 2  # a task steps through call_soon()


def test_create_future_is_honoured(replaced, loop_class):
    seen = []

    def create_future(self):
        seen.append(loop_class.create_future(self))
        return seen[-1]

    loop = replaced(create_future=create_future)

    async def main():
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    assert len(seen) == 1


def test_create_task_is_honoured(replaced, loop_class):
    seen = []

    def create_task(self, coro, **options):
        seen.append(loop_class.create_task(self, coro, **options))
        return seen[-1]

    loop = replaced(create_task=create_task)

    async def main():
        await asyncio.create_task(asyncio.sleep(0), name="named")
        await asyncio.gather(asyncio.sleep(0))

    loop.run_until_complete(main())
    assert [task.get_name() == "named" for task in seen] == [False, True, False]


def test_call_exception_handler_is_honoured(replaced):
    seen = []
    loop = replaced(
        call_exception_handler=lambda self, report: seen.append(
            (report["message"].partition(" at ")[0], str(report["exception"]), set(report))
        )
    )

    def fail():
        raise ValueError("in a callback")

    loop.call_soon(fail)
    loop.call_later(0, fail)
    run_once(loop)
    run_once(loop)
    [first, second] = seen
    assert first[0].startswith("Exception in callback ") and "fail()" in first[0]
    assert first[1] == second[1] == "in a callback"
    assert first[2] == {"message", "exception", "handle"}


def test_default_exception_handler_is_honoured(replaced):
    seen = []
    loop = replaced(default_exception_handler=lambda self, report: seen.append(report["message"]))
    loop.call_soon(int, "x")
    run_once(loop)
    assert len(seen) == 1 and seen[0].startswith("Exception in callback int(")


def test_getaddrinfo_is_honoured(replaced):
    asked = []

    async def getaddrinfo(self, host, port, **options):
        asked.append((host, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())]

    loop = replaced(getaddrinfo=getaddrinfo)

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, "of.the.test.invalid", 1)
        transport.close()
        await asyncio.sleep(0)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop.run_until_complete(main())
    assert asked == [("of.the.test.invalid", 1)]


def test_run_in_executor_is_honoured_by_look_ups(replaced, loop_class):
    seen = []

    def run_in_executor(self, executor, function, *args):
        seen.append((function, args))
        return loop_class.run_in_executor(self, executor, function, *args)

    loop = replaced(run_in_executor=run_in_executor)
    loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    assert seen == [(socket.getaddrinfo, ("localhost", 80, 0, 0, 0, 0))]


def test_sock_methods_are_honoured(replaced, loop_class):
    seen = []

    async def sock_connect(self, sock, address):
        seen.append(address)
        return await loop_class.sock_connect(self, sock, address)

    loop = replaced(sock_connect=sock_connect)

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        transport.close()
        await asyncio.sleep(0)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        loop.run_until_complete(main())
    assert seen == [address]


def test_a_replacement_can_be_taken_back(loop):
    seen = []
    native = loop.call_soon
    loop.call_soon = lambda *args, **options: seen.append(args) or native(*args, **options)
    loop.run_until_complete(asyncio.sleep(0))
    count = len(seen)
    assert count > 0
    del loop.call_soon
    loop.run_until_complete(asyncio.sleep(0))
    assert len(seen) == count


# Closing.


def test_close_gives_everything_back(loop_factory):
    started = []

    def work():
        started.append(threading.current_thread())

    loop = loop_factory()
    loop.run_until_complete(loop.run_in_executor(None, work))
    loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    loop.add_signal_handler(signal.SIGUSR1, print)
    threads = [thread for thread in threading.enumerate() if "aioxide-resolver" in thread.name]
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    wakeup = signal.set_wakeup_fd(-1)
    assert wakeup == -1
    for thread in [*started, *threads]:
        thread.join(60)
        assert not thread.is_alive()


def test_close_refuses_a_running_loop(loop):
    async def main():
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_closed()


@pytest.mark.leftovers  # pytest keeps the record of the log with the loop in it
def test_close_is_logged_in_debug_mode(loop_factory, debug_log):
    loop_factory().close()
    assert not [text for text in debug_log if text.startswith("Close ")]
    loop = loop_factory()
    loop.set_debug(True)
    shown = repr(loop)
    loop.close()
    assert f"Close {shown}" in debug_log


def test_unix_sockets_are_cleaned_up_as_the_version_does(loop, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(asyncio.Protocol, str(path))
        assert path.exists()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert path.exists() == (sys.version_info < (3, 13))


def test_a_file_in_the_place_of_a_unix_socket_is_kept(loop, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(asyncio.Protocol, str(path))
        path.rename(tmp_path / "away")
        path.write_text("a file")
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert path.read_text() == "a file"


def test_a_unix_socket_that_went_away_is_no_trouble(loop, tmp_path, asyncio_log):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(asyncio.Protocol, str(path))
        path.unlink()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert asyncio_log == []


# Threads and forks.


def test_a_forked_child_makes_a_loop_of_its_own(loop_factory):
    async def main():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                loop = loop_factory()
                status = loop.run_until_complete(asyncio.sleep(0.001, 7))
                loop.close()
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    loop = loop_factory()
    assert loop.run_until_complete(main()) == 7
    assert loop.run_until_complete(asyncio.sleep(0.001, 8)) == 8
    loop.close()


# Keywords.


def test_arguments_can_be_keywords(loop):
    seen = []
    for schedule in (
        lambda: loop.call_soon(callback=lambda: seen.append("soon")),
        lambda: loop.call_soon_threadsafe(callback=lambda: seen.append("threadsafe")),
        lambda: loop.call_later(delay=0, callback=lambda: seen.append("later")),
        lambda: loop.call_at(when=0, callback=lambda: seen.append("at")),
    ):
        schedule()
        run_once(loop)
    assert seen == ["soon", "threadsafe", "later", "at"]
    loop.set_debug(enabled=True)
    loop.set_task_factory(factory=None)
    assert loop.get_debug() is True and loop.get_task_factory() is None
