"""Read a hundred thousand lines of 64 bytes, which come in blocks of 64 KiB."""

import asyncio
import socket
import time

BATCH = 100_000
ONCE = True
LINE = b"a line of sixty-four bytes, its newline included, for a reader.\n"
BLOCK = 64 * 1024


async def main(operations: int) -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader, writer = await asyncio.open_connection(*server.getsockname())
        peer, _ = server.accept()
    # a whole block fits: sendall() must not wait for the reader, which runs in the same thread
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * BLOCK)
    data = memoryview(LINE * operations)
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    started = time.perf_counter()
    for block in blocks:
        peer.sendall(block)
        for _ in range(len(block) // len(LINE)):
            await reader.readline()
    took = time.perf_counter() - started
    peer.close()
    writer.close()
    await writer.wait_closed()
    return took
