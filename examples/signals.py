"""Signals: work until Ctrl-C or SIGTERM, then end in order.

It sends itself three SIGUSR1 and, at last, SIGTERM, so that it ends by itself.
"""

import asyncio
import os
import signal


async def send_signals():
    for _ in range(3):
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)


async def main():
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, print, "still here")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(send_signals())
        await stop.wait()
    print("stopped in order")


if __name__ == "__main__":
    asyncio.run(main())
