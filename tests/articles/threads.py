"""Other threads and processes: blocking code, calls from outside, pools."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import threading
import time


def blocking(number):
    time.sleep(0.01)
    return number, threading.current_thread() is threading.main_thread()


def in_a_process(number):
    return number * number, os.getpid()


async def answer(number):
    return number + 1, threading.current_thread() is threading.main_thread()


def from_outside(loop, seen):
    future = asyncio.run_coroutine_threadsafe(answer(41), loop)
    print(future.result(20), isinstance(future, concurrent.futures.Future))
    loop.call_soon_threadsafe(seen.set_result, "called from outside")


async def beats(count):
    for _ in range(count):
        await asyncio.sleep(0.001)
    return "the loop went on"


async def main():
    loop = asyncio.get_running_loop()
    print(await asyncio.gather(loop.run_in_executor(None, blocking, 1), beats(2)))
    seen = loop.create_future()
    thread = threading.Thread(target=from_outside, args=(loop, seen))
    thread.start()
    print(await seen)
    thread.join()
    with concurrent.futures.ThreadPoolExecutor(3, "mine") as pool:
        calls = [loop.run_in_executor(pool, blocking, number) for number in range(3)]
        print(await asyncio.gather(*calls))
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            calls = [loop.run_in_executor(pool, in_a_process, number) for number in range(3)]
            results = await asyncio.gather(*calls)
        print(method, [square for square, _ in results], os.getpid() in dict(results).values())
    # What blocks in a coroutine stops all others.
    task = asyncio.create_task(beats(1))
    await asyncio.sleep(0)
    time.sleep(0.02)
    print(task.done(), await task)


if __name__ == "__main__":
    asyncio.run(main())

# prints
# [(1, False), 'the loop went on']
# (42, True) True
# called from outside
# [(0, False), (1, False), (2, False)]
# fork [0, 1, 4] False
# spawn [0, 1, 4] False
# forkserver [0, 1, 4] False
# False the loop went on
