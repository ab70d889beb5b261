"""Ends a call at one of its awaits, and looks at what that leaves behind."""

import asyncio
import contextlib
import gc
import inspect
import os

from observing import descriptors

# Seconds; nothing here takes longer than some milliseconds.
DEADLINE = 10


class Failed(Exception):
    """What a call meets at its await instead of what it waits for."""


class Interruption:
    """Awaits `awaitable`, and ends it at its await number `at`, counted from 1.

    `how` it ends: "cancelled" as soon as it waits; "late", cancelled when what it waits for has
    just come, before it goes on; "failed", what it waits for is given up, and an exception comes.
    """

    def __init__(self, awaitable, at, how):
        self.awaitable, self.at, self.how = awaitable, at, how
        self.awaits = 0

    @property
    def reached(self):
        return self.awaits >= self.at

    def __await__(self):
        step, value = self.awaitable.__await__(), None
        while True:
            try:
                yielded = step.throw(value) if value is not None else step.send(None)
            except StopIteration as stop:
                return stop.value
            self.awaits += 1
            now = self.awaits == self.at
            if now and self.how == "failed":
                if yielded is not None:
                    yielded.cancel()
            elif now:
                task = asyncio.current_task()
                if self.how == "late" and yielded is not None:
                    yielded.add_done_callback(lambda future: task.cancel())
                else:
                    task.cancel()
            value = None
            try:
                yield yielded
            except BaseException as error:
                value = error
            if now and self.how == "failed":
                value = Failed()


class Counted(asyncio.Protocol):
    """A protocol that counts; `balanced` once all is well."""

    def __init__(self, world):
        self.world = world
        self.made = self.lost = 0
        self.received = bytearray()
        world.protocols.append(self)

    def connection_made(self, transport):
        self.made += 1
        self.transport = transport

    def data_received(self, data):
        self.received += data

    def datagram_received(self, data, address):
        self.received += data

    def error_received(self, error):
        pass

    def connection_lost(self, error):
        self.lost += 1

    # of a subprocess
    def pipe_data_received(self, fd, data):
        self.received += data

    def pipe_connection_lost(self, fd, error):
        pass

    def process_exited(self):
        pass


class World:
    """What one call is made in: the loop, whatever the call needs, all that was seen."""

    def __init__(self, loop, folder):
        self.loop = loop
        self.folder = folder
        self.protocols = []
        self.reports = []
        self.stack = contextlib.AsyncExitStack()

    def protocol(self):
        return Counted(self)

    def later(self, call, *args):
        """Calls when the call under test has had time to wait, in most cases."""
        handle = self.loop.call_later(0.002, call, *args)
        self.stack.callback(handle.cancel)

    async def balance(self):
        """Ends all connections; each that was made must be lost, once."""
        for protocol in self.protocols:
            if protocol.made and not protocol.lost:
                # who only closes may wait for a peer that has no more to say
                transport = protocol.transport
                getattr(transport, "abort", transport.close)()
        await self.until(
            lambda: all(protocol.made == protocol.lost for protocol in self.protocols),
            lambda: f"made and lost: {[(one.made, one.lost) for one in self.protocols]}",
        )
        assert all(protocol.made <= 1 for protocol in self.protocols)

    async def until(self, condition, text):
        end = self.loop.time() + DEADLINE
        while not condition():
            assert self.loop.time() < end, text()
            await asyncio.sleep(0.001)


def _opened(before):
    gc.collect()
    return {fd: name for fd, name in descriptors().items() if before.get(fd) != name}


async def _settle():
    for _ in range(3):
        await asyncio.sleep(0)


async def interrupt(call, at, how, folder):
    """Plays `call`, an async generator function that yields one awaitable, and ends that at its
    await number `at`: whether it waited that often.

    Nothing may be left afterwards, and no descriptor closed that is another's by then.
    """
    loop = asyncio.get_running_loop()
    world = World(loop, folder)
    loop.set_exception_handler(lambda loop, report: world.reports.append(report))
    gc.collect()
    before = descriptors()
    others = asyncio.all_tasks()
    scene = call(world)
    async with world.stack:
        awaitable = await scene.asend(None)
        interruption = Interruption(awaitable, at, how)

        async def play():
            return await interruption

        task = asyncio.ensure_future(play())
        done, _ = await asyncio.wait([task], timeout=DEADLINE)
        assert done, "hangs"
        # These get the numbers of the descriptors that were closed. Whoever closes one of those
        # again takes it from them.
        strangers = {os.open("/dev/null", os.O_RDONLY) for _ in range(8)}
        result = None
        if task.cancelled():
            assert interruption.reached
        elif (error := task.exception()) is not None:
            if not (interruption.reached and isinstance(error, (Failed, asyncio.CancelledError))):
                raise error
        else:
            result = task.result()
        # an exception holds the frames that it came through
        error = None
        del task, done
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        interruption.awaitable = awaitable = None
        await _settle()
        with contextlib.suppress(StopAsyncIteration):
            await scene.asend(result)
        del result
        await world.balance()
    await _settle()
    gc.collect()
    await _settle()
    for fd in strangers:
        assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null", "another's descriptor was closed"
        os.close(fd)
    await world.until(
        lambda: not _opened(before), lambda: f"descriptors left open: {_opened(before)}"
    )
    assert all(fd in descriptors() for fd in before), "another's descriptor was closed"
    await world.until(
        lambda: asyncio.all_tasks() <= others, lambda: f"left: {asyncio.all_tasks() - others}"
    )
    reports, world.reports = world.reports, []
    assert reports == []
    loop.set_exception_handler(None)
    return interruption.reached
