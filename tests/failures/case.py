"""One run of a scenario under injected failures, and the journal of what was seen."""

import asyncio
import contextlib
import errno
import gc
import inspect
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import injecting
from observing import Loggings, descriptors, plain

# If nothing has happened for this number of looks, nothing will. Both ends are in this process, and
# the kernel passes bytes on at once, so looks count and not time.
PATIENCE = int(os.environ.get("FAILURES_PATIENCE", "25"))
# A case that takes this long hangs in a system call, or runs without end.
HUNG_AFTER = 2 * PATIENCE // 5

_random = random.Random(1)
INCOMING = _random.randbytes(40_000)
OUTGOING = _random.randbytes(150_000)


class Hung(SystemExit):
    """Raised in a case that hangs. A SystemExit, as only that passes through a callback."""


class Stuck(Exception):
    """Nothing happens any more."""


def what_error(error):
    """An exception as a journal shows it: its type, and what the system said."""
    if error is None:
        return None
    if isinstance(error, BaseExceptionGroup):
        return (type(error).__name__, *(what_error(inner) for inner in error.exceptions))
    if isinstance(error, OSError) and error.errno is not None:
        return (type(error).__name__, errno.errorcode.get(error.errno, error.errno))
    return (type(error).__name__, plain(str(error)))


def amount(got, expected):
    """How much of what should have come, came."""
    if got == expected:
        return "all"
    if not got:
        return "none"
    return "part" if expected.startswith(got) else f"WRONG: {len(got)} of {len(expected)} bytes"


