"""Scenarios of streams: readers by themselves, and over sockets."""

import asyncio
import contextlib
import gc

from scenarios import on_loop, whole


def at_once(coroutine):
    """Runs a coroutine that need not wait."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
    coroutine.close()


@on_loop
async def readers(aio, loop):
    reader = aio.StreamReader(limit=100)
    reader.feed_data(b"a line\nanother\n" + b"x" * 50)
    for read in (lambda: reader.readline(), lambda: reader.readuntil(b"\n"),
                 lambda: reader.readexactly(3), lambda: reader.read(3), lambda: reader.__anext__()):
        read().close()
        at_once(read())
        task = loop.create_task(read())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    reader.feed_data(bytearray(b"more"))
    buffer = reader._buffer
    reader.feed_data(b"and more")
    del buffer
    with contextlib.suppress(ValueError):
        reader.feed_data(b"y" * 300)
        await reader.readline()
    waiting = loop.create_task(reader.read())
    await asyncio.sleep(0)
    reader.feed_data(b"the last")
    reader.feed_eof()
    await waiting
    for read in reader.readexactly(5), reader.readuntil(b";"):
        with contextlib.suppress(asyncio.IncompleteReadError):
            await read
    reader.set_exception(ValueError(object()))
    with contextlib.suppress(ValueError):
        await reader.read(1)


@on_loop
async def readers_that_hold_themselves(aio, loop):
    for wait in (False, True):
        reader = aio.StreamReader()
        reader.myself = reader
        reader.coroutine = reader.readline()
        if wait:
            reader.coroutine.send(None)
        del reader
        gc.collect()


@on_loop
async def writers(aio, loop):
    async def serve(reader, writer):
        writer.write(b"x" * 5_000_000)
        writer.close()
        writer.myself = writer

    server = await aio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for orderly in (True, False):
        reader, writer = await aio.open_connection(*address, limit=1000)
        await reader.readexactly(10_000)
        if orderly:
            await reader.read()
        writer.write(b"y" * 5_000_000)
        draining = [loop.create_task(writer.drain()) for _ in range(2)]
        await asyncio.sleep(0)
        draining[0].cancel()
        writer.transport.abort()
        await asyncio.wait(draining)
        for task in draining:
            if not task.cancelled():
                task.exception()
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.01)


@whole
def streams_never_closed(aio):
    loop = aio.new_event_loop()

    async def main():
        server = await aio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        opened = await aio.open_connection(*server.sockets[0].getsockname())
        opened[0].pending = opened[0].readline()
        opened[0].pending.send(None)
        server.close()

    loop.set_exception_handler(lambda loop, report: None)
    loop.run_until_complete(main())
    gc.collect()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
