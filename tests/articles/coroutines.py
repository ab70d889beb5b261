"""Coroutine functions, coroutine objects, and what can be awaited."""

import asyncio
import functools


async def add(number):
    return number + 3


class Service:
    async def method(self):
        return "method"


def plain():
    yield


class Patient:
    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


async def chained(number):
    inner = await add(number)
    return await add(inner)


async def steps(name):
    for step in range(2):
        print(name, step)
        await asyncio.sleep(0)


async def raises():
    raise LookupError("to whoever awaits")


async def main():
    coroutine = add(1)
    print(coroutine)
    print(asyncio.iscoroutinefunction(add), asyncio.iscoroutinefunction(Service().method))
    print(asyncio.iscoroutinefunction(functools.partial(add, 1)), asyncio.iscoroutinefunction(plain))
    task = asyncio.create_task(add(2))
    print(asyncio.iscoroutine(coroutine), asyncio.iscoroutine(add), asyncio.iscoroutine(task))

    # Three things that can be awaited, and a fourth that says how.
    future = asyncio.get_running_loop().create_future()
    future.set_result("future")
    print(await coroutine, await task, await future, await Patient("object"))
    print(await asyncio.gather(Patient(1), Patient(2)), await asyncio.wait_for(Patient(3), 20))
    print(await asyncio.ensure_future(Patient(4)), await chained(1))
    try:
        await raises()
    except LookupError as error:
        print(error)
    await asyncio.gather(steps("one"), steps("two"))

    # Driven by hand, while no task does.
    coroutine = asyncio.sleep(0, "slept")
    coroutine.send(None)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        print(stop.value)
    coroutine = chained(1)
    try:
        coroutine.throw(KeyError("thrown in"))
    except KeyError as error:
        print(error)


add(0).close()
asyncio.run(main())
try:
    compile("def f(): await g()", "example", "exec")
except SyntaxError as error:
    print(error.msg)

# prints
# <coroutine object add at 0x*>
# True True
# True False
# True False False
# 4 5 future object
# [1, 2] 3
# 4 7
# to whoever awaits
# one 0
# two 0
# one 1
# two 1
# slept
# 'thrown in'
# 'await' outside async function
