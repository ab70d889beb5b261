# legacy
# asyncio until 3.13
"""get_event_loop(), run_until_complete(), run_forever(), stop(), close()."""

import asyncio


async def work(number):
    print("work", number)
    await asyncio.sleep(0.01)
    return number


async def fails():
    raise ValueError("raised by run_until_complete()")


async def stops():
    await asyncio.sleep(0)
    print("stops the loop of", asyncio.get_event_loop() is loop)
    loop.stop()


async def never_ends():
    await asyncio.sleep(3600)
    print("never printed")


loop = asyncio.get_event_loop()
print(loop is asyncio.get_event_loop(), loop.is_running(), loop.is_closed())
print(loop.run_until_complete(work(1)))
print(loop.run_until_complete(asyncio.ensure_future(work(2))))
print(loop.run_until_complete(loop.create_task(work(3))))
try:
    loop.run_until_complete(fails())
except ValueError as error:
    print(error)

# What run_until_complete() does, by hand.
future = asyncio.ensure_future(work(4))
future.add_done_callback(lambda future: loop.stop())
loop.run_forever()
print(future.result())

# Pending ones are left, and can go on.
left = loop.create_task(never_ends())
loop.create_task(stops())
loop.run_forever()
print(left.done())
left.cancel()
try:
    loop.run_until_complete(left)
except asyncio.CancelledError:
    print("cancelled")
loop.call_later(0.01, loop.stop)
loop.run_forever()

loop.close()
print(loop.is_closed())
coroutine = work(5)
try:
    loop.run_until_complete(coroutine)
except RuntimeError as error:
    print(error)
coroutine.close()

# prints
# True False False
# work 1
# 1
# work 2
# 2
# work 3
# 3
# raised by run_until_complete()
# work 4
# 4
# stops the loop of True
# False
# cancelled
# True
# Event loop is closed
