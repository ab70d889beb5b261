"""async for, asynchronous generators and comprehensions, async with."""

import asyncio


class Countdown:
    def __init__(self, start):
        self.left = start

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        self.left -= 1
        return self.left


async def squares(count):
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield number * number
    finally:
        print("generator ends")


class Session:
    def __init__(self, name):
        self.name = name

    async def __aenter__(self):
        print("enter", self.name)
        await asyncio.sleep(0)
        return self.name

    async def __aexit__(self, kind, error, traceback):
        await asyncio.sleep(0)
        print("leave", self.name, error)
        return isinstance(error, LookupError)


async def main():
    async for number in Countdown(3):
        print(number)
    print([number async for number in Countdown(4) if number % 2])
    print({number: await asyncio.sleep(0, "x") async for number in squares(3)})
    async with Session("a") as a, Session("b") as b:
        print(a, b)
        raise LookupError("inside")
    # The same by hand.
    session = Session("c")
    value = await session.__aenter__()
    try:
        print(value)
    finally:
        await session.__aexit__(None, None, None)
    wrong = (
        "async def f():\n for x in Countdown(1): pass",
        "async def f():\n async for x in [1]: pass",
        "async def f():\n with Session('d'): pass",
        "async def f():\n async with open('/dev/null'): pass",
    )
    for source in wrong:
        names = dict(globals())
        exec(source, names)
        try:
            await names["f"]()
        except (TypeError, AttributeError) as error:
            print(type(error).__name__ in ("TypeError", "AttributeError"))
    # Left in the middle: asyncio.run() closes it.
    global unfinished
    unfinished = squares(5)
    print(await unfinished.__anext__(), await unfinished.__anext__())


asyncio.run(main())

# prints
# 2
# 1
# 0
# [3, 1]
# generator ends
# {0: 'x', 1: 'x', 4: 'x'}
# enter a
# enter b
# a b
# leave b inside
# leave a None
# enter c
# c
# leave c None
# True
# True
# True
# True
# 0 1
# generator ends
