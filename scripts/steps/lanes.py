"""Chains of commands side by side; each line of output begins with the name of its chain."""

import contextlib
import dataclasses
import os
import queue
import subprocess
import threading
import time
from collections.abc import Sequence

from .running import ROOT, Word


@dataclasses.dataclass
class Chain:
    """Commands that run one after the other, under a name."""

    name: str
    commands: list[list[Word]]
    failed: bool = False


class Lanes:
    """Some chains at once: a lane that has ended one takes the next."""

    def __init__(self, chains: Sequence[Chain]) -> None:
        self._waiting: queue.SimpleQueue[Chain] = queue.SimpleQueue()
        for chain in chains:
            self._waiting.put(chain)
        self._width = max(len(chain.name) for chain in chains)
        self._printing = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, lanes: int) -> None:
        """Run all chains; those with a command that failed have `failed` set."""
        threads = [threading.Thread(target=self._lane) for _ in range(lanes)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            # Commands still run at this point only after Ctrl-C.
            self._stopped = True
            for process in list(self._running):
                process.terminate()

    def _lane(self) -> None:
        with contextlib.suppress(queue.Empty):
            while not self._stopped:
                self._run(self._waiting.get_nowait())

    def _run(self, chain: Chain) -> None:
        for command in chain.commands:
            if self._stopped:
                return
            started = time.monotonic()
            status = self._show(chain, [str(word) for word in command])
            chain.failed |= status != 0
            outcome = "done" if status == 0 else f"FAILED ({status})"
            seconds = time.monotonic() - started
            self._print(chain, f"== {outcome} after {seconds:.0f} s: {_title(command)}")

    def _show(self, chain: Chain, command: list[str]) -> int:
        """Run a command and print its output line by line; return its exit status."""
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._running.add(process)
        with process:
            assert process.stdout
            for line in process.stdout:
                self._print(chain, line.rstrip("\n"))
        self._running.discard(process)
        return process.returncode

    def _print(self, chain: Chain, line: str) -> None:
        with self._printing:
            print(f"{chain.name:{self._width}} | {line}", flush=True)


def _title(command: Sequence[Word]) -> str:
    """A command without the interpreter before it."""
    words = [os.path.basename(str(word)) for word in command]
    return " ".join(words[1:] or words)
