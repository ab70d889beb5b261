"""Fifty clients write a line of 64 bytes and read it back from a server of streams in the loop."""

import asyncio
import time

CLIENTS = 50
BATCH = CLIENTS
LINE = b"a line of sixty-four bytes, its newline included, for a reader.\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def client(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], times: int) -> None:
    reader, writer = stream
    for _ in range(times):
        writer.write(LINE)
        await writer.drain()
        await reader.readline()


async def main(operations: int) -> float:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    streams = [await asyncio.open_connection(*address) for _ in range(CLIENTS)]
    started = time.perf_counter()
    clients = [asyncio.create_task(client(stream, operations // CLIENTS)) for stream in streams]
    for task in clients:
        await task
    took = time.perf_counter() - started
    for _, writer in streams:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return took
