"""all_tasks() and current_task() of a loop that another thread runs."""

import asyncio
import contextlib
import threading

import pytest

# In seconds: what has not come then is lost.
PATIENCE = 60

pytestmark = pytest.mark.hung_after(2 * PATIENCE)


@contextlib.contextmanager
def running(aio, main):
    """A loop of another thread that runs `main()` until the block ends."""
    loop = aio.new_event_loop()
    begun, errors = threading.Event(), []

    async def outer():
        stop = asyncio.Event()
        loop.stop_main = lambda: loop.call_soon_threadsafe(stop.set)
        task = loop.create_task(main(), name="main")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        begun.set()
        await stop.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for other in left:
            other.cancel()
        await asyncio.wait({task, *left})

    def run():
        try:
            loop.run_until_complete(loop.create_task(outer(), name="outer"))
        except BaseException as error:
            errors.append(error)
        finally:
            begun.set()
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(PATIENCE)
    try:
        yield loop
    finally:
        loop.stop_main()
        thread.join()
    for error in errors:
        raise error


def names(tasks):
    return sorted(task.get_name() for task in tasks)


@pytest.mark.parametrize("eager", [False, True], ids=["plain", "eager"])
def test_another_thread_sees_all_tasks(aio, eager):
    if eager and not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("before 3.12 no task is eager")

    async def main():
        loop = asyncio.get_running_loop()
        if eager:
            loop.set_task_factory(aio.eager_task_factory)
        main.kept = [loop.create_task(wait(loop.create_future()), name=f"t{n:02}") for n in range(50)]

    async def wait(future):
        await future

    with running(aio, main) as loop:
        expected = [*(f"t{n:02}" for n in range(50))]
        for _ in range(20):
            for module in (asyncio, aio):
                assert [name for name in names(module.all_tasks(loop)) if name[0] == "t"] == expected
    main.kept.clear()


def test_another_thread_sees_tasks_come_and_go(aio):
    """Whoever is there the whole time is seen each time, whatever happens beside it."""

    async def main():
        loop = asyncio.get_running_loop()
        staying = [loop.create_task(wait(loop.create_future()), name=f"stays {n}") for n in range(5)]
        try:
            while True:
                await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
        finally:
            del staying

    async def wait(future):
        await future

    with running(aio, main) as loop:
        for _ in range(200):
            seen = names(aio.all_tasks(loop))
            assert [name for name in seen if name.startswith("stays")] == [f"stays {n}" for n in range(5)]
            assert "main" in seen


def test_each_loop_has_its_own_tasks(aio):
    """Loops on several threads, which look at themselves and at one another."""
    count = 5
    barrier, loops, errors = threading.Barrier(count), [None] * count, []

    async def main(number):
        loop = loops[number] = asyncio.get_running_loop()
        tasks = [loop.create_task(asyncio.sleep(3600), name=f"{number} {n}") for n in range(10)]
        await asyncio.sleep(0)
        barrier.wait(PATIENCE)
        for turn in range(30):
            other = (number + turn) % count
            seen = names(aio.all_tasks(loops[other]))
            assert [name for name in seen if name != "whole"] == [f"{other} {n}" for n in range(10)]
            await asyncio.sleep(0)
        barrier.wait(PATIENCE)
        for task in tasks:
            task.cancel()

    def run(number):
        loop = aio.new_event_loop()
        try:
            loop.run_until_complete(loop.create_task(main(number), name="whole"))
            loop.run_until_complete(asyncio.sleep(0))
        except BaseException as error:
            errors.append(error)
            barrier.abort()
        finally:
            loop.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loops.clear()
    for error in errors:
        raise error


def test_another_thread_sees_the_running_task(aio):
    """The task is in the middle of a step, and its thread waits."""
    inside, go_on = threading.Event(), threading.Event()

    async def main():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        inside.set()
        go_on.wait(PATIENCE)

    with running(aio, main) as loop:
        assert inside.wait(PATIENCE)
        for module in (asyncio, aio):
            task = module.current_task(loop)
            assert task is not None and task.get_name() == "main"
            assert task in module.all_tasks(loop)
        assert module.current_task(loop).get_coro().cr_running
        del task
        go_on.set()


def test_a_future_looked_at_while_its_loop_ends_it(aio):
    """Strangers see a future pending or done with its result, and nothing between."""

    async def main():
        loop = asyncio.get_running_loop()
        while True:
            future = main.future = loop.create_future()
            loop.call_soon(end, future)
            await future

    def end(future):
        # the test's end cancels it
        if not future.done():
            future.set_result("result")

    main.future = None
    with running(aio, main):
        seen = set()
        for _ in range(3000):
            future = main.future
            if future is not None:
                done = future.done()
                if done:
                    seen.add(future.result())
                assert not future.cancelled()
                with contextlib.suppress(TypeError):
                    # asyncio's code looks at the callbacks twice
                    repr(future)
        assert seen <= {"result"}
        del future
    main.future = None
