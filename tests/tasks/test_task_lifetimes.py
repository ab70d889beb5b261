"""What keeps a task alive, what it lets go, and what its finaliser reports."""

import asyncio
import gc
import sys
import warnings
import weakref

import pytest


def test_a_pending_task_that_nobody_holds_goes_on(run):
    """Only the loop's queue, a timer or a future that lives keeps it: it must not vanish."""

    async def main():
        loop = asyncio.get_running_loop()
        ended = []
        future = loop.create_future()

        async def held_by(awaitable, name):
            await awaitable
            await asyncio.sleep(0.001)
            ended.append(name)

        loop.create_task(held_by(asyncio.sleep(0.002), "timer"))
        loop.create_task(held_by(asyncio.sleep(0), "queue"))
        loop.create_task(held_by(future, "future"))
        loop.create_task(held_by(loop.run_in_executor(None, int), "executor"))
        for _ in range(3):
            await asyncio.sleep(0)
            gc.collect()
        future.set_result(None)
        del future
        while len(ended) < 4:
            gc.collect()
            await asyncio.sleep(0.001)

    run(main)


def test_a_task_destroyed_while_pending_is_reported_once(agree, debug):
    def scenario(case):
        class Mine(case.aio.Task):
            pass

        async def waits():
            await case.loop.create_future()

        for make in case.aio.Task, Mine:
            make(waits(), loop=case.loop, name="lost")
            case.loop.run_until_complete(asyncio.sleep(0))
            gc.collect()
            quiet = make(waits(), loop=case.loop, name="quiet")
            quiet._log_destroy_pending = False
            case.record(quiet._log_destroy_pending)
            del quiet
            case.loop.run_until_complete(asyncio.sleep(0))
            gc.collect()

    record = agree(scenario, debug)
    reports = [entry for entry in record if entry[0] == "report"]
    assert [entry[1] for entry in reports] == ["Task was destroyed but it is pending!"] * 2


def test_an_exception_that_is_never_retrieved_is_reported_once(agree, debug):
    def scenario(case):
        class Mine(case.aio.Task):
            pass

        class Deleted(case.aio.Task):
            def __del__(self):
                case.record("deleted")
                super().__del__()

        async def fails():
            raise ValueError("nobody looks")

        for make in case.aio.Task, Mine, Deleted:
            task = make(fails(), loop=case.loop)
            case.loop.run_until_complete(asyncio.wait([task]))
            del task
            gc.collect()

    record = agree(scenario, debug)
    reports = [entry for entry in record if entry[0] == "report"]
    names = "Task", "Mine", "Deleted"
    assert [entry[1] for entry in reports] == [f"{n} exception was never retrieved" for n in names]


def test_finished_tasks_let_go(aio, loop):
    """Of the coroutine's frame and of what it waited for."""

    class Thing:
        pass

    async def uses(thing):
        await asyncio.sleep(0)
        return 1

    thing = Thing()
    gone = weakref.ref(thing)
    task = loop.create_task(uses(thing))
    del thing
    loop.run_until_complete(task)
    assert task.result() == 1 and task._fut_waiter is None
    assert gone() is None
    dead = weakref.ref(task)
    del task
    gc.collect()
    assert dead() is None


def test_no_cycle_after_an_exception(aio, loop):
    """A task that failed is freed by reference counting alone."""
    gc.disable()
    try:

        async def fails():
            raise ValueError

        async def main():
            task = loop.create_task(fails())
            gone = weakref.ref(task)
            try:
                await task
            except ValueError:
                del task
            return gone

        assert loop.run_until_complete(main())() is None
    finally:
        gc.enable()


def test_cycles_are_collected(aio, loop):
    async def waits(box):
        box.append(asyncio.current_task())
        await loop.create_future()

    box = []
    task = loop.create_task(waits(box))
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    gone = weakref.ref(task)
    del task, box
    gc.collect()
    assert gone() is None


WAITS = {
    "sleep": lambda aio: aio.sleep(100),
    "sleep with a result": lambda aio: aio.sleep(100, object()),
    "timeout": lambda aio: within(aio.timeout(100)),
    "timeout in the next iteration": lambda aio: within(aio.timeout(-1)),
    "wait_for": lambda aio: aio.wait_for(future(), 100),
    "wait": lambda aio: aio.wait([future()], timeout=100),
}


def future():
    return asyncio.get_running_loop().create_future()


async def within(timeout):
    async with timeout:
        await future()


@pytest.mark.parametrize("close", [True, False], ids=["closed", "not closed"])
@pytest.mark.parametrize("wait", WAITS)
def test_a_loop_that_goes_takes_what_its_timers_are_for(aio, wait, close):
    """Not only the loop's heap knows the timer, but also what waits for it."""

    async def waits():
        asyncio.current_task()._log_destroy_pending = False
        await WAITS[wait](aio)

    loop = aio.new_event_loop()
    loop.set_exception_handler(lambda loop, report: None)
    task = loop.create_task(waits())
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not task.done()
    gone = weakref.ref(task), weakref.ref(loop)
    gc.collect()
    assert all(ref() for ref in gone)
    del task
    gc.collect()
    assert all(ref() for ref in gone)
    if close:
        loop.close()
    del loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_what_the_collector_frees_with_tasks_is_not_used_again(aio, run):
    async def nothing():
        pass

    async def calls(done):
        asyncio.get_running_loop().call_soon(done.append, None)

    async def main():
        gc.disable()
        try:
            for _ in range(20):
                # Older than the task and its context: the collector clears it before them.
                cycle = []
                cycle.append(cycle)
                cycle.append(asyncio.get_running_loop().create_task(nothing()))
                await aio.sleep(0)
                await aio.sleep(0)
            del cycle
            gc.collect()
        finally:
            gc.enable()
        done = []
        for _ in range(3):
            await aio.gather(*(calls(done) for _ in range(40)))
        await aio.sleep(0)
        assert len(done) == 120

    run(main)


def test_the_numbers_of_names_go_on_while_tasks_come_and_go(run):
    async def nothing():
        pass

    async def main():
        numbers = []
        for count in (300, 3000, 10, 3000):
            tasks = [asyncio.get_running_loop().create_task(nothing()) for _ in range(count)]
            # asked for later, when other tasks have come and gone
            spared = tasks[: count // 2]
            await asyncio.wait(tasks)
            numbers += [int(task.get_name().removeprefix("Task-")) for task in tasks[count // 2 :]]
            del tasks
            await asyncio.wait([asyncio.get_running_loop().create_task(nothing())])
            numbers += [int(task.get_name().removeprefix("Task-")) for task in spared]
            del spared
        assert len(set(numbers)) == len(numbers)
        assert max(numbers) - min(numbers) < 6320

    run(main)


def test_a_number_that_somebody_holds_is_left_alone(run):
    async def nothing():
        pass

    async def main():
        create_task = asyncio.get_running_loop().create_task
        # beyond those numbers of which there is one object each
        await asyncio.wait([create_task(nothing()) for _ in range(1100)])
        task = create_task(nothing())
        number = [found for found in gc.get_referents(task) if type(found) is int]
        # a Task of asyncio's has its text at once before 3.12
        assert number or type(task) is asyncio.Task and sys.version_info < (3, 12)
        copy = [int(str(found)) for found in number]
        await task
        del task
        await asyncio.wait([create_task(nothing()) for _ in range(10)])
        assert number == copy

    run(main)
