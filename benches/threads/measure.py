"""The measured process of scaling.py: one program on one target, by one thread and by several, in
turns; its result is one line of JSON."""

import argparse
import contextvars
import gc
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import targets
from threads import programs


class Turn:
    """Some threads that do the same, each on a loop of its own."""

    def __init__(self, program: str, factory: programs.Factory, count: int, seconds: float) -> None:
        self.program, self.factory, self.seconds = program, factory, seconds
        self.end = 0.0
        self.operations: list[int] = []
        self.processor: list[float] = []
        self.wall: list[float] = []
        # They begin together, when all have made their loops.
        self.barrier = threading.Barrier(count, self._begin)
        self.failed: list[BaseException] = []
        threads = [threading.Thread(target=self._guarded, **self._context()) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failed:
            raise self.failed[0]

    def _context(self) -> dict[str, Any]:
        """The option for the context of a thread. Where threads inherit one, it shall be empty."""
        if sys.version_info < (3, 14):
            return {}
        if self.program == "shared_context":
            return {"context": INHERITED.copy()}
        return {"context": contextvars.Context()}

    def _begin(self) -> None:
        self.end = time.perf_counter() + self.seconds

    def _guarded(self) -> None:
        try:
            if self.program == "shared_context" and sys.version_info < (3, 14):
                INHERITED.copy().run(self._work)
            else:
                self._work()
        except BaseException as error:
            self.failed.append(error)
            self.barrier.abort()

    def _work(self) -> None:
        if self.program == "shared_lists":
            self.barrier.wait()
            started, used = time.perf_counter(), time.thread_time()
            operations = programs.run_again(self.factory, self.end)
        else:
            loop = self.factory()
            main = getattr(programs, self.program)(self.factory)
            self.barrier.wait()
            started, used = time.perf_counter(), time.thread_time()
            operations = loop.run_until_complete(main(self.end))
        self.processor.append(time.thread_time() - used)
        self.wall.append(time.perf_counter() - started)
        self.operations.append(operations)
        if self.program != "shared_lists":
            loop.close()

    def result(self) -> dict[str, float]:
        """Operations per second of processor time, and of time."""
        operations = sum(self.operations)
        return {
            "per_processor_second": operations / sum(self.processor),
            "per_second": operations / max(self.wall),
        }


INHERITED = programs.inherited()


def is_gil_on() -> bool:
    """Whether there is a GIL; on builds that always have it, too."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=programs.ROWS)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()

    factory = targets.load(options.target)

    def turn(count: int) -> dict[str, float]:
        return Turn(options.program, factory, count, options.seconds).result()

    # What is paid once is paid here.
    turn(options.threads)
    gc.collect()
    gc.freeze()
    pairs = []
    for number in range(options.pairs):
        # The one first and the others first, by turns.
        order = (1, options.threads) if number % 2 == 0 else (options.threads, 1)
        pairs.append({str(count): turn(count) for count in order})
    print(json.dumps({"gil": is_gil_on(), "pairs": pairs}))


main()
