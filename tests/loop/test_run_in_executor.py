"""run_in_executor() and to_thread(), with any executor."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
import time

import pytest


def test_results_and_exceptions(agree):
    async def scenario(case):
        loop = case.loop

        def fail():
            raise ValueError("in the thread")

        case.record(await loop.run_in_executor(None, sum, [1, 2, 3]))
        with case.catch():
            await loop.run_in_executor(None, fail)
        future = loop.run_in_executor(None, int)
        case.record(isinstance(future, asyncio.Future), await future)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            case.record(await loop.run_in_executor(pool, sum, [4]))

    assert agree(scenario)[:2] == [(6,), ("raised", ("ValueError", "in the thread"))]


def test_round_trips(run):
    async def main():
        loop = asyncio.get_running_loop()
        for number in range(200):
            assert await loop.run_in_executor(None, int, number) == number
        futures = [loop.run_in_executor(None, int, number) for number in range(500)]
        assert await asyncio.gather(*futures) == list(range(500))

    run(main)


def test_cancelled_calls(run):
    async def main():
        loop = asyncio.get_running_loop()
        started, leave = threading.Event(), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            blocking = loop.run_in_executor(pool, lambda: (started.set(), leave.wait()))
            queued = loop.run_in_executor(pool, pytest.fail, "ran though cancelled")
            assert queued.cancel()
            while not started.is_set():
                await asyncio.sleep(0.001)
            blocking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await blocking
            with pytest.raises(asyncio.CancelledError):
                await queued
            leave.set()
        await asyncio.sleep(0)

    run(main)


def test_an_executor_of_the_programs_own(run):
    async def main():
        loop = asyncio.get_running_loop()
        pool = concurrent.futures.ThreadPoolExecutor(1, "mine")
        loop.set_default_executor(pool)
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("mine")
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError):
            pool.submit(print)

    run(main)


def test_shutdown_waits_for_the_threads(agree):
    async def scenario(case):
        loop = case.loop
        future = loop.run_in_executor(None, time.sleep, 0.02)
        await loop.shutdown_default_executor()
        await asyncio.sleep(0)
        case.record("done", future.done())
        with case.catch():
            loop.run_in_executor(None, print)
        await loop.shutdown_default_executor()

    assert agree(scenario)[:2] == [
        ("done", True),
        ("raised", ("RuntimeError", "Executor shutdown has been called")),
    ]


if sys.version_info >= (3, 13):
    # 3.12 takes the argument, but its first releases wait for the threads all the same

    def test_shutdown_gives_up_after_its_timeout(agree):
        leave = threading.Event()

        def scenario(case):
            leave.clear()

            async def main():
                future = case.loop.run_in_executor(None, leave.wait)
                await case.loop.shutdown_default_executor(timeout=0.01)
                case.record("done", future.done())
                future.cancel()

            case.loop.run_until_complete(main())
            leave.set()
            for thread in set(threading.enumerate()) - {threading.current_thread()}:
                thread.join()

        record = agree(scenario)
        assert ("done", False) in record and record[0][:2] == ("warning", "RuntimeWarning")


def test_to_thread_carries_the_context(run):
    variable = contextvars.ContextVar("variable")

    async def main():
        variable.set("mine")
        return await asyncio.to_thread(variable.get)

    assert run(main) == "mine"
