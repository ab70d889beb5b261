"""Read a line of 64 bytes, 500 of which come at a time."""

import asyncio
import socket
import time

BATCH = 500
LINE = b"a line of sixty-four bytes, its newline included, for a reader.\n"


async def main(operations: int) -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader, writer = await asyncio.open_connection(*server.getsockname())
        peer, _ = server.accept()
    started = time.perf_counter()
    for _ in range(operations // BATCH):
        peer.sendall(LINE * BATCH)
        for _ in range(BATCH):
            await reader.readline()
    took = time.perf_counter() - started
    peer.close()
    writer.close()
    await writer.wait_closed()
    return took
