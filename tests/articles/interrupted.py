"""Ctrl-C ends run_forever()."""

import asyncio
import os
import signal


async def beats():
    while True:
        await asyncio.sleep(0.01)


signal.signal(signal.SIGINT, signal.default_int_handler)
loop = asyncio.new_event_loop()
task = loop.create_task(beats())
loop.call_later(0.03, os.kill, os.getpid(), signal.SIGINT)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", task.done(), loop.is_running())
finally:
    task.cancel()
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        print("ended")
    loop.close()

# prints
# interrupted False False
# ended
