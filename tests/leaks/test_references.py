"""No scenario leaks a reference: the counts of repeated runs do not rise.

On a debug build of CPython it is the total of all references, else the number of allocated blocks.
"""

import asyncio
import contextlib
import gc
import importlib
import itertools
import signal
import socket
import ssl
import sys
import types
import warnings

import pytest

from implementations import TRIED
from observing import finish
from peers import BufferedJournal, Journal, connected, receive, socket_pair, until
from tls_peers import HOST, Peer, client_context, encrypted

REPEATS = 10
WARMING = 2
ROUNDS = 30

count = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)


async def callbacks(aio):
    loop = asyncio.get_running_loop()
    loop.call_soon(int, 1)
    loop.call_soon(int).cancel()
    loop.call_later(0, int)
    loop.call_later(0.0001, int, object()).cancel()
    loop.call_at(loop.time(), int)
    loop.call_soon_threadsafe(int)
    await asyncio.sleep(0.0005)


async def failing_callback(aio):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, report: None)
    loop.call_soon(int, "no number")
    await asyncio.sleep(0)
    loop.set_exception_handler(None)


async def futures(aio):
    loop = asyncio.get_running_loop()
    for finish in (
        lambda future: future.set_result(object()),
        lambda future: future.set_exception(ValueError("x")),
        lambda future: future.cancel("message"),
    ):
        future = aio.Future(loop=loop)
        for _ in range(3):
            future.add_done_callback(lambda future: None)
        future.add_done_callback(int)
        future.remove_done_callback(int)
        repr(future)
        loop.call_soon(finish, future)
        try:
            await future
        except (ValueError, asyncio.CancelledError):
            pass
    iterator = iter(aio.Future(loop=loop))
    next(iterator)
    with contextlib.suppress(KeyError):
        iterator.throw(KeyError)


async def tasks(aio):
    loop = asyncio.get_running_loop()

    async def child(value):
        await aio.sleep(0)
        await aio.sleep(0, value)
        return value

    async def fails():
        await aio.sleep(0)
        raise ValueError(object())

    task = aio.Task(child(object()), loop=loop, name="named")
    task.add_done_callback(lambda task: None)
    repr(task), task.get_stack(), task.get_coro(), task.get_name()
    await task
    with contextlib.suppress(ValueError):
        await loop.create_task(fails())
    await asyncio.gather(*(child(number) for number in range(5)))


async def cancelled_tasks(aio):
    loop = asyncio.get_running_loop()
    for steps in range(3):
        task = loop.create_task(aio.sleep(100))
        for _ in range(steps):
            await aio.sleep(0)
        task.cancel("message")
        with contextlib.suppress(asyncio.CancelledError):
            await task
    task = loop.create_task(aio.sleep(0, 1))
    task.cancel()
    task.uncancel()
    await asyncio.wait([task])


async def garbage(aio):
    @types.coroutine
    def bad():
        yield object()

    async def main():
        await bad()

    with contextlib.suppress(RuntimeError):
        await asyncio.get_running_loop().create_task(main())


async def mixed(aio):
    loop = asyncio.get_running_loop()

    async def waits(future):
        return await future

    for make in (asyncio.Future, asyncio.futures._PyFuture, aio.Future):
        for task in (asyncio.Task, asyncio.tasks._PyTask, aio.Task):
            future = make(loop=loop)
            waiting = task(waits(future), loop=loop)
            await asyncio.sleep(0)
            future.set_result(object())
            await waiting


async def eager(aio):
    if sys.version_info < (3, 12):
        return

    async def at_once():
        return object()

    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.create_eager_task_factory(aio.Task))
    await loop.create_task(at_once())
    await loop.create_task(aio.sleep(0, 1))
    loop.set_task_factory(None)


async def groups_and_timeouts(aio):
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(aio.sleep(0))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.0001):
            await aio.sleep(100)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(aio.sleep(100), 0.0001)
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(aio.sleep(100))
            group.create_task(aio.sleep("garbage"))


async def never_awaited(aio):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aio.sleep(1)
        coroutine = aio.sleep(1)
        coroutine.close()


async def lost_tasks(aio):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, report: None)

    async def waits():
        await loop.create_future()

    async def fails():
        raise ValueError

    loop.create_task(waits())
    loop.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    loop.set_exception_handler(None)


async def readers(aio):
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen = []
        loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
        loop.add_writer(ours, seen.append, "write")
        theirs.send(b"x")
        await until(lambda: len(seen) > 1)
        loop.remove_writer(ours)
        loop.add_reader(ours, int)
        loop.remove_reader(ours)


