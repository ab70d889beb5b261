"""`loop._ready` and `loop._scheduled`: what programs that look into the loop find and change there."""

import asyncio
import collections
import copy

import pytest


def test_the_timers(agree):
    async def scenario(case):
        loop = case.loop
        case.record(len(loop._scheduled), bool(loop._scheduled), loop._scheduled == [])
        late = loop.call_later(60, print, "late")
        early = loop.call_at(loop.time() + 30, print, "early")
        shown = loop._scheduled
        case.record(len(shown), [handle is early for handle in shown], shown[0] is early)
        case.record(late in shown, shown == [early, late], shown != [late], shown.index(late))
        case.record([handle.when() - loop.time() > 29 for handle in shown[:]])
        case.record(list(reversed(shown)) == [late, early], list(shown.copy()) == [early, late])
        case.record(list(copy.copy(shown)) == [early, late], shown[-1] is late)
        late.cancel()
        case.record([handle.cancelled() for handle in loop._scheduled])
        with case.catch():
            shown[5]
        with case.catch(text=False):
            hash(shown)

    agree(scenario)


def test_timers_are_cancelled_where_they_are_found(agree):
    """As Home Assistant does when it stops."""

    async def scenario(case):
        seen = []
        for number in range(5):
            case.loop.call_later(0.001, seen.append, number)
        for handle in list(case.loop._scheduled):
            if handle._args[-1] % 2:
                handle.cancel()
        await case.aio.sleep(0.01)
        case.record(seen)

    agree(scenario)


def test_timers_run_where_they_are_found(agree):
    """As Home Assistant's tests do to move the time."""

    async def scenario(case):
        seen = []
        case.loop.call_later(3600, seen.append, "an hour")
        sleeper = case.aio.create_task(case.aio.sleep(7200, "two hours"))
        waiter = case.aio.create_task(case.aio.wait_for(case.aio.Event().wait(), 9000))

        async def hold():
            async with case.aio.timeout(9600):
                await case.aio.Event().wait()

        holder = case.aio.create_task(hold())
        await case.aio.sleep(0)
        found = sorted(case.loop._scheduled)
        case.record([isinstance(handle, asyncio.TimerHandle) for handle in found])
        case.record([round((handle.when() - case.loop.time()) / 60) for handle in found])
        case.record([handle.cancelled() for handle in found], found == sorted(found))
        for handle in found:
            handle._run()
            handle.cancel()
        case.record(seen, await sleeper)
        for task in (waiter, holder):
            with case.catch():
                await task
        case.record([handle for handle in case.loop._scheduled if not handle.cancelled()])

    agree(scenario)


def test_what_a_sleep_looks_like(agree):
    async def scenario(case):
        task = case.aio.create_task(case.aio.sleep(60))
        await case.aio.sleep(0)
        [handle] = case.loop._scheduled
        case.record(handle._callback.__name__, handle._args, type(handle).__name__)
        case.record(str(handle).partition(" at ")[0], handle == case.loop._scheduled[0])
        case.record(hash(handle) == hash(case.loop._scheduled[0]), handle in case.loop._scheduled)
        handle.cancel()
        case.record(handle.cancelled(), [found.cancelled() for found in case.loop._scheduled])
        await case.aio.sleep(0.001)
        case.record(task.done())
        task.cancel()

    agree(scenario)


def test_the_timers_change(agree):
    async def scenario(case):
        loop, seen = case.loop, []
        one = loop.call_later(0.002, seen.append, 1)
        two = loop.call_later(0.002, seen.append, 2)
        loop._scheduled.remove(one)
        case.record(one in loop._scheduled, len(loop._scheduled))
        with case.catch(text=False):
            loop._scheduled.remove(one)
        three = loop.call_later(0.002, seen.append, 3)
        case.record(loop._scheduled.pop() is three)
        loop._scheduled.append(three)
        loop._scheduled.append(asyncio.TimerHandle(loop.time(), seen.append, (4,), loop))
        case.record(len(loop._scheduled), three in loop._scheduled, two in loop._scheduled)
        loop._scheduled.sort()
        await case.aio.sleep(0.02)
        case.record(sorted(seen))
        loop.call_later(0.001, seen.append, "cleared")
        loop.call_later(0.001, seen.append, "replaced")
        loop._scheduled.clear()
        case.record(loop._scheduled == [])
        kept = loop.call_later(0.001, seen.append, "kept")
        loop.call_later(0.001, seen.append, "dropped")
        loop._scheduled = [kept]
        await case.aio.sleep(0.02)
        case.record(seen[4:])

    agree(scenario)


