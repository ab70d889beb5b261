"""Blocking work beside the loop: threads, and a thread that calls back."""

import asyncio
import hashlib
import threading
import time


def digest(number):
    """Something that would block the loop for a while."""
    return hashlib.pbkdf2_hmac("sha256", b"secret", str(number).encode(), 20000)


def report_from_a_thread(loop, queue):
    for number in range(3):
        time.sleep(0.01)
        loop.call_soon_threadsafe(queue.put_nowait, f"call {number}")
    loop.call_soon_threadsafe(queue.put_nowait, None)


async def main():
    loop = asyncio.get_running_loop()
    digests = await asyncio.gather(
        *(loop.run_in_executor(None, digest, number) for number in range(8)))
    print("digests:", *(value.hex()[:8] for value in digests))
    print("in a thread:", await asyncio.to_thread(sum, range(1000)))
    queue = asyncio.Queue()
    thread = threading.Thread(target=report_from_a_thread, args=(loop, queue))
    thread.start()
    while (message := await queue.get()) is not None:
        print("from a thread:", message)
    thread.join()


if __name__ == "__main__":
    asyncio.run(main())
