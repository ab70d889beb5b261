"""sleep, native and asyncio's."""

import asyncio
import gc
import inspect
import math

import pytest


def test_results(agree):
    async def scenario(case):
        sleep = case.aio.sleep
        case.record(await sleep(0), await sleep(0, "a"), await sleep(0.001, result="b"))
        case.record(await sleep(-1, (1, 2)), await sleep(False), await sleep(1e-9, StopIteration(1)))

    assert agree(scenario)[0] == (None, "a", "b")


def test_order_of_zero_sleeps(agree):
    async def scenario(case):
        async def steps(name):
            for number in range(3):
                case.record(name, number)
                await case.aio.sleep(0)

        await asyncio.gather(*(steps(name) for name in "abc"))

    assert agree(scenario)[:4] == [("a", 0), ("b", 0), ("c", 0), ("a", 1)]


def test_delays(aio, run):
    async def main():
        loop = asyncio.get_running_loop()
        for delay in (0.001, 0.01, 0.02):
            start = loop.time()
            await aio.sleep(delay)
            assert loop.time() - start >= delay - 1e-9
        order = []

        async def later(delay):
            await aio.sleep(delay)
            order.append(delay)

        delays = [0.001, 0.002, 0.003, 0.003, 1e-9]
        await asyncio.gather(*(later(delay) for delay in sorted(delays)))
        assert order == sorted(delays)

    run(main)


def test_it_is_a_coroutine(agree):
    async def scenario(case):
        coroutine = case.aio.sleep(0, "result")
        case.record(asyncio.iscoroutine(coroutine), inspect.isawaitable(coroutine))
        case.record(await case.loop.create_task(coroutine))
        with case.catch("again"):
            await coroutine
        coroutine = case.aio.sleep(0)
        coroutine.close()
        coroutine.close()
        with case.catch("closed"):
            await coroutine
        coroutine = case.aio.sleep(0)
        with case.catch("thrown before the start"):
            coroutine.throw(ValueError("thrown"))
        case.record(await asyncio.ensure_future(case.aio.sleep(0, 3)))
        case.record(await asyncio.gather(case.aio.sleep(0, 1), case.aio.sleep(0.001, 2)))
        case.record(await asyncio.wait_for(case.aio.sleep(0, 1), 10))

    assert agree(scenario)[0] == (True, True)


def test_never_awaited_warns(agree):
    def scenario(case):
        case.aio.sleep(1)
        gc.collect()

    record = agree(scenario)
    assert record[0][:2] == ("warning", "RuntimeWarning")
    assert record[0][2].startswith("coroutine 'sleep' was never awaited")


def test_cancelled(agree):
    async def scenario(case):
        for delay in (0, 0.001, 100):
            async def sleeps(delay=delay):
                try:
                    await case.aio.sleep(delay)
                except asyncio.CancelledError as error:
                    case.record("inside", error)
                    raise

            task = case.loop.create_task(sleeps())
            await asyncio.sleep(0)
            task.cancel("message")
            with case.catch():
                await task
            task = case.loop.create_task(case.aio.sleep(delay))
            task.cancel()
            with case.catch():
                await task
        with case.catch():
            async with asyncio.timeout(0.002):
                await case.aio.sleep(100)

    assert ("inside", ("CancelledError", "message")) in agree(scenario)


def test_a_cancelled_sleep_leaves_no_timer(aio, run):
    async def main():
        tasks = [asyncio.create_task(aio.sleep(100)) for _ in range(1000)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run(main)  # nothing_left looks for handles that live


def test_wrong_delays(agree):
    async def scenario(case):
        for delay in (None, "1", [], math.nan):
            with case.catch(text=False):
                await case.aio.sleep(delay)
        with case.catch(text=False):
            await case.aio.sleep()

    record = agree(scenario)
    assert record[0][1] == "TypeError"


def test_in_debug_mode(run, aio):
    async def main():
        await aio.sleep(0)
        await aio.sleep(0.001)

    run(main, debug=True)


@pytest.mark.parametrize("count", [1, 1000])
def test_many(run, aio, count):
    async def main():
        total = 0

        async def sleeper():
            nonlocal total
            for _ in range(10):
                await aio.sleep(0)
                total += 1

        await asyncio.gather(*(sleeper() for _ in range(count)))
        return total

    assert run(main) == 10 * count


def test_without_a_running_loop(agree):
    def scenario(case):
        for delay in (0, 1):
            coroutine = case.aio.sleep(delay)
            with case.catch():
                case.record(coroutine.send(None))
            coroutine.close()

    record = agree(scenario)
    assert record[-1] == ("raised", ("RuntimeError", "no running event loop"))


def test_it_works_by_hand(agree):
    """As a coroutine that another library's runner drives."""

    async def scenario(case):
        coroutine = case.aio.sleep(0.001, "result")
        future = coroutine.send(None)
        case.record(isinstance(future, asyncio.Future), future._asyncio_future_blocking)
        future._asyncio_future_blocking = False
        await asyncio.wait([future])
        with case.catch():
            coroutine.send(None)
        coroutine = case.aio.sleep(100)
        future = coroutine.send(None)
        future._asyncio_future_blocking = False
        with case.catch():
            coroutine.throw(KeyError("thrown in"))
        case.record(future.done())
        future.cancel()

    record = agree(scenario)
    assert record[1] == ("raised", ("StopIteration", "result"))
