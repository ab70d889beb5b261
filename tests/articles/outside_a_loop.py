# legacy
# asyncio never
"""gather() and wait() before a loop runs; wait() with coroutines; the argument `loop`."""

import asyncio


async def work(number):
    await asyncio.sleep(0.01 * number)
    return number


async def waits():
    done, pending = await asyncio.wait([work(2), work(1)], return_when="ALL_COMPLETED")
    print(sorted(task.result() for task in done), pending)
    tasks = [work(1), work(20)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    print(len(done), len(pending))
    print(await asyncio.gather(*pending, work(0)))


def ended(futures):
    print("callback", futures.result())
    loop.stop()


loop = asyncio.get_event_loop()
futures = asyncio.gather(work(3), work(1))
futures.add_done_callback(ended)
loop.run_forever()
print(loop.run_until_complete(asyncio.gather(*[work(n) for n in (2, 0)], loop=loop)))
loop.run_until_complete(waits())
loop.run_until_complete(asyncio.wait([work(1)]))
print(loop.run_until_complete(asyncio.sleep(0, "slept", loop=loop)))
loop.close()

# prints
# callback [3, 1]
# [2, 0]
# [1, 2] set()
# 1 1
# [20, 0]
# slept