async def socket_methods(aio):
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(theirs, b"x")
        await receiving
        receiving = loop.create_task(loop.sock_recv_into(ours, bytearray(10)))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait([receiving])


async def transports(aio):
    for family in ("tcp", "unix"):
        for make in (Journal, BufferedJournal):
            async with connected(family, make) as (transport, protocol, peer):
                transport.write(b"hello")
                transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
                await receive(peer, 8)
                peer.send(b"world")
                await until(lambda: protocol.received)
                transport.pause_reading()
                transport.resume_reading()
                transport.get_extra_info("peername")
                transport.get_write_buffer_limits()
                repr(transport)
                transport.close()
                await protocol.lost


async def blocked_transports(aio):
    async with connected("unix") as (transport, protocol, peer):
        transport.write(b"x" * 1_000_000)
        transport.writelines([b"y" * 1000] * 20)
        transport.abort()
        await protocol.lost
    async with connected("unix") as (transport, protocol, peer):
        transport.write(b"x" * 1_000_000)
        transport.close()
        await receive(peer)
    async with connected("unix") as (transport, protocol, peer):
        peer.close()
        await protocol.lost


async def failing_protocols(aio):
    asyncio.get_running_loop().set_exception_handler(lambda loop, report: None)

    class Failing(Journal):
        def data_received(self, data):
            raise ValueError

    async with connected("unix", Failing) as (transport, protocol, peer):
        peer.send(b"x")
        await protocol.lost
    asyncio.get_running_loop().set_exception_handler(None)


async def servers(aio):
    loop = asyncio.get_running_loop()
    made = []
    server = await loop.create_server(lambda: made.append(Journal()) or made[-1], "127.0.0.1", 0)
    transport, client = await loop.create_connection(Journal, *server.sockets[0].getsockname())
    await until(lambda: made)
    transport.close()
    await client.lost
    await made.pop().lost
    server.close()
    await server.wait_closed()


async def streams(aio):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    await writer.drain()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.001)


async def encrypted_transports(aio):
    for make, server_side in ((Journal, False), (BufferedJournal, True)):
        async with encrypted("unix", make, server_side) as (transport, protocol, peer):
            transport.write(b"hello")
            transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            await peer.receive(8)
            await peer.send(b"world" * 10_000)
            await until(lambda: len(protocol.received) == 50_000)
            transport.pause_reading()
            transport.resume_reading()
            for name in ("peername", "cipher", "peercert"):
                transport.get_extra_info(name)
            transport.get_write_buffer_limits()
            transport.close()
            await peer.unwrap()
            await protocol.lost


async def blocked_encrypted_transports(aio):
    async with encrypted("unix") as (transport, protocol, peer):
        transport.write(b"x" * 1_000_000)
        transport.writelines([b"y" * 1000] * 20)
        transport.abort()
        await protocol.lost
        transport.write(b"late")
    async with encrypted("unix") as (transport, protocol, peer):
        transport.pause_reading()
        await peer.send(b"x" * 100_000)
        peer.sock.close()
        transport.resume_reading()
        await protocol.lost


async def failing_handshakes(aio):
    loop = asyncio.get_running_loop()
    for context, timeout in ((client_context(trust=False), 60), (client_context(), 0.001)):
        ours, theirs = socket_pair("unix")
        peer = Peer(theirs, True)
        shaking = loop.create_task(peer.handshake() if timeout == 60 else aio.sleep(0))
        with contextlib.suppress(ConnectionError, ssl.SSLError), theirs:
            await loop.create_unix_connection(
                Journal, sock=ours, ssl=context, server_hostname=HOST,
                ssl_handshake_timeout=timeout,
            )  # fmt: skip
        shaking.cancel()
        await asyncio.wait([shaking])
        shaking.cancelled() or shaking.exception()
    await asyncio.sleep(0.001)


async def upgrades(aio):
    loop = asyncio.get_running_loop()
    async with connected("unix") as (plain, protocol, sock):
        peer = Peer(sock, True)
        shaking = loop.create_task(peer.handshake())
        transport = await loop.start_tls(
            plain, protocol, client_context(), server_hostname=HOST
        )
        await shaking
        transport.write(b"hello")
        await peer.receive(5)
        transport.close()
        await peer.unwrap()
        await protocol.lost


async def signals(aio):
    loop = asyncio.get_running_loop()
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    signal.raise_signal(signal.SIGUSR1)
    await until(lambda: seen)
    loop.remove_signal_handler(signal.SIGUSR1)


