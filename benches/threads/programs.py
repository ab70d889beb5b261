"""What the loops of scaling.py do: each function makes the main coroutine function of one thread.

The functions that the loop calls are made anew for each thread: one of the module's would be shared
by the threads, and each call would change the number of references to it. The rows that begin with
`shared` measure just such things.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

# Runs until the time on perf_counter() and returns the number of operations.
Main = Callable[[float], Coroutine[Any, Any, int]]
# What a program is given makes its loops, where it needs others than the one that it runs on.
Factory = Callable[[], asyncio.AbstractEventLoop]

MESSAGE = b"x" * 64
# Operations between two looks at the clock.
BATCH = 200


def is_over(end: float) -> bool:
    return time.perf_counter() >= end


def sleep(factory: Factory) -> Main:
    """`sleep(0)` in fifty tasks."""

    async def main(end: float) -> int:
        async def one() -> int:
            count = 0
            while not is_over(end):
                for _ in range(BATCH):
                    await asyncio.sleep(0)
                count += BATCH
            return count

        return sum(await asyncio.gather(*(one() for _ in range(50))))

    return main


def call_chains(make_step: Callable[[Callable[[], None]], Callable[[], None]]) -> Main:
    """Twenty chains of callbacks, each of which schedules the next."""

    async def main(end: float) -> int:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        count = 0

        def step() -> None:
            nonlocal count
            count += 1
            if count % BATCH == 0 and is_over(end):
                if not done.done():
                    done.set_result(None)
                return
            loop.call_soon(scheduled)

        scheduled = make_step(step)
        for _ in range(20):
            loop.call_soon(scheduled)
        await done
        return count

    return main


def call_soon(factory: Factory) -> Main:
    """A callback."""
    return call_chains(lambda step: step)


def tasks(factory: Factory) -> Main:
    """A task that returns at once, made and awaited."""

    async def main(end: float) -> int:
        async def nothing() -> None:
            pass

        loop = asyncio.get_running_loop()
        count = 0
        while not is_over(end):
            for _ in range(BATCH):
                await loop.create_task(nothing())
            count += BATCH
        return count

    return main


def gather(factory: Factory) -> Main:
    """One of a hundred coroutines that return at once."""

    async def main(end: float) -> int:
        async def nothing() -> None:
            pass

        count = 0
        while not is_over(end):
            await asyncio.gather(*(nothing() for _ in range(100)))
            count += 100
        return count

    return main


def queue(factory: Factory) -> Main:
    """An item through a queue of ten places."""

    async def main(end: float) -> int:
        items: asyncio.Queue[int | None] = asyncio.Queue(10)

        async def put() -> None:
            while not is_over(end):
                for number in range(BATCH):
                    await items.put(number)
            await items.put(None)

        putting = asyncio.get_running_loop().create_task(put())
        count = 0
        while await items.get() is not None:
            count += 1
        await putting
        return count

    return main


def timers(factory: Factory) -> Main:
    """A timer, scheduled and cancelled; one of a hundred is let run."""

    async def main(end: float) -> int:
        def nothing() -> None:
            pass

        loop = asyncio.get_running_loop()
        count = 0
        while not is_over(end):
            handles = [loop.call_later(10 + number, nothing) for number in range(BATCH)]
            for handle in handles:
                handle.cancel()
            fired = loop.create_future()
            loop.call_later(0, fired.set_result, None)
            await fired
            count += BATCH
        return count

    return main


def make_echo() -> type[asyncio.Protocol]:
    """A protocol class of this thread's that sends back what comes."""

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)  # type: ignore[attr-defined]

    return Echo


def make_client(end: float, done: asyncio.Future[int]) -> type[asyncio.Protocol]:
    """A protocol class of this thread's that keeps one message under way."""

    class Client(asyncio.Protocol):
        count = missing = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.send()

        def send(self) -> None:
            self.missing = len(MESSAGE)
            self.transport.write(MESSAGE)  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            self.missing -= len(data)
            if self.missing:
                return
            self.count += 1
            if self.count % 20 == 0 and is_over(end):
                done.set_result(self.count)
                self.transport.close()
            else:
                self.send()

    return Client


def socketpair(factory: Factory) -> Main:
    """64 bytes there and back through a socketpair, by protocols."""

    async def main(end: float) -> int:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        done: asyncio.Future[int] = loop.create_future()
        transport, _ = await loop.create_connection(make_echo(), sock=ours)
        await loop.create_connection(make_client(end, done), sock=theirs)
        count = await done
        transport.close()
        await asyncio.sleep(0)
        return count

    return main


def tcp(factory: Factory) -> Main:
    """64 bytes there and back through TCP, by protocols; ten connections."""

    async def main(end: float) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(make_echo(), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        ended: list[asyncio.Future[int]] = [loop.create_future() for _ in range(10)]
        for done in ended:
            await loop.create_connection(make_client(end, done), *address)
        count = sum(await asyncio.gather(*ended))
        server.close()
        await asyncio.sleep(0)
        return count

    return main


def streams(factory: Factory) -> Main:
    """64 bytes there and back through TCP, by streams; ten connections."""

    async def main(end: float) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1000):
                writer.write(data)
            writer.close()

        async def talk() -> int:
            reader, writer = await asyncio.open_connection(*address)
            count = 0
            while not is_over(end):
                for _ in range(20):
                    writer.write(MESSAGE)
                    await reader.readexactly(len(MESSAGE))
                count += 20
            writer.close()
            await writer.wait_closed()
            return count

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        count = sum(await asyncio.gather(*(talk() for _ in range(10))))
        server.close()
        await asyncio.sleep(0)
        return count

    return main


def nothing() -> None:
    """The one function that all threads schedule."""


def shared_function(factory: Factory) -> Main:
    """A callback, the same function in all threads."""

    async def main(end: float) -> int:
        loop = asyncio.get_running_loop()
        count = 0
        while not is_over(end):
            for _ in range(BATCH):
                loop.call_soon(nothing)
            await asyncio.sleep(0)
            count += BATCH
        return count

    return main


VARIABLES = [contextvars.ContextVar[int](f"variable {number}") for number in range(5)]


def inherited() -> contextvars.Context:
    """A context with values, as threads that are started by a thread with values inherit it."""
    context = contextvars.Context()
    for variable in VARIABLES:
        context.run(variable.set, 1)
    return context


def shared_context(factory: Factory) -> Main:
    """A callback, in threads that have inherited a context with values."""
    return call_soon(factory)


def shared_lists(factory: Factory) -> Main:
    """A loop made, run for a coroutine that returns at once, and closed, as asyncio.run() does. Its
    list of the tasks that are left needs all threads to stand still."""

    async def main(end: float) -> int:
        raise NotImplementedError

    return main


def run_again(factory: Factory, end: float) -> int:
    """The body of `shared_lists`, which has no loop around it."""

    async def nothing() -> None:
        pass

    count = 0
    while not is_over(end):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(nothing())
        count += 1
    return count


# program, title
ROWS: dict[str, str] = {
    "sleep": "sleep(0), fifty tasks",
    "call_soon": "call_soon",
    "tasks": "create and await a task",
    "gather": "gather of a hundred",
    "queue": "queue, one to one",
    "timers": "timer: schedule and cancel",
    "socketpair": "socketpair echo, protocols",
    "tcp": "TCP echo, protocols",
    "streams": "TCP echo, streams",
    "shared_function": "call_soon, one function for all",
    "shared_context": "call_soon, inherited context",
    "shared_lists": "asyncio.run again and again",
}
