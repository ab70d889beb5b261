"""Scenarios of locks and queues."""

import asyncio
import contextlib
import copy

from scenarios import on_loop, whole


async def pause(times=3):
    for _ in range(times):
        await asyncio.sleep(0)


async def end(tasks):
    for task in tasks:
        task.cancel(object())
    await asyncio.gather(*tasks, return_exceptions=True)


@on_loop
async def locks(aio, loop):
    for lock in aio.Lock(), aio.Semaphore(1), aio.BoundedSemaphore(1), aio.Condition():
        lock.itself = lock
        repr(lock), copy.copy(lock)

        async def use():
            async with lock:
                await asyncio.sleep(0)

        tasks = [loop.create_task(use()) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.wait(tasks)
        await lock.acquire()
        tasks = [loop.create_task(use()) for _ in range(3)]
        await pause()
        lock.release()
        tasks[0].cancel()
        await pause(10)
        list(getattr(lock, "_waiters", None) or ())
        with contextlib.suppress(ValueError, RuntimeError):
            lock.release()


@on_loop
async def conditions_and_events(aio, loop):
    event, condition = aio.Event(), aio.Condition(aio.Semaphore(1))

    async def wait():
        await event.wait()
        async with condition:
            await condition.wait()

    async def wait_for():
        async with condition:
            await condition.wait_for(lambda: 1 // (1 - event.is_set()))

    tasks = [loop.create_task(work()) for work in (wait, wait_for) for _ in range(4)]
    await pause()
    event.set()
    await pause(10)
    async with condition:
        condition.notify(3)
    tasks[1].cancel()
    await pause(10)
    await end(tasks)


@on_loop
async def barriers(aio, loop):
    barrier = aio.Barrier(3)
    tasks = [loop.create_task(barrier.wait()) for _ in range(5)]
    await pause(10)
    await barrier.reset()
    tasks.append(loop.create_task(barrier.wait()))
    await pause()
    await barrier.abort()
    await pause(10)
    await end(tasks)


@on_loop
async def queues(aio, loop):
    class Own(aio.Queue):
        def _put(self, item):
            self._queue.append(item)

        def _get(self):
            return self._queue.pop()

    for kind in aio.Queue, aio.LifoQueue, aio.PriorityQueue, Own:
        queue = kind(2)
        getting = [loop.create_task(queue.get()) for _ in range(3)]
        await pause()
        putting = [loop.create_task(queue.put((number, object()))) for number in range(8)]
        joining = loop.create_task(queue.join())
        await pause(10)
        repr(queue), copy.copy(queue), list(queue._queue), queue._finished
        queue.task_done()
        queue.get_nowait()
        putting[-1].cancel()
        await end([*getting, *putting, joining])
        queue.itself = queue
        getattr(queue, "shutdown", print)()


@whole
def waits_left_to_a_closed_loop(aio):
    loop = aio.new_event_loop()
    items = [aio.Lock(), aio.Event(), aio.Queue(), aio.Condition(), aio.Barrier(2), aio.Semaphore(0)]

    async def main():
        await items[0].acquire()
        await items[3].acquire()
        return [
            asyncio.ensure_future(work)
            for work in (
                items[0].acquire(),
                items[1].wait(),
                items[2].get(),
                items[3].wait(),
                items[4].wait(),
                items[5].acquire(),
                items[2].join(),
            )
        ]

    tasks = loop.run_until_complete(main())
    loop.run_until_complete(pause())
    for task in tasks:
        task._log_destroy_pending = False
    items.append(tasks)
    loop.close()


@whole
def never_awaited(aio):
    for coroutine in aio.Lock().acquire(), aio.Queue().put(object()), aio.Condition().wait_for(object()):
        coroutine.close()
    aio.Queue().put(object())
