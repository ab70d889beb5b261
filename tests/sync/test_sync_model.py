"""Locks and queues in random programs, with tasks cancelled at random.

Each program is played on asyncio, which is the model, and on aioxide: every task must get, return
and raise the same in the same order. And whatever the order: nobody waits for what is free, nobody
is where another must be alone, no item is lost or given twice.

AIOXIDE_SOAK=1 makes it a million operations of each kind.
"""

import asyncio
import os
import random

import pytest

import aioxide
from observing import finish

SOAK = os.environ.get("AIOXIDE_SOAK", "") not in ("", "0")
OPERATIONS = 1_000_000 if SOAK else 3_000
# Iterations in which nothing happens, after which what still waits, waits for ever.
PATIENCE = 50

pytestmark = pytest.mark.hung_after(1800 if SOAK else 60)


def chain(error):
    """An exception's name, and those of its contexts."""
    names = []
    while error is not None:
        names.append(type(error).__name__)
        error = error.__context__
    return names


class Program:
    """Workers that do random things with one primitive; `trace` is all that happened."""

    def __init__(self, aio, seed):
        self.aio = aio
        self.random = random.Random(seed)
        self.trace = []
        self.tasks = []

    def work(self):
        """One operation, as an awaitable."""
        raise NotImplementedError

    def check(self, stuck):
        """After all: what must hold, whatever happened. `stuck` workers had to be cancelled."""

    async def pause(self):
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(0)

    async def worker(self, number, operations):
        for _ in range(operations):
            if self.random.random() < 0.15:
                self.tasks[self.random.randrange(len(self.tasks))].cancel()
            if self.random.random() < 0.2:
                self.trace.append((number, "pauses"))
            try:
                self.trace.append((number, await self.work()))
                await self.pause()
            except (Exception, asyncio.CancelledError) as error:
                self.trace.append((number, chain(error)))
                if self.random.random() < 0.2:
                    await self.handling(number)

    async def handling(self, number):
        """An operation where an exception is being handled: it is the context of the next."""
        try:
            self.trace.append((number, "handling", await self.work()))
        except (Exception, asyncio.CancelledError) as error:
            self.trace.append((number, "handling", chain(error)))

    async def main(self, workers, operations):
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self.worker(number, operations)) for number in range(workers)]
        quiet = 0
        while quiet < PATIENCE and not all(task.done() for task in self.tasks):
            happened = len(self.trace)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self.trace) == happened else 0
        stuck = [number for number, task in enumerate(self.tasks) if not task.done()]
        while not all(task.done() for task in self.tasks):
            for task in self.tasks:
                task.cancel()
            await asyncio.sleep(0)
        self.check(stuck)
        self.trace.append(stuck)


class Alone(Program):
    """Programs over the primitives that only `places` tasks may have at once."""

    places = 1

    def __init__(self, aio, seed):
        super().__init__(aio, seed)
        self.item = self.make()
        self.inside = 0

    async def work(self):
        async with self.item:
            self.inside += 1
            assert self.inside <= self.places
            try:
                await self.pause()
                return self.inside
            finally:
                self.inside -= 1

    def check(self, stuck):
        assert not stuck and self.inside == 0
        assert not self.item.locked() and not self.item._waiters


class Lock(Alone):
    def make(self):
        return self.aio.Lock()


class Semaphore(Alone):
    def make(self):
        self.places = self.random.randrange(1, 4)
        return self.aio.Semaphore(self.places)

    def check(self, stuck):
        super().check(stuck)
        assert self.item._value == self.places


class BoundedSemaphore(Semaphore):
    def make(self):
        self.places = self.random.randrange(1, 4)
        return self.aio.BoundedSemaphore(self.places)


class Event(Program):
    def __init__(self, aio, seed):
        super().__init__(aio, seed)
        self.item = aio.Event()

    async def work(self):
        choice = self.random.randrange(4)
        if choice == 0:
            return self.item.set()
        if choice == 1:
            return self.item.clear()
        return await self.item.wait()

    def check(self, stuck):
        assert not self.item._waiters


class Condition(Program):
    def __init__(self, aio, seed):
        super().__init__(aio, seed)
        self.item = aio.Condition(*[aio.Semaphore(1)] * self.random.randrange(2))
        self.number = 0

    async def work(self):
        choice = self.random.randrange(5)
        async with self.item:
            assert self.item.locked()
            if choice == 0:
                return self.item.notify(self.random.randrange(4))
            if choice == 1:
                return self.item.notify_all()
            if choice == 2:
                self.number += 1
                return self.item.notify(1)
            if choice == 3:
                odd = self.random.randrange(2)
                result = await self.item.wait_for(lambda: self.number % 2 == odd)
            else:
                result = await self.item.wait()
            assert self.item.locked()
            await self.pause()
            return result, self.number

    def check(self, stuck):
        assert not self.item.locked() and not self.item._waiters


class Barrier(Program):
    def __init__(self, aio, seed):
        super().__init__(aio, seed)
        self.item = aio.Barrier(self.random.randrange(1, 4))

    async def work(self):
        choice = self.random.randrange(12)
        if choice == 0:
            return await self.item.reset()
        if choice == 1 and self.random.random() < 0.2:
            return await self.item.abort()
        self.trace.append((self.item.n_waiting, self.item.broken))
        return await self.item.wait()

    def check(self, stuck):
        assert self.item._count == 0 and self.item.n_waiting == 0


class Queue(Program):
    kind = "Queue"

    def __init__(self, aio, seed):
        super().__init__(aio, seed)
        self.item = getattr(aio, self.kind)(self.random.randrange(4))
        self.number = 0
        self.put, self.got = set(), []

    async def work(self):
        choice = self.random.randrange(9)
        if choice < 3:
            self.number += 1
            # not in the order of the numbers, for those that sort
            number = self.number * 7919 % 10007 * 100_000 + self.number
            if choice == 0:
                self.item.put_nowait(number)
            else:
                await self.item.put(number)
            self.put.add(number)
            return number
        if choice < 6:
            self.got.append(self.item.get_nowait() if choice == 3 else await self.item.get())
            return self.got[-1]
        if choice < 8:
            return self.item.task_done()
        if self.random.random() < 0.1:
            return await self.item.join()
        return repr(self.item).partition(" maxsize")[2]

    def check(self, stuck):
        left = []
        while not self.item.empty():
            left.append(self.item.get_nowait())
        assert sorted(self.got + left) == sorted(self.put)
        assert not any(not waiter.done() for waiter in (*self.item._getters, *self.item._putters))


class PriorityQueue(Queue):
    kind = "PriorityQueue"


class LifoQueue(Queue):
    kind = "LifoQueue"


@pytest.mark.parametrize(
    "program",
    [Lock, Semaphore, BoundedSemaphore, Event, Condition, Barrier, Queue, PriorityQueue, LifoQueue],
)
def test_programs(program, agree):
    loops = {aio: aio.new_event_loop() for aio in (asyncio, aioxide)}
    done = 0
    seed = 0
    while done < OPERATIONS:
        sizes = random.Random(seed)
        workers = sizes.randrange(1, 13 if SOAK else 8)
        operations = sizes.randrange(1, 120 if SOAK else 40)
        played = []
        for aio, loop in loops.items():
            played.append(program(aio, seed))
            loop.run_until_complete(played[-1].main(workers, operations))
        assert played[0].trace == played[1].trace, f"seed {seed}: aioxide and asyncio differ"
        done += workers * operations
        seed += 1
    for loop in loops.values():
        finish(loop)