class Case:
    """A loop of one module, what is armed, and the journal: by side, what was seen in order."""

    def __init__(self, aio, failing=None, nth=0, error=0, times=1):
        self.aio = aio
        self.arming = failing, nth, error, times
        self.sides = {}
        self.loop = None
        self.moved = 0
        self.calls = {}
        self.fired = 0
        self._armed = False
        self._over = False
        self._patience = PATIENCE
        self._kept = contextlib.ExitStack()
        self._transports = []

    # What a scenario uses.

    def arm(self):
        """From here on calls may fail."""
        self._armed = True
        injecting.arm(*self.arming)

    def note(self, side, *what):
        if self._over and side not in ("loop", "left"):
            return
        lines, line = self.sides.setdefault(side, []), [plain(item) for item in what]
        if side != "report":
            self.moved += 1
        elif lines and lines[-1] == line:
            return  # what fails again and again is reported as often as the loop comes round
        lines.append(line)

    @contextlib.contextmanager
    def catch(self, side, what):
        """Notes the exception that ends the block, or that none did."""
        try:
            yield
        except Stuck:
            self.note(side, what, "stuck")
        except (Hung, GeneratorExit):
            raise
        except BaseException as error:
            self.note(side, what, what_error(error))
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            self.note(side, what, "done")

    def keep(self, transport, protocol=None):
        """A transport that is aborted in the end, unless its protocol has seen its end."""
        self._transports.append((transport, protocol))
        return transport

    @contextlib.contextmanager
    def paused(self):
        """Calls within are the test's own."""
        if not self._armed:
            yield
            return
        with injecting.paused():
            yield

    def exempt(self, sock):
        """A socket of the other side, closed in the end."""
        injecting.exempt(sock.fileno())
        sock.setblocking(False)
        return self._kept.enter_context(sock)

    def pair(self, family, small=True):
        """Two connected stream sockets, ours and the other side's."""
        with self.paused():
            if family == "unix":
                ours, theirs = socket.socketpair()
            else:
                with socket.create_server(("127.0.0.1", 0)) as server:
                    theirs = socket.create_connection(server.getsockname())
                    ours, _ = server.accept()
            ours.setblocking(False)
            if small:  # so that a write has to wait
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        return ours, Peer(self, self.exempt(theirs))

    def pipe(self):
        """Both ends of a pipe."""
        with self.paused():
            return os.pipe()

    async def until(self, condition, patience=0):
        """Waits for a condition; Stuck once nothing happens any more."""
        looks, moved, patience = 0, self.moved, patience or self._patience
        while not condition():
            if self.moved != moved:
                looks, moved = 0, self.moved
            looks += 1
            if looks > patience:
                self._patience = 5  # what is stuck once, is
                raise Stuck
            await asyncio.sleep(0.001)

    async def within(self, waited, patience=0):
        """The result of an awaitable; Stuck once nothing happens any more."""
        task = asyncio.ensure_future(waited)
        try:
            await self.until(task.done, patience)
        except Stuck:
            task.cancel()
            await asyncio.wait([task], timeout=0.02)
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise Stuck from task.exception()
            raise
        return task.result()

    # What plays it.

    def play(self, scenario):
        """Runs the scenario and looks what has become of the loop."""
        gc.collect()
        before = descriptors()
        # what a server waits after it has found no descriptor free
        asyncio.constants.ACCEPT_RETRY_DELAY = 0.02
        old = signal.signal(signal.SIGALRM, self._hung), sys.unraisablehook, threading.excepthook
        sys.unraisablehook = lambda args: self.note("unraisable", what_error(args.exc_value))
        threading.excepthook = lambda args: self.note("thread", what_error(args.exc_value))
        signal.alarm(HUNG_AFTER)
        try:
            with warnings.catch_warnings(), Loggings(logging.WARNING, self._logged):
                warnings.simplefilter("always")
                warnings.showwarning = self._warned
                try:
                    self._play(scenario)
                except Hung:
                    self.note("loop", "hung")
                finally:
                    self.stop()
                    self._kept.close()
                    self.loop = None
                    self._transports.clear()
                    gc.collect()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old[0])
            sys.unraisablehook, threading.excepthook = old[1:]
            self._end_children()
        left = [name for fd, name in descriptors().items() if before.get(fd) != name]
        for name in sorted(left):
            self.note("left", re.sub(r"\d+", "?", name))

    def _end_children(self):
        """A child that a failure has left to itself must not be there in the next case."""
        subprocess._active.clear()
        with contextlib.suppress(ChildProcessError):
            while True:
                pid = os.waitpid(-1, os.WNOHANG)[0]
                if not pid:
                    for child in open(f"/proc/self/task/{os.getpid()}/children").read().split():
                        os.kill(int(child), signal.SIGKILL)
                    time.sleep(0.001)

    def stop(self):
        if self._armed:
            self.calls, self.fired = injecting.calls(), injecting.fired()
            self._armed = False
        injecting.disarm()

    def _play(self, scenario):
        if not inspect.iscoroutinefunction(scenario):
            scenario(self)
            self.stop()
            if self.loop is None:
                return
        else:
            self.start_loop()
            try:
                self.loop.run_until_complete(scenario(self))
            except Hung:
                raise
            except BaseException as error:
                # wherever that was, all else is a matter of luck
                self.sides.clear()
                self.note("loop", "raised", what_error(error))
                self._over = True
            self.stop()
        self._look_after()

    def start_loop(self):
        before = descriptors()
        self.loop = self.aio.new_event_loop()
        for fd in descriptors().keys() - before.keys():
            injecting.mark_waker(fd)
        self.loop.slow_callback_duration = 600
        self.loop.set_exception_handler(self._report)

    def _look_after(self):
        """The loop must live; then everything is ended."""
        loop = self.loop
        try:
            # a run that an error has left may have been told to stop before
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.run_until_complete(_alive(loop))
        except Hung:
            raise
        except BaseException as error:
            self.note("loop", "dead", what_error(error))
        try:
            for transport, protocol in self._transports:
                if protocol is None or not protocol.lost:
                    # asyncio's own fails if the connection is lost already
                    with contextlib.suppress(AttributeError):
                        transport.abort()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(_rounds(5))
            loop.run_until_complete(loop.shutdown_default_executor())
        except Hung:
            raise
        except BaseException as error:
            self.note("loop", "end raised", what_error(error))
        finally:
            loop.close()

    def _hung(self, signum, frame):
        signal.alarm(HUNG_AFTER)
        raise Hung("hung")

    def _report(self, loop, report):
        message = report["message"]
        # the names of callbacks are each implementation's own
        message = re.sub(r"^(Exception in callback) .*", r"\1", message, flags=re.S)
        self.note("report", message, what_error(report.get("exception")))

    def _logged(self, record):
        text = re.sub(r"\bpid \d+", "pid ?", record.getMessage().split("\n")[0])
        text = re.sub(r"^(Exception in callback) .*", r"\1", text)
        if not self._over and [record.levelname, text] not in self.sides.get("log", ()):
            self.note("log", record.levelname, text)

    def _warned(self, message, category, filename, lineno, file=None, line=None):
        if category is ResourceWarning:
            return  # what the error has left behind; "left" says what remains
        self.note("warning", category, re.sub(r"<.*>", "<>", str(message), flags=re.S))


