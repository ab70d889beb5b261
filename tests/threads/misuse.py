"""Threads call every public method of what two loops work on, without asking whether they may.

    python misuse.py MODULE SEED [--seconds N] [--kind KIND ...] [--without MODE ...]

Each call ends with a result or an exception; nothing crashes or hangs, and what asyncio promises to
other threads holds all the time. trying.py runs this program in a process of its own.
"""

import argparse
import asyncio
import collections
import contextlib
import copy
import faulthandler
import gc
import importlib
import json
import logging
import mmap
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings

import calling
import props

# The modes, each a thread (`loop`: calls from the loop's own thread).
MODES = ("calling", "loop", "reading", "collecting", "listing", "forking", "delivering")
# Bytes of the journal for the last call of each thread.
SLOT = 120


class Journal:
    """The last call of each thread, in a file that a crash leaves behind."""

    def __init__(self, path, threads):
        self.map = None
        if path:
            with open(path, "wb+") as file:
                file.truncate(SLOT * threads)
                self.map = mmap.mmap(file.fileno(), SLOT * threads)

    def note(self, slot, text):
        """The thread with this slot is about to do what the text says."""
        if self.map is not None:
            line = text.encode()[: SLOT - 1].ljust(SLOT - 1) + b"\n"
            self.map[slot * SLOT : (slot + 1) * SLOT] = line