def test_the_queue(agree):
    def scenario(case):
        loop = case.loop
        case.record(len(loop._ready), bool(loop._ready), loop._ready == collections.deque())
        first = loop.call_soon(print, "first")
        second = loop.call_soon(print, "second")
        case.record(len(loop._ready), loop._ready[0] is first, loop._ready[-1] is second)
        case.record(second in loop._ready, [handle._args for handle in loop._ready])
        case.record(loop._ready == collections.deque([first, second]))
        case.record(list(loop._ready.copy()) == [first, second])
        first.cancel()
        case.record([handle.cancelled() for handle in loop._ready])
        loop._ready.clear()
        case.record(len(loop._ready))
        with case.catch():
            loop._ready.popleft()

    agree(scenario)


def test_the_queue_changes(agree):
    async def scenario(case):
        loop, seen = case.loop, []
        one, two, three = (loop.call_soon(seen.append, number) for number in (1, 2, 3))
        loop._ready.remove(two)
        case.record(loop._ready.popleft() is one, loop._ready.pop() is three)
        loop._ready.append(three)
        loop._ready.appendleft(one)
        loop._ready.append(asyncio.Handle(seen.append, (4,), loop))
        other = asyncio.Handle(seen.append, (5,), loop)
        loop._ready.appendleft(other)
        case.record(other in loop._ready, loop._ready[0] is other)
        await case.aio.sleep(0)
        await case.aio.sleep(0)
        case.record(seen)
        left = loop.call_soon(seen.append, "left")
        loop.call_soon(seen.append, "dropped")
        loop._ready = collections.deque([left])
        await case.aio.sleep(0)
        case.record(seen[4:])

    agree(scenario)


def test_steps_of_tasks_in_the_queue(agree):
    async def scenario(case):
        seen = []

        async def step(number):
            seen.append(number)

        tasks = [case.loop.create_task(step(number)) for number in range(3)]
        case.record(len(case.loop._ready))
        case.record([isinstance(handle, asyncio.Handle) for handle in case.loop._ready])
        case.record([handle.cancelled() for handle in case.loop._ready])
        case.record([handle._args for handle in case.loop._ready])
        await case.aio.gather(*tasks)
        case.record(sorted(seen))

    agree(scenario)


@pytest.mark.parametrize("name", ["_ready", "_scheduled"])
def test_after_the_loop_is_closed(agree, name):
    def scenario(case):
        case.loop.call_soon(print)
        case.loop.call_later(1, print)
        case.loop.close()
        case.record(len(getattr(case.loop, name)))

    agree(scenario)


def test_a_handle_that_is_looked_at_lives_on(agree):
    async def scenario(case):
        seen = []
        case.loop.call_later(0.001, seen.append, "due")
        held = list(case.loop._scheduled)
        for _ in range(3):
            case.loop.call_later(0.001, seen.append, "more")
        await case.aio.sleep(0.01)
        case.record(len(seen), held[0].cancelled(), held[0] in case.loop._scheduled)

    agree(scenario)


@pytest.mark.parametrize("way", ["run", "append", "appendleft"])
def test_a_step_that_is_taken_out_of_the_queue(agree, way):
    """As qtinter's run_task() does with a new task: the step is made where the program says."""

    async def scenario(case):
        seen = []

        async def work():
            seen.append("begun")
            await asyncio.sleep(0.001)
            return "done"

        task = case.aio.create_task(work())
        handle = case.loop._ready.pop()
        case.record(len(seen))
        if way == "run":
            outer = asyncio.current_task()
            asyncio.tasks._leave_task(case.loop, outer)
            handle._run()
            asyncio.tasks._enter_task(case.loop, outer)
            case.record(list(seen))
        else:
            getattr(case.loop._ready, way)(handle)
        case.record(await asyncio.wait_for(task, 10), seen)

    agree(scenario)