async def _rounds(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def _alive(loop):
    """Timers, descriptors and calls from other threads still come through."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        readable, woken = loop.create_future(), loop.create_future()
        loop.add_reader(ours, lambda: readable.done() or readable.set_result(None))
        theirs.send(b"x")
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set_result, None))
        await asyncio.sleep(0.001)
        thread.start()
        await asyncio.wait_for(asyncio.gather(readable, woken), 3)
        loop.remove_reader(ours)
        thread.join()


class Peer:
    """The other end of a connection: a plain socket that is polled, whose calls never fail."""

    def __init__(self, case, sock):
        self.case = case
        self.sock = sock
        self.received = bytearray()
        self.end = None

    def look(self):
        """Takes in what is there."""
        while self.end is None:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                self.end = type(error).__name__
            else:
                self.case.moved += 1
                self.received += data
                if not data:
                    self.end = "eof"

    async def send(self, data):
        """Sends all of it, if it is taken."""
        data = memoryview(data)

        def send():
            nonlocal data
            try:
                data = data[self.sock.send(data) :]
                self.case.moved += 1
            except BlockingIOError:
                pass
            except OSError:
                data = b""
            return not data

        with contextlib.suppress(Stuck):
            await self.case.until(send)
        await asyncio.sleep(0)

    def shut(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    async def receive(self, count):
        """Waits for `count` bytes, or the end."""

        def enough():
            self.look()
            return self.end is not None or len(self.received) >= count

        with contextlib.suppress(Stuck):
            await self.case.until(enough)

    async def drain(self, expected, side="peer"):
        """Receives up to the end, and notes how much of what was expected that is."""
        await self.receive(sys.maxsize)
        self.case.note(side, "received", amount(bytes(self.received), expected), self.end or "stuck")


class Journal(asyncio.Protocol):
    """A protocol that notes every call; how much came is noted with the end of the connection."""

    def __init__(self, case, side, expected):
        self.case, self.side, self.expected = case, side, expected
        self.received = bytearray()
        self.transport = None
        self.lost = False
        self.ended = False

    def connection_made(self, transport):
        self.transport = self.case.keep(transport, self)
        self.case.note(self.side, "connection_made")

    def data_received(self, data):
        self.case.moved += 1
        self.received += data

    def eof_received(self):
        self.ended = True
        self.case.note(self.side, "eof_received")

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass

    def connection_lost(self, error):
        self.lost = True
        self.case.note(self.side, "received", amount(bytes(self.received), self.expected))
        self.case.note(self.side, "connection_lost", what_error(error))

    async def wait(self):
        """Waits for the end of the connection."""
        try:
            await self.case.until(lambda: self.lost)
        except Stuck:
            self.case.note(self.side, "received", amount(bytes(self.received), self.expected))
            self.case.note(self.side, "stuck")


class BufferedJournal(asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    __init__ = Journal.__init__
    connection_made = Journal.connection_made
    eof_received = Journal.eof_received
    pause_writing = Journal.pause_writing
    resume_writing = Journal.resume_writing
    connection_lost = Journal.connection_lost
    wait = Journal.wait
    buffer = None

    def get_buffer(self, sizehint):
        if self.buffer is None:
            self.buffer = bytearray(5000)
        return self.buffer

    def buffer_updated(self, count):
        self.case.moved += 1
        self.received += self.buffer[:count]
