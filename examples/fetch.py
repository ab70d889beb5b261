"""Fetch a thousand pages at once with aiohttp, from the service in service.py.

    python examples/fetch.py [--count 1000] [URL]               on asyncio
    python -m aioxide examples/fetch.py [--count 1000] [URL]    on aioxide
"""

import argparse
import asyncio
import sys
import time

import aiohttp


async def fetch(session, number):
    async with session.get(f"/items/{number}") as response:
        response.raise_for_status()
        answer = await response.json()
    assert answer["square"] == number * number, answer


async def show_progress(tasks):
    while True:
        done = sum(task.done() for task in tasks)
        print(f"\r  {done} of {len(tasks)} ", end="", file=sys.stderr)
        await asyncio.sleep(0.1)


async def main(url, count):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        started = time.perf_counter()
        tasks = [asyncio.create_task(fetch(session, number))
                 for number in range(count)]
        if sys.stderr.isatty():
            progress = asyncio.create_task(show_progress(tasks))
        await asyncio.gather(*tasks)
        seconds = time.perf_counter() - started
        if sys.stderr.isatty():
            progress.cancel()
            print("\r\033[K", end="", file=sys.stderr)
    loop = type(asyncio.get_running_loop())
    print(f"{count} answers in {seconds:.3f} s "
          f"on {loop.__module__}.{loop.__qualname__}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    asyncio.run(main(options.url, options.count))
