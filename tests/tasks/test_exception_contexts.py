"""What is raised while another exception is being handled has that one as its context."""

import inspect

import pytest

from observing import plain


def contexts(error):
    found = []
    while error is not None:
        found.append(plain(error))
        error = error.__context__
    return found


async def cancelled_result(case):
    future = case.loop.create_future()
    future.cancel("message")
    future.result()


async def cancelled_exception(case):
    future = case.loop.create_future()
    future.cancel()
    future.exception()


async def failed_result(case):
    future = case.loop.create_future()
    future.set_exception(ValueError("set"))
    future.result()


async def failed_await(case):
    future = case.loop.create_future()
    future.set_exception(ValueError("set"))
    await future


async def failed_later(case):
    future = case.loop.create_future()
    case.loop.call_soon(future.set_exception, ValueError("set"))
    await future


async def pending_result(case):
    case.loop.create_future().result()


async def cancelled_task(case):
    task = case.loop.create_task(case.aio.sleep(10))
    case.loop.call_soon(task.cancel)
    await task


async def empty_queue(case):
    case.aio.Queue().get_nowait()


async def full_queue(case):
    queue = case.aio.Queue(1)
    queue.put_nowait(1)
    queue.put_nowait(2)


async def task_done(case):
    case.aio.Queue().task_done()


async def released_lock(case):
    case.aio.Lock().release()


async def barrier(case):
    barrier = case.aio.Barrier(2)
    await barrier.abort()
    await barrier.wait()


async def condition_cancelled_while_it_takes_the_lock(case):
    condition = case.aio.Condition()
    task = case.aio.current_task()

    async def notifies():
        async with condition:
            condition.notify()
            for _ in range(3):
                await case.aio.sleep(0)
            task.cancel()
            await case.aio.sleep(0)

    async with condition:
        other = case.loop.create_task(notifies())
        try:
            await condition.wait()
        finally:
            task.uncancel()
            case.record(other.done())


async def wait_for(case):
    await case.aio.wait_for(case.loop.create_future(), 0)


async def wait_for_later(case):
    await case.aio.wait_for(case.loop.create_future(), 0.001)


async def timeout(case):
    async with case.aio.timeout(0):
        await case.loop.create_future()


async def as_completed(case):
    for step in case.aio.as_completed([case.loop.create_future()], timeout=0):
        await step


async def group(case):
    async with case.aio.TaskGroup() as group:
        group.create_task(failed_await(case))


async def group_and_block(case):
    async with case.aio.TaskGroup() as group:
        group.create_task(failed_await(case))
        raise LookupError("in the block")


async def group_cancelled(case):
    task = case.aio.current_task()
    case.loop.call_later(0.001, task.cancel)
    try:
        async with case.aio.TaskGroup() as group:
            group.create_task(case.aio.sleep(10))
    finally:
        task.uncancel()


async def gathered(case):
    await case.aio.gather(failed_later(case), case.aio.sleep(0))


def reader(case, data):
    reader = case.aio.StreamReader(limit=4, loop=case.loop)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def incomplete_read(case):
    await reader(case, b"abc").readexactly(5)


async def incomplete_until(case):
    await reader(case, b"abc").readuntil(b";")


async def overrun(case):
    await reader(case, b"abcdef;").readuntil(b";")


async def long_line(case):
    await reader(case, b"abcdef\n").readline()


async def failed_read(case):
    stream = case.aio.StreamReader(loop=case.loop)
    stream.set_exception(ValueError("set"))
    await stream.read()


SITUATIONS = [function for function in list(globals().values()) if inspect.iscoroutinefunction(function)]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_what_is_handled_is_the_context(agree_everywhere, situation):
    async def scenario(case):
        try:
            raise KeyError("handled")
        except KeyError:
            try:
                await situation(case)
            except BaseException as error:
                case.record(contexts(error), error.__suppress_context__)

    record = agree_everywhere(scenario)
    assert ("KeyError", "handled") in record[-1][0]
