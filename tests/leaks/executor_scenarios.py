"""Scenarios of calls on other threads."""

import asyncio
import contextlib
import contextvars
import threading

from scenarios import on_loop

variable = contextvars.ContextVar("variable")


def fails(*args):
    raise ValueError(args)


@on_loop
async def executor_calls(aio, loop):
    for function in (object, fails, iter(()).__next__, asyncio.CancelledError):
        for call in (
            lambda: loop.run_in_executor(None, function),
            lambda: aio.to_thread(function),
            lambda: aio.to_thread(function, object(), key=[]),
        ):
            with contextlib.suppress(Exception, asyncio.CancelledError):
                # A future cannot have a StopIteration on all versions.
                await asyncio.wait_for(call(), 0.01)
    await loop.shutdown_default_executor()


@on_loop
async def cancelled_executor_calls(aio, loop):
    await loop.run_in_executor(None, variable.set, object())
    leave = threading.Event()
    most = loop._default_executor._max_workers
    blocking = [loop.create_task(aio.to_thread(leave.wait)) for _ in range(most)]
    waiting = [loop.run_in_executor(None, fails, object()) for _ in range(5)]
    tasks = [loop.create_task(aio.to_thread(fails, object())) for _ in range(5)]
    await asyncio.sleep(0)
    for future in waiting + tasks + blocking[:1]:
        future.cancel()
    leave.set()
    await asyncio.gather(*waiting, *tasks, *blocking, return_exceptions=True)
    loop._default_executor.shutdown(wait=False, cancel_futures=True)
    await loop.shutdown_default_executor()


@on_loop
async def to_thread_never_awaited(aio, loop):
    aio.to_thread(fails, object())
    aio.to_thread(fails).close()
    coroutine = aio.to_thread(object)
    coroutine.send(None)
    coroutine.close()
    await loop.shutdown_default_executor()


@on_loop
async def executors_that_hold_themselves(aio, loop):
    await loop.run_in_executor(None, int)
    executor = loop._default_executor
    executor.myself = executor
    loop.myself = loop
    executor.submit(fails, executor).exception()
    loop.run_in_executor(None, list, [executor, loop])
    await loop.shutdown_default_executor()


@on_loop
async def futures_of_threads(aio, loop):
    async def number():
        return 5

    def elsewhere():
        assert aio.run_coroutine_threadsafe(number(), loop).result() == 5
        aio.run_coroutine_threadsafe(asyncio.sleep(60), loop).cancel()

    await loop.run_in_executor(None, elsewhere)
    executor = loop._default_executor
    assert await aio.wrap_future(executor.submit(int)) == 0
    aio.wrap_future(executor.submit(fails)).cancel()
    with contextlib.suppress(TypeError):
        aio.run_coroutine_threadsafe(5, loop)
    await loop.shutdown_default_executor()
