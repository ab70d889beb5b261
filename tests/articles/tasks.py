"""Tasks and Futures: made, shown, asked, told when done."""

import asyncio
import functools


async def add(a, b):
    await asyncio.sleep(0)
    return a + b


async def divides(a, b):
    return a / b


async def waits_for(future):
    return await future


def told(label, task):
    print(label, task.result())


async def main():
    loop = asyncio.get_running_loop()
    for make in (asyncio.create_task, asyncio.ensure_future, loop.create_task):
        task = make(add(1, 2))
        print(isinstance(task, asyncio.Task), isinstance(task, asyncio.Future), task.done())
        try:
            task.result()
        except asyncio.InvalidStateError as error:
            print(type(error).__module__, error)
        task.add_done_callback(functools.partial(told, "told"))
        print(await task, task.done(), task.result())

    task = asyncio.create_task(add(3, 4), name="adds")
    print(task)
    await asyncio.sleep(0)
    print(task)
    await task
    print(task)
    failing = asyncio.create_task(divides(1, 0))
    await asyncio.wait([failing])
    print(failing)
    print(repr(failing.exception()))
    future = loop.create_future()
    waiting = asyncio.create_task(waits_for(future))
    await asyncio.sleep(0)
    print(waiting)
    waiting.cancel()
    await asyncio.wait([waiting])
    print(waiting)

    future = loop.run_in_executor(None, pow, 2, 5)
    print(isinstance(future, asyncio.Future), isinstance(future, asyncio.Task), await future)
    future = loop.create_future()
    loop.call_soon(future.set_result, "set elsewhere")
    print(await future)


asyncio.run(main())

# prints
# True True False
# asyncio.exceptions Result is not set.
# told 3
# 3 True 3
# True True False
# asyncio.exceptions Result is not set.
# told 3
# 3 True 3
# True True False
# asyncio.exceptions Result is not set.
# told 3
# 3 True 3
# <Task pending name='adds' coro=<add() running at *tasks.py:7>>
# <Task pending name='adds' coro=<add() running at *tasks.py:8>*>
# <Task finished name='adds' coro=<add() done, defined at *tasks.py:7> result=7>
# <Task finished name='Task-*' coro=<divides() done, defined at *tasks.py:12> exception=ZeroDivisionError('division by zero')>
# ZeroDivisionError('division by zero')
# <Task pending name='Task-*' coro=<waits_for() running at *tasks.py:17> wait_for=<Future * cb=[*ask*wakeup()*]>*>
# <Task cancelled name='Task-*' coro=<waits_for() done, defined at *tasks.py:16>>
# True False 32
# set elsewhere
