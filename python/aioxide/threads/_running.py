"""run_in_threads(): a loop for each of several threads, and one end for all.

The caller's thread runs the first loop, so that signals reach it, and returns when every other
thread has ended. A team is to threads what a task group is to tasks: a main that fails cancels all
others, and errors are raised together. Nothing is raised in a thread: each main's end is written
down, and the caller's thread decides at last what comes of it.
"""

import asyncio
import contextlib
import operator
import os
import select
import signal
import threading
from asyncio import events, tasks

from .._ways_in.policy import make_runner


def run_in_threads(main, *, loops=None, debug=None, loop_factory=None):
    """Run `main(number)` on each of several loops, each in a thread of its own; return the results
    in the order of the numbers, which begin with 0.

    The loop with number 0 runs in the thread of the caller. The first main that fails has all
    others cancelled. When all have ended, their errors are raised in an exception group, as by
    asyncio.TaskGroup. The first Ctrl-C cancels every main, and KeyboardInterrupt is raised when all
    have ended; the second does not wait for the mains to end.

    main: a function that takes the number of the loop and returns a coroutine or other awaitable.
    loops: how many; the number of CPUs that this process may use, if None.
    debug: whether the loops are in debug mode, as for asyncio.Runner.
    loop_factory: a function that makes a loop; it is called in each thread.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("run_in_threads() cannot be called from a running event loop")
    if not callable(main):
        raise TypeError(f"main must be a function that takes the number of the loop, not {main!r}")
    count = _usable_cpus() if loops is None else operator.index(loops)
    if count < 1:
        raise ValueError(f"loops must be at least 1, not {count}")
    team = _Team(main, count, debug, loop_factory)
    try:
        return team.run()
    finally:
        # Errors know their frames, and these the team.
        del team


def _usable_cpus():
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0))


class _Member:
    """One loop of a team. The team's lock guards its fields."""

    __slots__ = (
        "has_begun",
        "has_result",
        "is_asked_to_end",
        "is_over",
        "is_stopped",
        "loop",
        "number",
        "result",
        "task",
    )

    def __init__(self, number):
        self.number = number
        self.loop = self.task = self.result = None
        self.has_begun = self.has_result = False
        # The main has been cancelled; the loop has been stopped; the main has ended.
        self.is_asked_to_end = self.is_stopped = self.is_over = False