class Player:
    """Everything of one run."""

    def __init__(self, options):
        self.options = options
        self.aio = importlib.import_module(options.module)
        self.over = threading.Event()
        self.wrong = []
        self.counts = collections.Counter()
        self.raised = collections.Counter()
        self.unknown = set()
        self.stages = []
        # The tasks that make props, which nobody else refers to.
        self.making = {}
        self.threads = []
        self.loop_threads = []
        self.journal = Journal(options.journal, 32)
        self.slots = iter(range(32))

    # What no call may end with.

    def judge(self, error, where):
        """Count an exception, and see whether it may be."""
        self.raised[type(error).__name__] += 1
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, (SystemError, BufferError)) or "panicked" in text:
            self.complain(f"{where}: {''.join(traceback.format_exception(error))}")

    def complain(self, text):
        """Note something wrong; a few are enough."""
        if len(self.wrong) < 20:
            self.wrong.append(text)

    def unraisable(self, args):
        """What is raised where nobody can catch it."""
        if args.exc_value is not None:
            self.judge(args.exc_value, f"unraisable, {args.err_msg} {type(args.object).__name__}")

    # The loops.

    def run_loop(self, stage, opened):
        """The thread of a loop: it runs again whenever a stranger has stopped it."""
        loop = stage.loop
        asyncio.set_event_loop(loop)
        opened.set()
        while not stage.ended:
            try:
                loop.run_forever()
            except BaseException as error:
                self.complain(f"an exception left the loop:\n{traceback.format_exc()}")
                self.judge(error, "run_forever")

    def open_stage(self, certificate):
        """A loop of the module that runs in a thread of its own."""
        loop = self.aio.new_event_loop()
        stage = props.Stage(self.aio, loop, certificate, self.options.kind)
        stage.ended = False
        loop.set_exception_handler(stage.handle_report)
        opened = threading.Event()
        thread = threading.Thread(target=self.run_loop, args=(stage, opened), name="loop")
        thread.start()
        opened.wait()
        self.stages.append(stage)
        self.loop_threads.append(thread)
        return stage

    def refresh(self, stage, wait=False):
        """New props, made by the loop's own thread."""
        done = threading.Event()

        def begin():
            self.making[done] = stage.loop.create_task(make())

        async def make():
            try:
                await stage.make()
                self.counts["made"] += 1
            except BaseException as error:
                self.judge(error, "make")
                self.counts[f"not made: {error!r}"[:100]] += 1
                if wait:
                    self.complain(f"the first props are not made:\n{traceback.format_exc()}")
            finally:
                done.set()
                self.making.pop(done, None)

        stage.loop.call_soon_threadsafe(begin)
        if wait and not done.wait(self.options.patience):
            self.complain("the first props are not made in time")

    # The threads, one function for each mode.

    def call_once(self, stage, arguments, choose, slot):
        """Call a method of a prop."""
        kind = choose.choice(stage.kinds())
        values = stage.props.get(kind)
        if not values:
            return
        prop = choose.choice(values)
        found = calling.methods(kind, prop)
        if self.options.method:
            found = [one for one in found if one[0] in self.options.method]
        if not found:
            return
        name, wanted = choose.choice(found)
        self.journal.note(slot, f"{kind}.{name}")
        self.counts["calls"] += 1
        try:
            positional, named = arguments.of(kind, name, wanted)
            stage.take(getattr(prop, name)(*positional, **named), choose)
        except BaseException as error:
            self.judge(error, f"{kind}.{name}")

    def do_calling(self, stage, choose, slot):
        """Calls methods."""
        arguments = calling.Arguments(stage, choose)
        while not self.over.is_set():
            self.call_once(stage, arguments, choose, slot)
            # with a GIL, the loops would get none of it
            if choose.random() < 0.1:
                time.sleep(0.0005)
        self.unknown |= arguments.unknown

    def do_loop(self, stage, choose, slot):
        """Lets the loop's own thread call methods, and makes new props now and then."""
        arguments = calling.Arguments(stage, choose)
        # A callback of a call that pokes pokes again; so deep and no deeper.
        depth = 0

        def poke():
            nonlocal depth
            if depth or threading.current_thread().name != "loop":
                return
            depth += 1
            try:
                for _ in range(10):
                    self.call_once(stage, arguments, choose, slot)
            finally:
                depth -= 1

        stage.poked = poke
        turn = 0
        while not self.over.wait(0.002):
            turn += 1
            stage.loop.call_soon_threadsafe(poke)
            if turn % 4 == 0:
                self.refresh(stage)
            if turn % 3 == 0:
                stage.end_spares()
        self.unknown |= arguments.unknown

    def do_reading(self, stage, choose, slot):
        """Reads attributes."""
        while not self.over.is_set():
            kind = choose.choice(stage.kinds())
            values = stage.props.get(kind)
            if not values:
                continue
            prop = choose.choice(values)
            self.over.wait(0.0005)
            for name in (*dir(prop), "repr", "vars", "copy"):
                if name in calling.UNREAD:
                    continue
                self.journal.note(slot, f"read {kind}.{name}")
                self.counts["reads"] += 1
                try:
                    if name == "repr":
                        repr(prop)
                    elif name == "vars":
                        repr(vars(prop))
                    elif name == "copy":
                        copy.copy(prop)
                    else:
                        value = getattr(prop, name)
                        if choose.random() < 0.1 and not calling.is_coroutine_of_python(value):
                            repr(value)
                except BaseException as error:
                    self.judge(error, f"read {kind}.{name}")

    def do_collecting(self, stage, choose, slot):
        """Collects garbage."""
        while not self.over.wait(choose.choice((0.001, 0.01, 0.03))):
            self.journal.note(slot, "collect")
            gc.collect(choose.choice((0, 1, 2)))
            self.counts["collections"] += 1
            prop = stage.pick(choose.choice(stage.kinds()), choose)
            self.journal.note(slot, f"referents of {type(prop).__name__}")
            gc.get_referents(prop)

    def do_listing(self, stage, choose, slot):
        """Lists tasks."""
        while not self.over.wait(0.001):
            for module in (asyncio, self.aio):
                self.journal.note(slot, f"all_tasks of {module.__name__}")
                try:
                    for task in module.all_tasks(stage.loop):
                        task.done()
                    module.current_task(stage.loop)
                    self.counts["listings"] += 1
                except BaseException as error:
                    self.judge(error, "all_tasks")

    def do_forking(self, stage, choose, slot):
        """Forks; the child looks at some props, and runs a loop of its own."""
        while not self.over.wait(choose.choice((0.1, 0.2, 0.4))):
            self.journal.note(slot, "fork")
            # In a free-threaded build the child must not touch a dict that another thread is in at
            # that moment: the dict's lock may stay locked.
            kinds = ("future", "task", "lock", "queue", "handle", "loop", "stream transport")
            seen = [prop for kind in kinds for prop in stage.props.get(kind, ())]
            pid = os.fork()
            if not pid:
                status = 99
                try:
                    status = self.live_as_child(seen)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            self.journal.note(slot, "wait for a child")
            _, status = os.waitpid(pid, 0)
            self.counts["forks"] += 1
            if status:
                self.complain(f"a child ended with {os.waitstatus_to_exitcode(status)}")

    def live_as_child(self, seen):
        """What a child does; its exit status."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(self.options.patience))
        faulthandler.register(signal.SIGALRM, chain=True)
        for prop in seen:
            repr(prop)
        loop = self.aio.new_event_loop()
        with contextlib.closing(loop):
            slept = loop.run_until_complete(self.aio.sleep(0.001, "slept"))
            called = loop.run_until_complete(loop.run_in_executor(None, len, "four"))
        return 0 if (slept, called) == ("slept", 4) else 98

    def do_delivering(self, stage, choose, slot):
        """Hands over numbers in the ways that asyncio promises to other threads."""
        soon, queued, gone = [], [], []
        queue = self.aio.Queue()

        async def consume():
            while (item := await queue.get()) is not None:
                queued.append(item)

        async def add_one(number):
            gone.append(number)
            return number

        consuming = asyncio.run_coroutine_threadsafe(consume(), stage.loop)
        sent = 0
        while not self.over.is_set():
            for _ in range(choose.choice((1, 1, 10, 100))):
                stage.loop.call_soon_threadsafe(soon.append, sent)
                stage.loop.call_soon_threadsafe(queue.put_nowait, sent)
                sent += 1
            self.journal.note(slot, "run_coroutine_threadsafe")
            number = sent
            future = asyncio.run_coroutine_threadsafe(add_one(number), stage.loop)
            try:
                if future.result(self.options.patience) != number:
                    self.complain("run_coroutine_threadsafe has another's result")
            except BaseException as error:
                self.complain(f"run_coroutine_threadsafe: {error!r}")
                return
            self.counts["delivered"] += 1
        stage.loop.call_soon_threadsafe(queue.put_nowait, None)
        try:
            consuming.result(self.options.patience)
        except BaseException as error:
            self.complain(f"the queue's consumer: {error!r}")
        self.counts["sent"] += sent
        if soon != list(range(sent)):
            self.complain(f"call_soon_threadsafe: {len(soon)} of {sent} calls came, {first(soon)}")
        if queued != list(range(sent)):
            self.complain(f"queue: {len(queued)} of {sent} items came, {first(queued)}")

    # The whole.

    def begin(self, mode, stage, number):
        """Start a thread in a mode."""
        slot = next(self.slots)
        choose = random.Random(f"{self.options.seed} {mode} {number}")

        def run():
            try:
                getattr(self, f"do_{mode}")(stage, choose, slot)
            except BaseException:
                self.complain(f"the thread {mode} failed:\n{traceback.format_exc()}")
            finally:
                self.journal.note(slot, "ended")

        thread = threading.Thread(target=run, name=mode, daemon=True)
        thread.start()
        self.threads.append(thread)

    def play(self):
        """One run, until everything has ended."""
        modes = [mode for mode in MODES if mode not in self.options.without]
        # A TLS connection that several threads use crashes in CPython's own _ssl, with a GIL too: one
        # thread reads a MemoryBIO while another, which has given up the GIL, writes into it.
        wants_tls = "tls transport" in self.options.kind
        for _ in range(2):
            stage = self.open_stage(self.options.certificate if wants_tls else None)
            self.refresh(stage, wait=True)
        if self.wrong:
            return
        for number, stage in enumerate(self.stages):
            for mode in modes:
                if mode == "calling":
                    for caller in range(self.options.threads):
                        self.begin(mode, stage, f"{number} {caller}")
                elif number == 0 or mode in ("loop", "delivering"):
                    self.begin(mode, stage, number)
        time.sleep(self.options.seconds)
        self.over.set()
        self.end_threads()
        self.look_at_loops()

    def end_threads(self):
        """Wait for the threads; who runs a spare loop is stopped."""
        deadline = time.monotonic() + self.options.patience
        for thread in self.threads:
            while thread.is_alive() and time.monotonic() < deadline:
                for stage in self.stages:
                    stage.end_spares()
                thread.join(0.01)
        left = [thread.name for thread in self.threads if thread.is_alive()]
        if left:
            self.complain(f"threads hang: {left}")
            faulthandler.dump_traceback()

    def look_at_loops(self):
        """The loops still work; then they end."""
        for stage, thread in zip(self.stages, self.loop_threads, strict=True):
            arrived = threading.Event()
            stage.loop.call_soon_threadsafe(arrived.set)
            if not arrived.wait(self.options.patience):
                self.complain("a loop does not run any more")
                faulthandler.dump_traceback()
                continue
            stage.ended = True
            stage.loop.call_soon_threadsafe(stage.loop.stop)
            thread.join(self.options.patience)
            if thread.is_alive():
                self.complain("a loop does not stop")
                continue
            for error in stage.reports:
                if error is not None:
                    self.judge(error, "report")
            with contextlib.suppress(RuntimeError, OSError):
                stage.loop.close()
            stage.props.clear()
        gc.collect()


def first(numbers):
    """Where a list of numbers that should be in order is not."""
    wrong = [place for place, number in enumerate(numbers) if place != number]
    return f"wrong from place {wrong[0]}" if wrong else "in order"


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("seed", type=int)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long the misuse lasts")
    parser.add_argument("--threads", type=int, default=3, help="callers of each loop")
    parser.add_argument("--kind", action="append", default=[], help="only props of these kinds")
    parser.add_argument("--method", action="append", default=[], help="only these methods")
    parser.add_argument("--without", action="append", default=[], choices=MODES)
    parser.add_argument("--certificate", help="a file with a certificate and its key, for TLS")
    parser.add_argument("--journal", help="the file that has the last call of each thread")
    parser.add_argument("--patience", type=float, default=20, help="seconds after which what waits hangs")
    return parser.parse_args()


def main():
    """Play; print a line of JSON; the status is 1 if something was wrong."""
    options = parse()
    warnings.simplefilter("ignore")
    logging.disable()
    faulthandler.enable()
    faulthandler.dump_traceback_later(options.seconds + 3 * options.patience, exit=True)
    # threads change places in the middle of short calls too, where there is a GIL
    sys.setswitchinterval(0.0005)
    player = Player(options)
    sys.unraisablehook = player.unraisable
    threading.excepthook = lambda args: player.judge(args.exc_value, "thread")
    player.play()
    print(
        json.dumps(
            {
                "wrong": player.wrong,
                "counts": player.counts,
                "raised": player.raised,
                "unknown": sorted(player.unknown),
            }
        ),
        flush=True,
    )
    if player.wrong:
        os._exit(1)


if __name__ == "__main__":
    main()
