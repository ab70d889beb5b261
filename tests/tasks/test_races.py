"""Cancellations, timeouts and completions that meet in one iteration: what asyncio's own code for
them does on our Tasks and Futures; and that no waiter is forgotten."""

import asyncio
import random
import sys

import pytest


async def iterations(count):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("outer", range(4))
@pytest.mark.parametrize("inner", range(4))
def test_wait_for_whose_result_comes_with_the_cancellation(agree, inner, outer):
    async def scenario(case):
        future = case.loop.create_future()
        waiting = case.loop.create_task(asyncio.wait_for(future, 1000))
        await asyncio.sleep(0)

        async def after(count, call, *args):
            await iterations(count)
            call(*args)

        await asyncio.gather(
            after(inner, lambda: future.done() or future.set_result("result")),
            after(outer, waiting.cancel),
        )
        with case.catch():
            case.record(await waiting)
        case.record(future.cancelled(), waiting.cancelled())

    agree(scenario)


@pytest.mark.parametrize("delay", [0, -1, 1e-9])
def test_wait_for_that_times_out_at_once(agree, delay):
    async def scenario(case):
        async def stubborn():
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                case.record("cancelled")
                return "late"

        for awaitable in (asyncio.sleep(0, "slept"), stubborn(), case.loop.create_future()):
            with case.catch():
                case.record(await asyncio.wait_for(awaitable, delay))

    agree(scenario)


@pytest.mark.parametrize("steps", range(5))
def test_timeouts_and_cancellations_of_one_iteration(agree, steps):
    async def scenario(case):
        async def nested():
            task = asyncio.current_task()
            try:
                async with asyncio.timeout(1000) as outer:
                    try:
                        async with asyncio.timeout(1000) as inner:
                            outer_now = case.loop.time() - 1
                            inner.reschedule(outer_now)
                            if steps % 2:
                                outer.reschedule(outer_now)
                            await asyncio.sleep(1000)
                    except TimeoutError:
                        case.record("inner", task.cancelling())
                        await iterations(2)
            except TimeoutError:
                case.record("outer", task.cancelling())
            finally:
                case.record("end", task.cancelling(), inner.expired(), outer.expired())

        task = case.loop.create_task(nested())
        await iterations(steps)
        task.cancel()
        with case.catch():
            await task

    agree(scenario)


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("child", ["fails", "succeeds", "refuses"])
def test_task_groups_whose_parent_is_cancelled(agree, child, steps):
    async def scenario(case):
        async def fails():
            await iterations(2)
            raise ValueError("of a child")

        async def succeeds():
            await iterations(2)

        async def refuses():
            try:
                await asyncio.sleep(1000)
            finally:
                raise KeyError("instead")

        async def parent():
            task = asyncio.current_task()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task({"fails": fails, "succeeds": succeeds, "refuses": refuses}[child]())
                    await asyncio.sleep(0)
                case.record("left", task.cancelling())
                await asyncio.sleep(0)
            except* (ValueError, KeyError) as group:
                case.record("group", group.exceptions, task.cancelling())
            await asyncio.sleep(0)
            return "returned"

        task = case.loop.create_task(parent())
        await iterations(steps)
        case.record(task.cancel())
        with case.catch():
            case.record(await task)
        case.record(task.cancelling())

    agree(scenario)


@pytest.mark.parametrize("primitive", ["Lock", "Semaphore", "BoundedSemaphore", "Condition"])
@pytest.mark.parametrize("seed", range(5))
def test_cancelled_waiters_leave_nobody_stuck(agree, primitive, seed):
    async def scenario(case):
        rng = random.Random(seed)
        shared = getattr(asyncio, primitive)(*([2] if "Semaphore" in primitive else []))
        entered = []

        async def visit(number):
            async with shared:
                entered.append(number)
                await iterations(rng.randint(0, 2))

        tasks = []
        for number in range(40):
            tasks.append(case.loop.create_task(visit(number)))
            if rng.random() < 0.5:
                rng.choice(tasks).cancel()
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        done, pending = await asyncio.wait(tasks, timeout=10)
        case.record(len(pending), shared.locked(), entered)
        case.record([task.cancelled() for task in tasks])
        # who came first was served first
        assert entered == sorted(entered)

    assert agree(scenario)[0][:2] == (0, False)


@pytest.mark.parametrize("seed", range(5))
def test_cancelled_waiters_of_a_queue_lose_no_item(agree, seed):
    async def scenario(case):
        rng = random.Random(seed)
        queue, got = asyncio.Queue(2), []

        async def consume():
            while True:
                got.append(await queue.get())

        consumers = [case.loop.create_task(consume()) for _ in range(3)]
        for number in range(50):
            await queue.put(number)
            if rng.random() < 0.3:
                consumers.pop(rng.randrange(3)).cancel()
                consumers.append(case.loop.create_task(consume()))
        await iterations(5)
        while not queue.empty():
            got.append(queue.get_nowait())
        for consumer in consumers:
            consumer.cancel()
        case.record(got)

    assert agree(scenario) == [(tuple(range(50)),)]


if sys.version_info >= (3, 13):

    @pytest.mark.parametrize("immediate", [False, True])
    def test_queues_are_shut_down(agree, immediate):
        async def scenario(case):
            queue = asyncio.Queue(1)
            queue.put_nowait("item")
            blocked = [case.loop.create_task(queue.put(number)) for number in range(2)]
            joining = case.loop.create_task(queue.join())
            await asyncio.sleep(0)
            queue.shutdown(immediate)
            for task in blocked:
                with case.catch():
                    await task
            for _ in range(2):
                with case.catch():
                    case.record(await queue.get())
                    queue.task_done()
            await joining
            with case.catch():
                queue.put_nowait("more")

        agree(scenario)

    def test_as_completed_is_iterated_both_ways(agree):
        async def scenario(case):
            async def after(count):
                await iterations(count)
                return count

            tasks = [case.loop.create_task(after(count)) for count in (3, 1, 2)]
            async for task in asyncio.as_completed(tasks):
                case.record(task in tasks, await task)
            for task in asyncio.as_completed([after(2), after(0)]):
                case.record(await task)
            with case.catch():
                async for task in asyncio.as_completed([case.loop.create_future()], timeout=0.01):
                    await task

        assert agree(scenario)[0] == (True, 1)
