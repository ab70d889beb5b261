"""Two tasks wake each other through fresh futures; one operation is there and back."""

import asyncio
import time

BATCH = 1000


class Table:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ping: asyncio.Future[None] = loop.create_future()
        self.pong: asyncio.Future[None] = loop.create_future()


async def pong(table: Table, times: int) -> None:
    for _ in range(times):
        await table.pong
        table.pong = table.loop.create_future()
        table.ping.set_result(None)


async def main(operations: int) -> float:
    table = Table(asyncio.get_running_loop())
    other = asyncio.create_task(pong(table, operations))
    started = time.perf_counter()
    for _ in range(operations):
        table.ping = table.loop.create_future()
        table.pong.set_result(None)
        await table.ping
    took = time.perf_counter() - started
    await other
    return took
