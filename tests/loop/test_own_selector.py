"""Loops that wait by a selector of the program's own, and classes that replace inner methods: what
asyncio does there, down to the attributes. The classes stand for those of Qt's and trio's loops and
of virtual clocks."""

import asyncio
import functools
import gc
import heapq
import os
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
from unittest import mock

import pytest

from observing import finish


class Foreign(selectors.SelectSelector):
    """Somebody else's main loop would watch these descriptors."""

    waits = 0

    def select(self, timeout=None):
        self.waits += 1
        return super().select(timeout)


class Bare(selectors.BaseSelector):
    """As prompt_toolkit's: a selector that asks another."""

    def __init__(self):
        self.real = selectors.DefaultSelector()

    def register(self, fileobj, events, data=None):
        return self.real.register(fileobj, events, data)

    def unregister(self, fileobj):
        return self.real.unregister(fileobj)

    def modify(self, fileobj, events, data=None):
        return self.real.modify(fileobj, events, data)

    def select(self, timeout=None):
        return self.real.select(timeout)

    def close(self):
        self.real.close()

    def get_map(self):
        return self.real.get_map()


class Counting:
    """A mixin in front of a loop's class."""

    def _add_reader(self, fd, callback, *args, **options):
        vars(self).setdefault("added", []).append(fd)
        return super()._add_reader(fd, callback, *args, **options)


def given_to_the_class(base):
    return base(Foreign())


def given_to_a_subclass(base):
    class Mine(base):
        def __init__(self):
            self.mine = Foreign()
            super().__init__(self.mine)

        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args, context=context)

    return Mine()


def given_in_the_old_style(base):
    class Mine(base):
        def __init__(self):
            base.__init__(self, Foreign())

        def call_later(self, delay, callback, *args, context=None):
            return base.call_later(self, delay, callback, *args, context=context)

        def stop(self):
            base.stop(self)

        def close(self):
            base.close(self)

    return Mine()


def given_to_one_of_many(base):
    class Mine(base):
        pass

    other = Mine()
    other.run_until_complete(asyncio.sleep(0))
    loop = Mine(Bare())
    other.run_until_complete(asyncio.sleep(0))
    other.close()
    assert isinstance(loop, Mine) and type(loop).__name__ == "Mine"
    return loop


def of_a_mixin(base):
    class Mine(Counting, base):
        pass

    return Mine()


def of_a_mixin_and_a_subclass(base):
    class Plain(base):
        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args, context=context)

    class Mine(Counting, Plain):
        pass

    return Mine()


def with_its_own_iteration(base):
    class Mine(base):
        iterations = 0

        def _run_once(self):
            self.iterations += 1
            super()._run_once()

    return Mine()


def with_its_own_events(base):
    class Mine(base):
        def _process_events(self, events):
            super()._process_events(events)

    return Mine()


MAKERS = [
    given_to_the_class,
    given_to_a_subclass,
    given_in_the_old_style,
    given_to_one_of_many,
    of_a_mixin,
    of_a_mixin_and_a_subclass,
    with_its_own_iteration,
    with_its_own_events,
]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def agree_on(agree, request):
    """agree_on(scenario, debug=False): as `agree`, on a loop that the maker makes."""

    def agree_on(scenario, debug=False):
        async def main(case):
            await scenario(case)

        def on_it(case):
            case.loop.close()
            case.loop = request.param(case.aio.SelectorEventLoop)
            case.loop.set_exception_handler(case.report)
            case.loop.set_debug(debug)
            case.loop.slow_callback_duration = 600
            case.loop.run_until_complete(main(case))

        return agree(on_it)

    return agree_on


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def made(request, aio):
    """A loop that the maker makes."""
    loop = request.param(aio.SelectorEventLoop)
    yield loop
    if not loop.is_closed():
        finish(loop)


# What such a loop is.


