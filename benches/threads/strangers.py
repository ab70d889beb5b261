"""The measured process of latency.py: a loop busy with short entries, and a thread that calls it.
Its result is one line of JSON: the milliseconds of each kind of call."""

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import targets


def keep_busy(loop: asyncio.AbstractEventLoop, over: threading.Event) -> None:
    """Twenty chains of entries of some microseconds."""

    def step() -> None:
        for _ in range(50):
            pass
        if over.is_set():
            loop.stop()
        else:
            loop.call_soon(step)

    for _ in range(20):
        loop.call_soon(step)


def nothing() -> None:
    pass


def calls(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[], Any]]:
    """What the stranger calls, by name."""
    future = loop.create_future()
    come = threading.Event()

    def arrive() -> None:
        come.clear()
        loop.call_soon_threadsafe(come.set)
        come.wait()

    return {
        "loop.time()": loop.time,
        "future.done()": future.done,
        "loop.call_soon(f)": lambda: loop.call_soon(nothing),
        "loop.call_soon_threadsafe(f)": lambda: loop.call_soon_threadsafe(nothing),
        "until the loop calls f": arrive,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--only")
    options = parser.parse_args()

    loop = targets.load(options.target)()
    made = calls(loop)
    call = made[options.only]
    over, begun = threading.Event(), threading.Event()

    def run() -> None:
        keep_busy(loop, over)
        loop.call_soon(begun.set)
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    taken = []
    for _ in range(options.calls):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1e3)
        # The stranger comes when the loop does not expect it.
        time.sleep(0.0001)
    over.set()
    thread.join()
    print(json.dumps(taken))


main()
