"""Whatever the loop makes is an instance of asyncio's own classes."""

import asyncio
import socket

from peers import Journal, connected


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