def test_its_class_and_attributes(made, aio):
    assert isinstance(made, aio.SelectorEventLoop) and isinstance(made, asyncio.SelectorEventLoop)
    assert issubclass(type(made), aio.SelectorEventLoop)
    theirs = asyncio.SelectorEventLoop()
    assert set(vars(theirs)) <= set(vars(made))
    for name in ("_ready", "_scheduled", "_selector", "_ssock", "_csock"):
        assert isinstance(getattr(made, name), type(getattr(theirs, name))) or name == "_selector"
    theirs.close()
    assert made._ssock.fileno() in {key.fd for key in made._selector.get_map().values()}
    text = repr(made)
    assert text == f"<{type(made).__name__} running=False closed=False debug={made.get_debug()}>"
    made.close()
    assert made._selector is made._ssock is None and made.is_closed()


def test_it_has_asyncios_descriptors_and_gives_them_back(aio):
    def count(make):
        before = set(os.listdir("/proc/self/fd"))
        loop = make()
        made = set(os.listdir("/proc/self/fd")) - before
        loop.close()
        assert set(os.listdir("/proc/self/fd")) <= before | made
        return len(made), len(set(os.listdir("/proc/self/fd")) - before)

    for make in MAKERS[:3]:
        theirs = count(functools.partial(make, asyncio.SelectorEventLoop))
        assert count(functools.partial(make, aio.SelectorEventLoop)) == theirs


def test_the_selector_sees_what_is_watched(made):
    left, right = socket.socketpair()
    seen = []
    try:
        made.add_reader(left, lambda: (seen.append(left.recv(9)), made.stop()))
        assert left.fileno() in {key.fd for key in made._selector.get_map().values()}
        right.send(b"hello")
        made.run_forever()
        assert seen == [b"hello"]
        assert made.remove_reader(left) is True
    finally:
        left.close()
        right.close()


def test_timers_and_the_queue_are_asyncios(made):
    handle = made.call_later(60, print)
    soon = made.call_soon(made.stop)
    assert made._scheduled == [handle] and list(made._ready) == [soon]
    assert type(handle) is asyncio.TimerHandle and type(made._scheduled) is list
    handle.cancel()
    assert heapq.heappop(made._scheduled) is handle
    made.run_forever()


# What runs on it.


@pytest.mark.parametrize("debug", [False, True], ids=["normal", "debug"])
def test_tasks_timeouts_and_threads(agree_on, debug):
    async def scenario(case):
        aio = case.aio
        case.record(await aio.sleep(0.001, "slept"))
        case.record(await aio.gather(aio.sleep(0, 1), aio.sleep(0.001, 2)))
        with case.catch():
            await aio.wait_for(aio.Event().wait(), 0.001)
        with case.catch():
            async with aio.timeout(0.001):
                await aio.sleep(60)
        async with aio.TaskGroup() as group:
            group.create_task(aio.sleep(0.001))
        case.record(await aio.to_thread(sum, [1, 2]))
        case.record(await case.loop.run_in_executor(None, sum, [3, 4]))
        future = case.loop.create_future()
        threading.Timer(
            0.005, case.loop.call_soon_threadsafe, [future.set_result, "from a thread"]
        ).start()
        case.record(await future)
        queue = aio.Queue(1)
        task = aio.create_task(queue.get())
        await queue.put("item")
        case.record(await task)
        case.loop.call_soon(int, "x")
        await aio.sleep(0.001)

    agree_on(scenario, debug)


def test_connections(agree_on):
    async def scenario(case):
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        server = await case.aio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await case.aio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        case.record(await reader.read(), type(writer.transport).__module__)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    assert agree_on(scenario) == [(b"HELLO\n", "asyncio.selector_events")]


def test_sock_calls(agree_on):
    async def scenario(case):
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            waiting = case.loop.create_task(case.loop.sock_recv(left, 10))
            await case.aio.sleep(0)
            await case.loop.sock_sendall(right, b"data")
            case.record(await waiting)

    agree_on(scenario)


