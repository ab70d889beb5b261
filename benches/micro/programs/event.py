"""Five hundred tasks wait for an event, again and again; one operation is one of them woken."""

import asyncio
import time

TASKS = 500
BATCH = TASKS


async def waits(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


async def main(operations: int) -> float:
    events = [asyncio.Event() for _ in range(operations // TASKS)]
    tasks = [asyncio.create_task(waits(events)) for _ in range(TASKS)]
    await asyncio.sleep(0)
    started = time.perf_counter()
    for event in events:
        event.set()
        await asyncio.sleep(0)
    for task in tasks:
        await task
    return time.perf_counter() - started
