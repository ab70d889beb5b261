"""What random programs share: a clock of their own, turns, the trace, and where they are played.

A program is a seed. It takes each decision from one random generator and writes down all that it
sees, so two runs with the same trace took the same way. Time is the program's own: it goes on by one
with each iteration of the loop, which never waits. Delays differ by a fraction each, as asyncio's
heap knows no order among equals.
"""

import asyncio
import gc
import logging
import random
import re
import sys
import warnings
import weakref

import aioxide
from observing import plain

# Delays are below this.
LONGEST = 6
# Iterations in which nothing happens, after which what still waits, waits for ever.
PATIENCE = 2 * LONGEST
# Iterations after which a program is ended.
ENOUGH = 200
# Iterations in which whatever is left must have ended, cancelled again and again.
LAST = 300


class Failure(Exception):
    """An exception of the program."""


class Abort(BaseException):
    """One that `except Exception` lets pass, and that is none of those that end a loop."""


def _with_clock(base):
    class Loop(base):
        now = 0.0

        def time(self):
            return self.now

    return Loop


# who offers the functions, whose loop; the first is the model
PLACES = {
    "asyncio": (asyncio, lambda: asyncio.SelectorEventLoop),
    "aioxide": (aioxide, lambda: aioxide.Loop),
    "loop alone": (asyncio, lambda: aioxide.Loop),
    "asyncio's loop": (aioxide, lambda: asyncio.SelectorEventLoop),
    # in a child process, after install()
    "installed": (asyncio, lambda: aioxide.Loop),
}


class Place:
    """Where programs are played: a module and a loop."""

    def __init__(self, name):
        self.aio, base = PLACES[name]
        self.loop = _with_clock(base())()

    def close(self):
        self.loop.close()

    def play(self, kind, seed, *options):
        """The trace of a program, and how many operations it had."""
        program = kind(self.aio, self.loop, seed, *options)
        collecting = gc.isenabled()
        gc.disable()
        # pytest keeps what is logged: with a traceback of asyncio's all that its frames hold, and
        # with a slow callback its handle, as each takes a second of the programs' time
        chaining, slow = logging.getLogger("concurrent.futures"), logging.getLogger("asyncio")
        chaining.disabled = True
        level = slow.level
        slow.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = program.reports.warned
                program.play()
                remains, trace, reports = program.end()
                count = program.operations
                del program
                gc.collect()
                if any(ref() for ref in remains):
                    # what a finaliser has brought back to life goes the next time
                    gc.collect()
                # what a finaliser has scheduled belongs to this program, not to the next
                for _ in range(3):
                    self.loop.call_soon(self.loop.stop)
                    self.loop.run_forever()
                gc.collect()
        finally:
            chaining.disabled = False
            slow.setLevel(level)
            self.loop.set_exception_handler(None)
            if collecting:
                gc.enable()
        assert not any(ref() for ref in remains), f"seed {seed}: objects still alive"
        # when an object goes is not asyncio's promise, that it says so is
        trace.append(sorted(reports, key=repr))
        return trace, count


def told(error, depth=3):
    """An exception with its arguments, and what it came from."""
    if error is None:
        return None
    # copied exceptions of one CancelledError have more of a context than is worth comparing
    below = depth and (
        told(error.__cause__, depth - 1),
        told(error.__context__, depth - 1),
        error.__suppress_context__,
    )
    if isinstance(error, BaseExceptionGroup):
        return type(error).__name__, error.message, [told(item, depth) for item in error.exceptions], below
    return plain(error), below


def frames(error, filename):
    """The names of the functions of one file in an exception's traceback."""
    found = []
    entry = error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == filename:
            found.append(entry.tb_frame.f_code.co_name)
        entry = entry.tb_next
    return found