class _Team:
    """The loops of one call of run_in_threads()."""

    def __init__(self, main, count, debug, loop_factory):
        self._main = main
        self._debug = debug
        self._loop_factory = loop_factory
        self._members = [_Member(number) for number in range(count)]
        # The handler of Ctrl-C takes the lock too, perhaps while this very thread has it.
        self._lock = threading.RLock()
        # The members whose threads have not ended.
        self._unfinished = set()
        self._are_all_started = False
        self._others_ended = threading.Event()
        # Where to write when they have, while the main thread waits for signals as well.
        self._bell = None
        self._is_ending = False
        self._interrupts = 0
        self._errors = []
        self._ends_program = None
        self._cancelled = None

    def run(self):
        threads = []
        catches = False
        try:
            try:
                try:
                    catches = self._catch_interrupts()
                    self._start(threads)
                    self._run_member(self._members[0])
                except BaseException as error:
                    self._note(error)
            except BaseException as error:
                # Ctrl-C just then.
                self._note(error)
            self._await_others()
            for thread in threads:
                thread.join()
        finally:
            if catches and signal.getsignal(signal.SIGINT) == self._on_interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        return self._outcome()

    # The threads.

    def _start(self, threads):
        """Start the threads of the other members."""
        for member in self._members[1:]:
            thread = threading.Thread(
                target=self._run_member, args=(member,), name=f"aioxide-loop-{member.number}"
            )
            with self._lock:
                self._unfinished.add(member)
            try:
                thread.start()
            except BaseException:
                with self._lock:
                    if not member.has_begun:
                        # If its thread begins after all, as it may where a handler of signals has
                        # raised, it finds this.
                        self._unfinished.discard(member)
                raise
            threads.append(thread)

    def _await_others(self):
        """Wait until all other members have ended. The third exception out of a handler of signals
        leaves them behind: the second Ctrl-C has ended their runs, the third the closing of their
        loops, so nothing else helps."""
        exceptions = 0
        while True:
            try:
                with self._lock:
                    self._are_all_started = True
                    self._check_others()
                if threading.current_thread() is threading.main_thread():
                    self._await_others_and_signals()
                else:
                    self._others_ended.wait()
                return
            except BaseException as error:
                self._note(error)
                exceptions += 1
                if exceptions == 3:
                    raise

    def _await_others_and_signals(self):
        """Wait until all other members have ended, and let handlers of signals run meanwhile.

        A lock would not do: a signal that comes just before the main thread waits for it is not
        noticed until the wait ends.
        """
        try:
            reader, writer = os.pipe()
        except OSError:
            # No descriptor is free.
            while not self._others_ended.wait(0.1):
                pass
            return
        before = None
        try:
            os.set_blocking(reader, False)
            os.set_blocking(writer, False)
            # ValueError says that this interpreter gets no signals.
            with contextlib.suppress(ValueError):
                before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            self._bell = writer
            poll = select.poll()
            poll.register(reader, select.POLLIN)
            while not self._others_ended.is_set():
                poll.poll()
                with contextlib.suppress(BlockingIOError):
                    signals = os.read(reader, 4096).replace(b"\0", b"")
                    if signals and before not in (None, -1):
                        # For the program, whose descriptor it is.
                        os.write(before, signals)
        finally:
            if before is not None:
                signal.set_wakeup_fd(before)
            with self._lock:
                self._bell = None
                os.close(writer)
            os.close(reader)

    def _check_others(self):
        if self._are_all_started and not self._unfinished:
            self._others_ended.set()
            if self._bell is not None:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._bell, b"\0")

    def _run_member(self, member):
        """Run a member's main on a new loop, in this thread."""
        with self._lock:
            # The first member is not counted: its thread is the one that waits for the others.
            if self._is_ending or (member.number and member not in self._unfinished):
                member.is_over = True
                self._unfinished.discard(member)
                self._check_others()
                return
            member.has_begun = True
        call = self._call_main(member)
        try:
            try:
                with make_runner(self._debug, self._loop_factory) as runner:
                    # Not until the loop is closed: an error of that is one of the member's too.
                    result = runner.run(call)
            finally:
                if member.task is None and not member.is_over:
                    # No task has been made for it.
                    call.close()
        except BaseException as error:
            self._note(error, member)
        else:
            member.result = result
            member.has_result = True
        finally:
            with self._lock:
                member.loop = None
                member.is_over = True
                self._unfinished.discard(member)
                self._check_others()

    async def _call_main(self, member):
        with self._lock:
            member.loop = events.get_running_loop()
            if self._is_ending:
                raise asyncio.CancelledError
            member.task = tasks.current_task()
        try:
            return await self._main(member.number)
        finally:
            with self._lock:
                member.task = None
                member.is_over = True

    # What went wrong.

    def _note(self, error, member=None):
        """Write an error down, and cancel every main. `member` is None for what was raised outside
        of the mains."""
        with self._lock:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                if self._ends_program is None:
                    self._ends_program = error
            elif isinstance(error, asyncio.CancelledError):
                if not self._is_ending:
                    self._cancelled = error
            elif not (isinstance(error, RuntimeError) and member and member.is_stopped):
                self._errors.append(error)
            self._end_all()

    def _end_all(self):
        """Cancel every main that runs; those that do not run yet never will."""
        self._is_ending = True
        for member in self._members:
            if member.task is not None and not member.is_asked_to_end:
                member.is_asked_to_end = True
                self._call_soon(member, member.task.cancel)

    def _call_soon(self, member, callback):
        # RuntimeError says that the loop is closed: its main has ended.
        with contextlib.suppress(RuntimeError):
            member.loop.call_soon_threadsafe(callback)

    def _outcome(self):
        """Raise what the mains have raised, or return the results."""
        errors, ends_program, cancelled = self._errors, self._ends_program, self._cancelled
        self._errors = self._ends_program = self._cancelled = None
        try:
            if ends_program is not None:
                raise ends_program
            if errors:
                raise BaseExceptionGroup("unhandled errors in run_in_threads()", errors)
            if cancelled is not None:
                raise cancelled
            if not all(member.has_result for member in self._members):
                # Ctrl-C is the only other reason for cancelling a main.
                raise KeyboardInterrupt
            return [member.result for member in self._members]
        finally:
            # They know this frame.
            del errors, ends_program, cancelled

    # Ctrl-C.

    def _catch_interrupts(self):
        """Handle Ctrl-C from now on, where asyncio.Runner would."""
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            return False
        try:
            signal.signal(signal.SIGINT, self._on_interrupt)
        except ValueError:
            # The main thread of an embedded interpreter, which gets no signals.
            return False
        return True

    def _on_interrupt(self, signum, frame):
        with self._lock:
            self._interrupts += 1
            if self._interrupts == 1 and not all(member.is_over for member in self._members):
                for member in self._members:
                    # Again, if an error had it cancelled before.
                    member.is_asked_to_end = False
                first = self._members[0]
                if first.task is not None:
                    # At once, as asyncio.Runner does.
                    first.is_asked_to_end = True
                    first.task.cancel()
                    self._call_soon(first, _nothing)
                self._end_all()
                return
            # What KeyboardInterrupt does to the first loop: its run ends where it is, and closing
            # the loop cancels what is left.
            for member in self._members[1:]:
                if member.loop is not None:
                    member.is_stopped = True
                    self._call_soon(member, member.loop.stop)
        raise KeyboardInterrupt


def _nothing():
    """Only wakes a loop."""


run_in_threads.__module__ = "aioxide"
