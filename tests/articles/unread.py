"""When an exception of a Task is seen: at once if it is awaited, else when the Task goes."""

import asyncio
import gc
import logging

logging.basicConfig(format="%(name)s %(levelname)s %(message)s")


async def fails(text):
    raise ValueError(text)


async def pending():
    await asyncio.get_running_loop().create_future()


async def main():
    loop = asyncio.get_running_loop()
    reports = []
    loop.set_exception_handler(lambda loop, report: reports.append(report))

    def show(when):
        gc.collect()
        for report in reports:
            print(when, "-", report["message"], repr(report.get("exception", "")))
        reports.clear()

    task = asyncio.create_task(fails("unread"))
    await asyncio.sleep(0.01)
    show("not yet")
    del task
    show("released")

    task = asyncio.create_task(fails("awaited"))
    try:
        await task
    except ValueError as error:
        print("at once -", error)
    del task
    show("nothing more")

    task = asyncio.create_task(fails("by callback"))
    task.add_done_callback(asyncio.Task.result)
    await asyncio.sleep(0.01)
    show("at once")
    task.exception()
    del task

    task = asyncio.create_task(pending())
    await asyncio.sleep(0)
    del task
    show("gone")
    loop.set_exception_handler(None)
    asyncio.create_task(fails("to the log"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()


asyncio.run(main())

# prints
# released - Task exception was never retrieved ValueError('unread')
# at once - awaited
# at once - Exception in callback * ValueError('by callback')
# gone - Task was destroyed but it is pending! ''
# reports
# asyncio ERROR Task exception was never retrieved
# future: <Task finished name='Task-*' coro=<fails() done, defined at *unread.py:10> exception=ValueError('to the log')>
# Traceback (most recent call last):
# ...
# ValueError: to the log
