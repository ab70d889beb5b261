"""Whatever the loop makes is an instance of asyncio's own classes."""

import _socket
import asyncio
import io
import os
import posix
import select
import socket
import sys

import pytest

from peers import Journal, connected


SYSTEMS = (_socket.socket, select.epoll, io.FileIO)


def test_loops(aio, loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert isinstance(loop, asyncio.SelectorEventLoop)
    if aio is not asyncio:
        assert isinstance(loop, aio.Loop)


def test_futures_tasks_and_handles(loop):
    async def main():
        assert isinstance(asyncio.get_running_loop(), asyncio.AbstractEventLoop)
        assert isinstance(asyncio.current_task(), asyncio.Task)

    future = loop.create_future()
    assert isinstance(future, asyncio.Future) and asyncio.isfuture(future)
    future.cancel()
    task = loop.create_task(main())
    assert isinstance(task, asyncio.Task) and isinstance(task, asyncio.Future)
    loop.run_until_complete(task)
    handle = loop.call_soon(print)
    timer = loop.call_later(10, print)
    threadsafe = loop.call_soon_threadsafe(print)
    assert isinstance(handle, asyncio.Handle) and not isinstance(handle, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.TimerHandle) and isinstance(timer, asyncio.Handle)
    assert isinstance(threadsafe, asyncio.Handle)
    for item in handle, timer, threadsafe:
        item.cancel()


def test_issubclass(aio):
    for name in ("Future", "Task", "Handle", "TimerHandle"):
        assert issubclass(getattr(aio, name), getattr(asyncio, name))
    assert issubclass(aio.Task, aio.Future) and issubclass(aio.TimerHandle, aio.Handle)


def test_transports_and_servers(run):
    async def main():
        async with connected("tcp") as (transport, protocol, peer):
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.ReadTransport)
            assert isinstance(transport, asyncio.WriteTransport)
            assert isinstance(transport, asyncio.BaseTransport)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Journal, "127.0.0.1", 0)
        assert isinstance(server, asyncio.AbstractServer)
        assert isinstance(server, asyncio.Server)
        server.close()
        await server.wait_closed()

    run(main)


def test_the_socket_of_a_transport(agree):
    async def scenario(case):
        async with connected("tcp") as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            case.record(type(sock), isinstance(sock, socket.socket))
            case.record(sock.fileno() >= 0, sock.family, sock.type, sock.proto, sock.gettimeout())
            case.record(sock.getsockname() == peer.getpeername())
            case.record(sock.getpeername() == peer.getsockname())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            case.record(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            for call in ("setblocking", "settimeout"):
                with case.catch(call):
                    getattr(sock, call)(0)
                with case.catch(call):
                    getattr(sock, call)(1)
            for name in ("send", "recv", "close", "dup", "shutdown"):
                case.record(name, hasattr(sock, name))
            duplicate = sock.dup()
            case.record(duplicate.fileno() != sock.fileno())
            duplicate.close()
            transport.close()
            await protocol.lost
        await asyncio.sleep(0)
        case.record(sock.fileno())

    record = agree(scenario)
    assert record[0] == ("TransportSocket", False) and record[-1] == (-1,)


def test_public_methods_have_asyncios_signatures(aio, loop):
    """Every public method of asyncio's loop is there."""
    reference = asyncio.SelectorEventLoop()
    try:
        for name in dir(reference):
            if not name.startswith("_"):
                assert callable(getattr(loop, name)) == callable(getattr(reference, name)), name
    finally:
        reference.close()


def test_runner_modules_see_the_loop_as_running(aio, run):
    async def main():
        loop = asyncio.get_running_loop()
        assert asyncio.get_event_loop() is loop
        assert asyncio.events._get_running_loop() is loop
        assert loop.is_running()

    run(main)


@pytest.mark.aioxide_alone
def test_system_calls_are_not_made_through_pythons_modules(run):
    """Tools that look for blocking calls in C functions of `os` and `socket` find none of ours."""
    called = []

    def watch(frame, event, function):
        owner = getattr(function, "__self__", None)
        # closing is the socket object's own matter
        if event != "c_call" or function.__name__ == "close":
            return
        if owner is posix or isinstance(owner, SYSTEMS):
            called.append((function.__name__, frame.f_code.co_filename))

    async def main():
        loop = asyncio.get_running_loop()
        async with connected("tcp") as (transport, protocol, theirs):
            ours, other = socket.socketpair()
            with ours, other:
                ours.setblocking(False)
                other.setblocking(False)
                ends = os.pipe()
                reading, got = await loop.connect_read_pipe(Journal, open(ends[0], "rb", 0))
                writing, _ = await loop.connect_write_pipe(Journal, open(ends[1], "wb", 0))
                theirs.send(b"hello")
                sys.setprofile(watch)
                try:
                    transport.write(b"data")
                    writing.write(b"data")
                    await loop.sock_sendall(ours, b"data")
                    assert await loop.sock_recv(other, 10) == b"data"
                    await asyncio.sleep(0.001)
                    while not (protocol.received and got.received):
                        await asyncio.sleep(0)
                finally:
                    sys.setprofile(None)
                writing.close()
                await got.lost
                reading.close()

    run(main)
    assert called == []
