"""gather() and wait(): several at once, against one after another."""

import asyncio
import time


async def visit(name, seconds):
    print(name, "begins")
    await asyncio.sleep(seconds)
    print(name, "ends")
    return name


async def fails():
    await asyncio.sleep(0)
    raise ZeroDivisionError("of one")


def at_least(seconds, since):
    """Timers are never early."""
    return time.monotonic() - since >= seconds


async def main():
    started = time.monotonic()
    await visit("first", 0.02)
    await visit("second", 0.01)
    print("in turn", at_least(0.03, started))

    started = time.monotonic()
    print(await asyncio.gather(visit("long", 0.05), visit("short", 0.01)))
    print("together", at_least(0.05, started))
    calls = [visit(name, 0) for name in "xyz"]
    print(await asyncio.gather(*calls))
    tasks = [asyncio.create_task(visit(name, 0)) for name in "pq"]
    print(await asyncio.gather(*tasks, tasks[0]), await asyncio.gather())

    print(await asyncio.gather(visit("whole", 0), fails(), return_exceptions=True))
    try:
        await asyncio.gather(visit("lost", 0), fails())
    except ZeroDivisionError as error:
        print("gather raises", error)

    tasks = [asyncio.create_task(visit("kept", 0)), asyncio.create_task(fails())]
    done, pending = await asyncio.wait(tasks)
    print(len(done), pending, done == set(tasks), repr(tasks[1].exception()))

    waits = (asyncio.FIRST_COMPLETED, asyncio.tasks.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)
    for return_when in waits:
        gate = asyncio.Event()
        quick = asyncio.create_task(asyncio.sleep(0))
        failing = asyncio.create_task(fails() if return_when != asyncio.FIRST_COMPLETED else gate.wait())
        slow = asyncio.create_task(gate.wait())
        if return_when == asyncio.ALL_COMPLETED:
            asyncio.get_running_loop().call_later(0.01, gate.set)
        done, pending = await asyncio.wait({quick, failing, slow}, return_when=return_when)
        print(return_when, quick in done, failing in done, slow in done)
        gate.set()
        await asyncio.gather(quick, failing, slow, return_exceptions=True)
    done, pending = await asyncio.wait([asyncio.create_task(asyncio.sleep(60))], timeout=0.01)
    print(len(done), len(pending))
    pending.pop().cancel()


asyncio.run(main())

# prints
# first begins
# first ends
# second begins
# second ends
# in turn True
# long begins
# short begins
# short ends
# long ends
# ['long', 'short']
# together True
# x begins
# y begins
# z begins
# x ends
# y ends
# z ends
# ['x', 'y', 'z']
# p begins
# q begins
# p ends
# q ends
# ['p', 'q', 'p'] []
# whole begins
# whole ends
# ['whole', ZeroDivisionError('of one')]
# lost begins
# lost ends
# gather raises of one
# kept begins
# kept ends
# 2 set() True ZeroDivisionError('of one')
# FIRST_COMPLETED True False False
# FIRST_EXCEPTION True True False
# ALL_COMPLETED True True True
# 0 1