def test_children_and_signals(agree_on):
    async def scenario(case):
        child = await asyncio.create_subprocess_exec(
            "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        case.record(await child.communicate(b"through"), child.returncode)
        got = case.aio.Event()
        case.loop.add_signal_handler(signal.SIGUSR1, got.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await case.aio.wait_for(got.wait(), 10)
        case.record(case.loop.remove_signal_handler(signal.SIGUSR1))

    agree_on(scenario)


def test_what_it_refuses(agree_on):
    async def scenario(case):
        for call in (
            case.loop.close,
            lambda: case.loop.call_at(None, print),
            lambda: case.loop.call_later(None, print),
        ):
            with case.catch():
                call()
        other = case.aio.SelectorEventLoop(Foreign())
        other.close()
        for call in (
            lambda: other.call_soon(print),
            lambda: other.call_later(1, print),
            other.run_forever,
            lambda: other.run_until_complete(other.create_future()),
        ):
            with case.catch():
                call()
        case.record(other.is_closed(), other.is_running(), other.close())

    agree_on(scenario)


def test_methods_by_name_are_asyncios(agree):
    def scenario(case):
        base = case.aio.SelectorEventLoop
        loop = base(Foreign())
        seen = []
        base.set_debug(loop, True)
        case.record(loop.get_debug(), base.get_debug(loop), base.is_running(loop))
        base.call_soon(loop, seen.append, "soon")
        base.call_soon_threadsafe(loop, seen.append, "threadsafe")
        base.call_later(loop, 0, seen.append, "later")
        case.record(len(loop._ready), len(loop._scheduled))
        task = base.create_task(loop, asyncio.sleep(0, "slept"), name="named")
        base.call_later(loop, 0.01, base.stop, loop)
        base.run_forever(loop)
        case.record(seen, task.result(), task.get_name())
        base.set_task_factory(loop, None)
        left, right = socket.socketpair()
        with left, right:
            base._add_reader(loop, left.fileno(), print)
            case.record(left.fileno() in {key.fd for key in loop._selector.get_map().values()})
            case.record(base._remove_reader(loop, left.fileno()))
        with case.catch(text=False):
            base.call_soon(loop)
        base.close(loop)
        case.record(loop.is_closed(), base.is_closed(loop))
        with case.catch():
            base.call_soon(loop, print)

    agree(scenario)


def test_an_unclosed_one_warns(aio):
    with pytest.warns(ResourceWarning, match="unclosed event loop <"):
        aio.SelectorEventLoop(Foreign())
        gc.collect()


# The standard library's own selectors, and one given later.


def test_selectors_of_the_standard_library_leave_it_native(aio):
    for kind in (selectors.DefaultSelector, selectors.PollSelector, selectors.SelectSelector):
        loop = aio.SelectorEventLoop(kind())
        assert loop.run_until_complete(asyncio.sleep(0, type(loop))) is aio.SelectorEventLoop
        loop.close()


def test_a_selector_given_after_the_loop_was_made(aio, loop):
    loop.set_debug(True)
    old = loop._selector
    loop._selector = selector = Bare()
    if aio is asyncio:
        selector.register(loop._ssock, selectors.EVENT_READ, old.get_key(loop._ssock).data)
        old.close()
    assert loop._selector is selector and loop.get_debug()
    with socket.socket() as sock:
        loop.add_reader(sock, print)
        assert sock.fileno() in {key.fd for key in selector.get_map().values()}
        loop.remove_reader(sock)
    assert loop.run_until_complete(asyncio.sleep(0.001, 7)) == 7


def test_a_selector_given_too_late_is_refused(aio, loop):
    if aio is asyncio:
        pytest.skip("asyncio takes it, and waits for what it does not watch")
    loop.call_later(60, print).cancel()
    with pytest.raises(RuntimeError, match="before anything is scheduled"):
        loop._selector = Bare()


# Virtual clocks: a function in the place of the selector's select().


class Clock:
    def __init__(self):
        self.now = 0.0
        self.calls = []

    def select(self, real, timeout=None):
        self.calls.append(timeout)
        if timeout is not None:
            self.now += timeout
        return real(0)

    def time(self):
        return self.now


def test_a_virtual_clock(agree):
    async def scenario(case):
        loop, clock = case.loop, Clock()
        waits = []
        with (
            mock.patch.object(
                loop._selector, "select", functools.partial(clock.select, loop._selector.select)
            ),
            mock.patch.object(loop, "_clock_resolution", 0.001),
            mock.patch.object(loop, "time", clock.time),
        ):
            for seconds in (3600, 0.3, 1e-7):
                await case.aio.sleep(seconds)
                waits.append(clock.now)
            with case.catch():
                await case.aio.wait_for(case.aio.Event().wait(), 100)
            waits.append(clock.now)
            order = []
            loop.call_later(5, order.append, 5)
            loop.call_later(4, order.append, 4)
            await case.aio.sleep(6)
            case.record(waits, order, loop.time())
            case.record([timeout for timeout in clock.calls if timeout])
        case.record(await case.aio.sleep(0.001, "by the real clock"))

    agree(scenario)


def test_select_in_its_place_is_called_in_each_iteration(agree):
    async def scenario(case):
        calls = []
        real = case.loop._selector.select

        def select(timeout=None):
            calls.append(timeout)
            return real(timeout)

        case.loop._selector.select = select
        for _ in range(5):
            await case.aio.sleep(0)
        case.record(calls)
        del case.loop._selector.select
        await case.aio.sleep(0)
        case.record(len(calls))

    agree(scenario)


def test_io_and_threads_while_select_is_replaced(agree):
    async def scenario(case):
        real = case.loop._selector.select
        found = []

        def select(timeout=None):
            events = real(timeout)
            found.append(bool(events))
            return events + real(timeout if events else 0)

        case.loop._selector.select = select
        case.record(await case.aio.to_thread(sum, [1, 2]))
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            case.loop.call_later(0.01, right.send, b"late")
            case.record(await case.loop.sock_recv(left, 10))
        reader = case.loop.create_future()
        left, right = socket.socketpair()
        with left, right:
            case.loop.add_reader(left, lambda: reader.done() or reader.set_result(left.recv(9)))
            right.send(b"now")
            case.record(await reader, True in found)
            [key] = [key for key in case.loop._selector.get_map().values() if key.fd == left.fileno()]
            case.record(key.fileobj in (left, left.fileno()), key.events)
            case.loop.remove_reader(left)

    agree(scenario)


def test_events_that_select_adds_are_told(agree):
    async def scenario(case):
        seen = []
        handle = case.aio.Handle(seen.append, ("added",), case.loop)
        key = selectors.SelectorKey(0, 0, selectors.EVENT_READ, (handle, None))
        real = case.loop._selector.select
        added = [(key, selectors.EVENT_READ)]

        def select(timeout=None):
            events, added[:] = added[:], []
            return [*events, *real(timeout)]

        case.loop._selector.select = select
        await case.aio.sleep(0)
        await case.aio.sleep(0)
        case.record(seen)

    agree(scenario)


def test_what_select_raises_ends_the_run(agree):
    def scenario(case):
        def select(timeout=None):
            raise ZeroDivisionError

        case.loop._selector.select = select
        with case.catch():
            case.loop.run_until_complete(asyncio.sleep(0))
        del case.loop._selector.select

    agree(scenario)


def test_a_class_put_onto_a_loop(agree):
    def scenario(case):
        class Moving(asyncio.BaseEventLoop):
            now = 50.0

            def time(self):
                return self.now

            def begin(self):
                real = self._selector.select

                def select(timeout=None):
                    self.now += timeout or 0
                    return real(0)

                self._selector.select = select

        loop = case.loop
        loop.run_until_complete(asyncio.sleep(0))
        old = loop.__class__
        loop.__class__ = type("Mixed", (Moving, old), {})
        loop.begin()
        loop.run_until_complete(case.aio.sleep(200))
        case.record(loop.time())
        del loop._selector.select
        loop.__class__ = old

    agree(scenario)


# The functions that find the running loop.


def test_a_replaced_get_running_loop_is_asked(agree):
    def scenario(case):
        loop = case.loop
        with (
            mock.patch("asyncio.events.get_running_loop", lambda: loop),
            mock.patch("asyncio.events._get_running_loop", lambda: loop),
        ):
            coro = case.aio.sleep(5)
            waiter = coro.send(None)
            case.record(waiter.get_loop() is loop)
            coro.close()
        with case.catch():
            case.aio.sleep(5).send(None)

    agree(scenario)


# Programs and libraries.


PROGRAM = """
    import selectors, sys
    from asyncio import SelectorEventLoop
    import asyncio

    class Foreign(selectors.SelectSelector):
        pass

    class Early(asyncio.SelectorEventLoop):
        def __init__(self):
            asyncio.SelectorEventLoop.__init__(self, Foreign())

        def _add_reader(self, fd, callback, *args):
            print("watches", fd == self._ssock.fileno() if self._ssock else fd)
            return super()._add_reader(fd, callback, *args)

    class EarlyPlain(SelectorEventLoop):
        pass

    import aioxide
    aioxide.install()

    async def main():
        print(await asyncio.to_thread(sum, [1, 2]), type(asyncio.current_task()).__module__)

    for kind in (Early, EarlyPlain):
        loop = kind()
        print(isinstance(loop, SelectorEventLoop), type(loop._ready).__name__)
        loop.run_until_complete(main())
        loop.close()
"""


def test_classes_made_before_install(aio):
    if aio is asyncio:
        pytest.skip("about install()")
    shown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, timeout=60
    )
    assert shown.stderr == ""
    assert shown.stdout.splitlines() == [
        "watches True",
        "True deque",
        "3 aioxide",
        "True deque",
        "3 aioxide",
    ]


def test_a_patched_default_selector_is_used(agree):
    """As gevent's, whose main loop goes on while this one waits."""

    def scenario(case):
        with mock.patch("selectors.DefaultSelector", Foreign):
            loop = case.aio.new_event_loop()
        case.record(loop.run_until_complete(asyncio.sleep(0.001, "slept")))
        case.record(loop._selector.waits > 0, type(loop._selector))
        loop.close()

    agree(scenario)


def test_a_patched_select_means_another_way_to_wait(agree):
    def scenario(case):
        with mock.patch("select.select", lambda *args: ([], [], [])):
            loop = case.aio.new_event_loop()
        case.record(type(loop._ready), loop.run_until_complete(asyncio.sleep(0, "slept")))
        loop.close()

    agree(scenario)


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import asyncio
    import gevent

    turns = []

    def other():
        for turn in range(20):
            turns.append(turn)
            gevent.sleep(0.005)

    async def main():
        await asyncio.sleep(0.05)
        print(len(turns) > 2)
        print(await asyncio.to_thread(sum, [1, 2]))

    greenlet = gevent.spawn(other)
    asyncio.run(main())
    greenlet.join()
    print(len(turns))
"""


@pytest.mark.parametrize("way_in", [[], ["-m", "aioxide"]], ids=["asyncio", "aioxide"])
def test_gevent_goes_on_while_the_loop_waits(way_in):
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("gevent has no wheels for free-threaded builds")
    pytest.importorskip("gevent")
    shown = subprocess.run(
        [sys.executable, *way_in, "-c", textwrap.dedent(GEVENT)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (shown.stdout, shown.stderr) == ("True\n3\n20\n", "")