async def names(aio):
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 80)
    await loop.run_in_executor(None, int)


async def functions_over_tasks(aio):
    async def of(outcome=None):
        await aio.sleep(0)
        if outcome is not None:
            raise outcome

    loop = asyncio.get_running_loop()
    await aio.gather(of(), of(), of(ValueError()), return_exceptions=True)
    with contextlib.suppress(ValueError):
        await aio.gather(of(ValueError()), of())
    never = loop.create_future()
    await aio.wait([never, loop.create_task(of())], timeout=0.0001)
    failing = loop.create_task(of(ValueError()))
    for step in aio.as_completed([of(), failing, never], timeout=0.0001):
        with contextlib.suppress(ValueError, TimeoutError):
            await step
    # Time may be over before its turn.
    with contextlib.suppress(ValueError):
        await failing
    await aio.shield(of())
    aio.shield(never).cancel()
    await aio.wait_for(of(), 10)
    for delay in (0, 0.0001):
        with contextlib.suppress(TimeoutError):
            await aio.wait_for(loop.create_future(), delay)
        with contextlib.suppress(TimeoutError):
            async with aio.timeout(delay):
                await aio.sleep(10)
    with contextlib.suppress(BaseExceptionGroup):
        async with aio.TaskGroup() as group:
            group.create_task(of())
            group.create_task(of(ValueError()))
            await aio.sleep(10)
    outer = aio.gather(aio.sleep(10), aio.sleep(10))
    await aio.sleep(0)
    outer.cancel()
    with contextlib.suppress(aio.CancelledError):
        await outer


async def wrong_calls(aio):
    loop = asyncio.get_running_loop()
    for call in (
        lambda: loop.call_soon(),
        lambda: loop.call_later("x", print),
        lambda: loop.add_reader(-1, print),
        lambda: loop.create_task(12),
        lambda: aio.Future(loop=12),
        lambda: loop.run_forever(),
        lambda: loop.create_future().result(),
    ):
        try:
            call()
        except Exception:
            pass


SCENARIOS = [
    callbacks, failing_callback, futures, tasks, cancelled_tasks, garbage, mixed, eager,
    groups_and_timeouts, never_awaited, lost_tasks, readers, socket_methods, transports,
    blocked_transports, failing_protocols, servers, streams, encrypted_transports,
    blocked_encrypted_transports, failing_handshakes, upgrades, signals, names, wrong_calls,
    functions_over_tasks,
]  # fmt: skip


@pytest.fixture
def full_freelists():
    """Objects kept for reuse are no leak: have as many of them as the lists take."""

    async def main():
        loop = asyncio.get_running_loop()
        many = range(2500)
        futures = [loop.create_future() for _ in many]
        iterators = [iter(future) for future in futures]
        calls = [loop.call_later(100, int) for _ in many]
        calls += [make(int) for _ in many for make in (loop.call_soon, loop.call_soon_threadsafe)]
        tasks = [loop.create_task(aio.sleep(0)) for _ in many]
        await asyncio.wait(tasks)
        for call in calls:
            call.cancel()
        del iterators

    for name in TRIED:
        aio = importlib.import_module(name)
        loop = aio.new_event_loop()
        loop.run_until_complete(main())
        finish(loop)


def rises(aio, scenario, same_loop):
    """By how much the count rises with REPEATS runs, round after round, once caches are filled."""
    loop = aio.new_event_loop()

    def once():
        if same_loop:
            loop.run_until_complete(scenario(aio))
            return
        other = aio.new_event_loop()
        try:
            other.run_until_complete(scenario(aio))
        finally:
            finish(other)

    try:
        for number in range(WARMING + ROUNDS):
            gc.collect()
            before = count()
            for _ in range(REPEATS):
                once()
            gc.collect()
            if number >= WARMING:
                yield count() - before
    finally:
        finish(loop)


@pytest.mark.aioxide_alone  # asyncio is the measure: some of its scenarios do leak
@pytest.mark.parametrize("same_loop", [True, False], ids=["one-loop", "loops"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_references(aio, full_freelists, scenario, same_loop):
    # One object left by every run shows in every round; tables of the interpreter's that
    # grow once in a while do not (asyncio's own rounds settle after some twenty).
    allowed = max(0, min(itertools.islice(rises(asyncio, scenario, same_loop), 5))) + REPEATS
    seen = []
    for rise in rises(aio, scenario, same_loop):
        seen.append(rise)
        if rise < allowed:
            return
    pytest.fail(f"every round left more than the {allowed} allowed: {seen}")
