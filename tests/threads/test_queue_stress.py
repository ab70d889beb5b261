"""A queue under load from threads and the tasks of two loops, with timeouts and cancelled calls:
no item is lost or comes twice, and nobody waits for ever. AIOXIDE_SOAK=1 plays a hundred times as
much."""

import asyncio
import contextlib
import os
import queue
import random
import threading

import pytest

import aioxide
from aioxide.threads import LifoQueue, PriorityQueue, Queue, QueueShutDown, ShutDown

ROUNDS = 100 if os.environ.get("AIOXIDE_SOAK") else 1
ITEMS = 150


class Play:
    """Producers and consumers of one queue."""

    def __init__(self, q, seed):
        self.q = q
        self.seed = seed
        self.got = []
        self.errors = []
        self.producers = 0
        self.lock = threading.Lock()

    def items(self, number):
        return [(number, item) for item in range(ITEMS)]

    def produced(self):
        """A producer is done; the last one shuts the queue down."""
        with self.lock:
            self.producers -= 1
            if not self.producers:
                self.q.shutdown()

    # Threads.

    def put_all(self, number):
        chance = random.Random(f"{self.seed} put {number}")
        for item in self.items(number):
            while True:
                try:
                    self.q.sync_q.put(item, timeout=chance.choice([None, 0, 0.0001, 1]))
                    break
                except queue.Full:
                    pass
        self.produced()

    def get_all(self, number):
        chance = random.Random(f"{self.seed} get {number}")
        with contextlib.suppress(ShutDown):
            while True:
                try:
                    item = self.q.sync_q.get(timeout=chance.choice([None, 0, 0.0001, 1]))
                except queue.Empty:
                    continue
                self.got.append(item)
                self.q.sync_q.task_done()

    def thread(self, function, number):
        def run():
            try:
                function(number)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    # Tasks, whose calls are cancelled at random moments.

    async def put_all_async(self, number):
        chance = random.Random(f"{self.seed} aput {number}")
        for item in self.items(number):
            done = []

            async def put(item=item, done=done):
                await self.q.async_q.put(item)
                done.append(item)

            while not done:
                await impatiently(put(), chance)
        self.produced()

    async def get_all_async(self, number):
        chance = random.Random(f"{self.seed} aget {number}")
        ends = []

        async def get():
            try:
                item = await self.q.async_q.get()
            except QueueShutDown:
                ends.append(True)
                return
            self.got.append(item)
            self.q.async_q.task_done()

        while not ends:
            await impatiently(get(), chance)


async def impatiently(coroutine, chance):
    """Run a coroutine, and cancel it after some iterations, or never."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(chance.choice([0, 1, 2, 3, 1000])):
        if task.done():
            break
        await asyncio.sleep(chance.choice([0, 0, 0.0001]))
    if chance.random() < 0.5:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.hung_after(60 * ROUNDS)
@pytest.mark.parametrize("maxsize", [0, 1, 3])
@pytest.mark.parametrize("class_", [Queue, LifoQueue, PriorityQueue])
def test_nothing_is_lost(loop_factory, class_, maxsize):
    for seed in range(ROUNDS):
        play = Play(class_(maxsize), f"{class_.__name__} {maxsize} {seed}")
        play.producers = 4

        async def main(number, play=play):
            await asyncio.gather(
                play.put_all_async(10 + number),
                play.get_all_async(10 + number),
                play.get_all_async(20 + number),
            )
            if number == 0:
                await play.q.async_q.join()

        threads = [
            play.thread(function, number)
            for number in range(2)
            for function in (play.put_all, play.get_all)
        ]
        aioxide.run_in_threads(main, loops=2, loop_factory=loop_factory)
        for thread in threads:
            thread.join()
        assert play.errors == []
        expected = [item for number in (0, 1, 10, 11) for item in play.items(number)]
        assert sorted(play.got) == expected
        exchange = play.q._exchange
        for line in (exchange.getters, exchange.putters, exchange.joiners):
            assert not line.waiting and not line.called
        assert play.q.unfinished_tasks == 0 and not exchange._given_up


def test_the_order_of_one_producer_is_kept(loop_factory):
    """A consumer sees the items of each producer in their order."""
    q = Queue(5)
    count = 300

    def put_all():
        for item in range(count):
            q.sync_q.put(item)
        q.shutdown()

    async def main(number):
        got = []
        with contextlib.suppress(QueueShutDown):
            while True:
                got.append(await q.async_q.get())
        return got

    thread = threading.Thread(target=put_all)
    thread.start()
    got = aioxide.run_in_threads(main, loops=2, loop_factory=loop_factory)
    thread.join()
    for items in got:
        assert items == sorted(items)
    assert sorted(got[0] + got[1]) == list(range(count))


def test_short_lived_loops(loop_factory):
    """Loops that end while items are on their way to their tasks lose none."""
    q = Queue()
    count = 400
    got = []

    def consume(seed):
        chance = random.Random(f"short {seed}")

        async def get():
            with contextlib.suppress(QueueShutDown):
                while True:
                    got.append(await q.async_q.get())

        async def main():
            tasks = [asyncio.ensure_future(get()) for _ in range(3)]
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(chance.choice([0, 0.0005]))
            return tasks[0].done()

        is_over = False
        while not is_over:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                is_over = runner.run(main())

    threads = [threading.Thread(target=consume, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for item in range(count):
        q.sync_q.put(item)
    q.shutdown()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(count))
