"""Lock, Event, Condition, Semaphore, made before any loop."""

import asyncio
import threading

lock = asyncio.Lock()
event = asyncio.Event()
condition = asyncio.Condition()
limit = asyncio.Semaphore(2)
inside = most = 0


async def one_at_a_time(name):
    async with lock:
        print(name, "has the lock", lock.locked())
        await asyncio.sleep(0)
        print(name, "gives it back")


async def waits_for_event(name):
    print(name, "waits", event.is_set())
    await event.wait()
    print(name, "goes on", event.is_set())


async def consumer(name):
    async with condition:
        await condition.wait()
        print(name, "was notified", condition.locked())


async def notify(how, *arguments):
    async with condition:
        how(*arguments)
    await asyncio.sleep(0.01)
    print("-")


async def bounded():
    global inside, most
    async with limit:
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1


async def main():
    await asyncio.gather(one_at_a_time("a"), one_at_a_time("b"), one_at_a_time("c"))
    waiting = [asyncio.create_task(waits_for_event(name)) for name in "de"]
    await asyncio.sleep(0)
    event.set()
    await asyncio.gather(*waiting)
    consumers = [asyncio.create_task(consumer(number)) for number in range(6)]
    await asyncio.sleep(0)
    await notify(condition.notify)
    await notify(condition.notify, 2)
    await notify(condition.notify_all)
    await asyncio.gather(*consumers)
    try:
        condition.notify()
    except RuntimeError as error:
        print(error)
    await asyncio.gather(*(bounded() for _ in range(20)))
    print("at most", most)


asyncio.run(main())
# They have the methods of threading's.
for name in ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore"):
    theirs = {method for method in dir(getattr(threading, name)()) if not method.startswith("_")}
    ours = set(dir(getattr(asyncio, name)()))
    print(name, sorted(theirs - ours - {"isSet", "notifyAll", "acquire_lock", "locked_lock",
                                        "release_lock"}))

# prints
# a has the lock True
# a gives it back
# b has the lock True
# b gives it back
# c has the lock True
# c gives it back
# d waits False
# e waits False
# d goes on True
# e goes on True
# 0 was notified True
# -
# 1 was notified True
# 2 was notified True
# -
# 3 was notified True
# 4 was notified True
# 5 was notified True
# -
# cannot notify on un-acquired lock
# at most 2
# Lock []
# Event []
# Condition []
# Semaphore []
# BoundedSemaphore []
