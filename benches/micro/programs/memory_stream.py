"""Resident memory of 3,000 idle TCP connections in a server of streams, whose handlers wait in
read()."""

import asyncio

from .parts.idle import BACKLOG, Arrivals, idle

BATCH = 3000
BYTES = True


async def main(operations: int) -> float:
    arrivals = Arrivals(operations)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrivals.one()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=BACKLOG)
    return await idle(server, arrivals)
