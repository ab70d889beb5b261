"""Plays actors on a loop while signal handlers raise, whose exceptions leave the loop again and again.

    python storming.py MODULE SEED [ACTOR ...]

A handler raises only where the loop waits, or looks for signals, and not in the program's or
asyncio's own Python code: an exception anywhere in that may break it as any other would.
"""

import asyncio
import importlib
import random
import selectors
import signal
import sys
import threading

import actors

SIGNALS = (signal.SIGUSR1, signal.SIGVTALRM)
# Without an end of any actor for so long, something is lost.
LOST_AFTER = 10


class Stop(Exception):
    """What a soft time limit raises."""


class Ended(BaseException):
    """What a program's own end raises."""


KINDS = (Stop, Ended, KeyboardInterrupt)


class Storm:
    """Signals at random moments from another thread, and after random shares of processor time."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.may_raise = False
        self.raised = 0
        self.ending = threading.Event()
        self.main = threading.get_ident()
        self.thread = threading.Thread(target=self._send, args=(seed,))
        self.old = {}

    def __enter__(self):
        for number in SIGNALS:
            self.old[number] = signal.signal(number, self._handle)
        self.thread.start()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.001, 0.001)
        return self

    def __exit__(self, *error):
        self.may_raise = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.ending.set()
        self.thread.join()
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def shake(self):
        """A signal now, from any thread."""
        signal.pthread_kill(self.main, signal.SIGUSR1)

    def _send(self, seed):
        choose = random.Random(~seed)
        while not self.ending.wait(choose.choice((0.0001, 0.0003, 0.001, 0.003))):
            for _ in range(choose.choice((1, 1, 1, 5))):
                self.shake()

    def _handle(self, number, frame):
        if self.may_raise and frame.f_code in WAITING:
            self.may_raise = False
            self.raised += 1
            raise self.random.choice(KINDS)

    def drive(self, loop, task):
        """Runs the loop until the task is done, however often an exception leaves it."""
        task.add_done_callback(lambda task: loop.stop())
        while not task.done():
            try:
                self.may_raise = True
                loop.run_forever()
                self.may_raise = False
            except KINDS:
                pass


# The frames in which a handler may raise: asyncio's loop waits in a function of Python.
WAITING = {Storm.drive.__code__, selectors.DefaultSelector.select.__code__}


async def perform(aio, seed, names, rounds, shake):
    """The actors, all at a time."""
    choose = random.Random(seed)
    every = {actor.__name__: actor for actor in actors.ACTORS}
    names = names or choose.sample(list(every), choose.randrange(1, 7))
    stage = actors.Stage(aio, choose, rounds, shake)
    left = {asyncio.create_task(every[name](stage), name=name) for name in names}
    with stage.kept:
        while left:
            done, left = await asyncio.wait(left, timeout=LOST_AFTER, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise AssertionError(f"seed {seed}: {sorted(task.get_name() for task in left)} wait for ever")
            for task in done:
                task.result()
    return names


def play(aio, seed, names=(), rounds=10):
    """Plays one program; the names of its actors, and how many exceptions there were."""
    loop = aio.new_event_loop()
    reports = []
    loop.set_exception_handler(lambda loop, report: reports.append(report))
    try:
        with Storm(seed) as storm:
            task = loop.create_task(perform(aio, seed, names, rounds, storm.shake))
            storm.drive(loop, task)
        names = task.result()
        assert not reports, f"seed {seed}: {reports}"
        # the last run may have been told to stop and been left by an exception
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    return names, storm.raised


if __name__ == "__main__":
    print(play(importlib.import_module(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
