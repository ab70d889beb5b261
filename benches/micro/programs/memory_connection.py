"""Resident memory of 3,000 idle TCP connections in a server of protocols."""

import asyncio

from .parts.idle import BACKLOG, Arrivals, idle

BATCH = 3000
BYTES = True


class Idle(asyncio.Protocol):
    def __init__(self, arrivals: Arrivals) -> None:
        self.arrivals = arrivals

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.arrivals.one()


async def main(operations: int) -> float:
    loop = asyncio.get_running_loop()
    arrivals = Arrivals(operations)
    server = await loop.create_server(lambda: Idle(arrivals), "127.0.0.1", 0, backlog=BACKLOG)
    return await idle(server, arrivals)
