# debug
"""What debug mode finds: slow code, calls from other threads, where a task was made."""

import asyncio
import logging
import threading
import time

logging.basicConfig(format="%(name)s %(levelname)s %(message)s", level=logging.WARNING)


async def hogs():
    time.sleep(0.06)


async def fails():
    raise ValueError("unread")


def elsewhere(loop):
    try:
        loop.call_soon(print)
    except RuntimeError as error:
        print(error)


async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 0.05
    print(loop.get_debug())
    await asyncio.create_task(hogs())
    loop.slow_callback_duration = 60
    await loop.run_in_executor(None, elsewhere, loop)
    task = asyncio.create_task(fails())
    await asyncio.sleep(0.001)
    del task


asyncio.run(main())

# prints
# True
# Non-thread-safe operation invoked on an event loop other than the current one
# reports
# asyncio WARNING Executing <Task finished name='Task-*' coro=<hogs() done, defined at *debug_mode.py:12> result=None created at *> took 0.* seconds
# asyncio ERROR Task exception was never retrieved
# future: <Task finished name='Task-*' coro=<fails() done, defined at *debug_mode.py:16> exception=ValueError('unread') created at *>
# source_traceback: Object created at (most recent call last):
# ...
#     task = asyncio.create_task(fails())
# ...
# ValueError: unread
