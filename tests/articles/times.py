"""sleep(): its result, its order, others' turns; a timer made of it."""

import asyncio
import functools
import time


async def counts(name, turns):
    for turn in range(turns):
        print(name, turn)
        await asyncio.sleep(0)


async def slept(seconds):
    started = time.monotonic()
    await asyncio.sleep(seconds)
    return time.monotonic() - started >= seconds


def rings(label, future):
    print(label, future.result())


async def main():
    print(await asyncio.sleep(0.001, "result"), await asyncio.sleep(0, result="at once"))
    ended = []
    await asyncio.gather(*[finish(ended, n) for n in (3, 1, 2)])
    print(ended)
    print(await asyncio.gather(*map(slept, (0, 0.001, 0.01, 0.03))))
    await asyncio.gather(counts("a", 3), counts("b", 2))
    ready = asyncio.create_task(counts("ready", 1))
    await asyncio.sleep(0)
    print("after", ready.done())
    await ready
    timer = asyncio.ensure_future(asyncio.sleep(0.01, "the timer"))
    timer.add_done_callback(functools.partial(rings, "rings:"))
    await timer
    await asyncio.sleep(0)


async def finish(ended, number):
    await asyncio.sleep(0.02 * number)
    ended.append(number)


asyncio.run(main())

# prints
# result at once
# [1, 2, 3]
# [True, True, True, True]
# a 0
# b 0
# a 1
# b 1
# a 2
# ready 0
# after False
# rings: the timer