class Reports(list):
    """What the loop's exception handler and the warnings say, without what it is about."""

    def report(self, loop, context):
        names = sorted(set(context) - {"source_traceback"})
        # a text cut short may end in the middle of an address, or of where the object was made
        message = re.sub(r"\.\.\.([\w.]*:\d+|[0-9a-f]+\b)", "...", context["message"])
        self.append((message, told(context.get("exception"), 0), names))

    def warned(self, message, category, filename, lineno, file=None, line=None):
        # without where the coroutine was made, which goes through the loop's own frames
        self.append((category.__name__, plain(str(message)).partition("\n")[0]))


class Program:
    """The base of all programs."""

    budget = 60

    def __init__(self, aio, loop, seed, budget=None):
        self.aio = aio
        self.loop = loop
        self.seed = seed
        self.random = random.Random(seed)
        self.trace = []
        self.reports = Reports()
        self.operations = 0
        self.budget = budget or self.budget
        self.names = {}  # tasks and futures, in the order in which they became known
        self.number = 0
        self.began = loop.now
        self.turns = 0
        self.quiet = 0
        self.last = 0
        self.seen = 0
        self.stuck = []
        self.over = False
        self.error = None

    def begin(self):
        """Starts the program, within the first iteration."""
        raise NotImplementedError

    def meddle(self):
        """What happens from outside, in each iteration."""

    def let_go(self):
        """The end is near: what may be collected now can still use the loop."""

    # the trace

    def tell(self, *values):
        self.trace.append(values)

    def know(self, future):
        """The future's number."""
        name = self.names.get(future)
        if name is None:
            name = self.names[future] = len(self.names)
        return name

    # chances

    def chance(self, probability):
        return self.random.random() < probability

    def spend(self):
        """Counts an operation; false if it may not be."""
        if self.operations >= self.budget:
            return False
        self.operations += 1
        return True

    def next(self):
        self.number += 1
        return self.number

    def delay(self):
        """None like another, so that no two timers are due at once."""
        return self.random.randrange(LONGEST) + self.next() / 2**20

    def message(self):
        return self.random.choice([(), (), (self.next(),)])

    # turns

    def _turn(self):
        try:
            self._next_turn()
        except Exception as error:
            self.error = error
            self.over = True
            self.loop.stop()

    def _next_turn(self):
        again = self.loop.call_soon(self._turn)
        self.turns += 1
        self.loop.now += 1.0
        happened = len(self.trace) + self.operations
        self.quiet = self.quiet + 1 if happened == self.seen else 0
        self.seen = happened
        if self.turns == 1:
            self.begin()
        left = [task for task in self.names if not task.done()]
        if not left and self.quiet > LONGEST and self.budget:
            self.budget = self.quiet = 0
            self.let_go()
        elif not left and self.quiet > LONGEST:
            again.cancel()
            self.over = True
            self.loop.stop()
            return
        if self.quiet < PATIENCE and self.turns < ENOUGH and not self.last:
            if self.budget:
                self.meddle()
            return
        self.last += 1
        if self.last == 1:
            self.tell("left", [self.names[future] for future in left])
            self.budget = 0
        for future in left:
            future.cancel()
        if self.last == LAST:
            self.stuck = left
            again.cancel()
            self.over = True
            self.loop.stop()

    def play(self):
        self.loop.set_exception_handler(self.reports.report)
        self.loop.call_soon(self._turn)
        while not self.over:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit) as error:
                self.tell("interrupted", plain(error), self.turns)
            else:
                self.tell("stopped", self.turns)
        if self.error is not None:
            raise self.error
        assert not self.stuck, f"seed {self.seed}: {self.stuck} do not end"
        self.tell("tasks", len(self.aio.all_tasks(self.loop)), self.turns)

    def end(self):
        """Weak references to what must be gone, the trace and the reports."""
        self.loop.set_task_factory(None)
        remains = [weakref.ref(future) for future in self.names]
        reports = self.reports
        trace = self.trace
        self.__dict__ = {"operations": self.operations}
        return remains, trace, reports


EAGER = sys.version_info >= (3, 12)
