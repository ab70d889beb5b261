"""asyncio.run(): the loop is got and closed; top level, await, Task."""

import asyncio
import threading


async def inner(number):
    await asyncio.sleep(0)
    return number


async def main():
    global seen
    seen = asyncio.get_running_loop()
    print(asyncio.get_event_loop() is seen, threading.active_count())
    task = asyncio.create_task(inner(2))
    print(await inner(1), await task)
    coroutine = inner(3)
    try:
        asyncio.run(coroutine)
    except RuntimeError as error:
        print(error)
    coroutine.close()
    return "result"


print(asyncio.run(main()), seen.is_closed())
try:
    asyncio.get_running_loop()
except RuntimeError as error:
    print(error)

# prints
# True 1
# 1 2
# asyncio.run() cannot be called from a running event loop
# result True
# no running event loop
