#!/usr/bin/env python3
# Over 800 lines because it is one file to copy beside any interpreter: the
# worker that it starts is the file itself.
"""Run CPython's own asyncio test suite against another implementation.

    python conformance.py --target MODULE[:LEVEL] [options]

The suite is ``test.test_asyncio`` of the running interpreter.  Before a test
module is imported, objects of the target take the place of asyncio's:

    loop    (the default level) the event loop only: every place where the
            suite makes a loop gets the target's;
    full    in addition every object for which the target has a replacement:
            Future, Task, gather, Lock, Queue, StreamReader, current_task, ...
            in asyncio, in all of its submodules and in ``_asyncio``, so that
            the test classes of the C accelerator try the target's types.

Test modules run in subprocesses, one per TestCase class.  A test that hangs or
kills its process is reported as such, and the run goes on with the next one.

What a target needs:

    loop    a callable ``new_event_loop`` (or a loop class named ``EventLoop``
            or ``Loop``);
    full    attributes that bear the names of asyncio's, or a callable
            ``install`` that puts them in place by itself.

``--target asyncio`` swaps asyncio for itself, which shows what fails on this
machine or because of the harness, and makes a good ``--baseline``.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import fnmatch
import functools
import importlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import types
import unittest

SUITE = "test.test_asyncio"
LEVELS = ("loop", "full")

# Tests of the standard library's own insides: for these the loop is not
# swapped.  The level `loop` leaves them out.  The level `full` runs them on the
# standard library's loop, where they still try the other objects.  Patterns
# match the id of a test, "module.class.method"; keep them few and narrow, each
# with the reason why no other loop could be expected to pass.  A test that
# replaces a public method of the loop, such as getaddrinfo(), in order to see
# another method use it is no white-box test.
WHITE_BOX = (
    # Whole modules and classes.
    ("test_proactor_events.*",
     "calls the methods of asyncio.proactor_events on mocked loops"),
    ("test_selector_events.*",
     "calls the methods of asyncio.selector_events on mocked selectors"),
    ("test_unix_events.Unix*PipeTransportTests.*",
     "calls the methods of asyncio.unix_events' transports on TestLoop"),
    ("test_unix_events.SelectorEventLoopSignalTests.*",
     "mocks asyncio.unix_events.signal, calls loop._handle_signal()"),
    ("test_unix_events.SelectorEventLoopUnixSockSendfileTests.*",
     "calls loop._sock_sendfile_native(), looks into loop._selector"),
    ("test_tasks.*GatherTests.*",
     "steps the loop until loop._ready is empty"),
    ("test_unix_events.PidfdChildWatcherTests.*",
     "mocks os.waitpid(), calls the transport's _process_exited()"),
    # Single tests.
    ("test_base_events.*.test_accept_connection_*",
     "calls loop._accept_connection()"),
    ("test_base_events.*.test_create_connection_ssl_server_hostname_default",
     "mocks loop._make_ssl_transport()"),
    ("test_base_events.*.test__sock_sendfile_native_failure",
     "calls loop._sock_sendfile_native()"),
    ("test_events.*.test_create_server_multiple_hosts_ipv?",
     "mocks asyncio.base_events.socket"),
    ("test_events.*.test_prompt_cancellation",
     "calls loop._stop_serving()"),
    ("test_events.*.test_timeout_rounding",
     "counts the calls of loop._run_once()"),
    ("test_futures.*.test_future_exception_never_retrieved*",
     "mocks asyncio.base_events.logger"),
    ("test_runners.*.test_asyncio_run_debug",
     "mocks asyncio.coroutines._is_debug_mode()"),
    ("test_sendfile.*.test_sendfile_force_*",
     "replaces loop._sendfile_native()"),
    ("test_sendfile.*.test_sendfile_fallback_close_peer_*",
     "replaces loop._sendfile_native()"),
    ("test_sslproto.*.test_connection_lost_when_busy",
     "calls loop._make_socket_transport()"),
    ("test_sslproto.*.test_create_connection_ssl_failed_certificate_no_cycles",
     "mocks asyncio.sslproto.SSLProtocol.connection_made()"),
    ("test_subprocess.*.test_watcher_implementation",
     "looks into loop._watcher"),
    ("test_subprocess.*.test_pid_not_reaped_before_exit_published",
     "looks into loop._watcher"),
    ("test_tasks.*.test_log_destroyed_pending_task",
     "looks into loop._ready"),
)

# A test with a decorator mock.patch("asyncio.<module>.<name>") for one of
# these is a white-box test as well: it replaces what the module imports.
WHITE_BOX_PATCHES = (
    "asyncio.base_events.logger",
    "asyncio.base_events.socket",
    "asyncio.unix_events.signal",
    "asyncio.unix_events.socket",
)

# Tests of the pure Python variants of what the level `full` replaces.  They put
# these in place at run time and expect all else to follow.  That is possible,
# so the level `loop` runs them; but the level `full` does not.
PURE_PYTHON = (
    ("test_eager_task_factory.PyEagerTaskFactoryLoopTests.*",
     "puts the pure Python current_task() in place"),
    ("test_eager_task_factory.*EagerPyTaskTests.*",
     "puts the pure Python current_task() in place"),
    ("test_events.TestPyGetEventLoop.*",
     "puts the pure Python get_running_loop() in place"),
    ("test_free_threading.*PyFreeThreading.*",
     "puts the pure Python Task and all_tasks() in place"),
    ("test_graph.TestCallStackPy.*",
     "puts the pure Python Task and current_task() in place"),
    ("test_tasks.PyCurrentLoopTests.*",
     "tests the pure Python current_task()"),
    ("test_tasks.PyIntrospectionTests.*",
     "tests the pure Python _enter_task() and others"),
)

# Tests that are the same for every loop that does not let its user choose the
# selector or the child watcher: one copy of each is enough.
REPEATED = (
    ("*.EPollEventLoopTests.*", "as SelectEventLoopTests"),
    ("*.PollEventLoopTests.*", "as SelectEventLoopTests"),
    ("*.KqueueEventLoopTests.*", "as SelectEventLoopTests"),
    ("test_subprocess.SubprocessFastWatcherTests.*",
     "as SubprocessThreadedWatcherTests"),
    ("test_subprocess.SubprocessSafeWatcherTests.*",
     "as SubprocessThreadedWatcherTests"),
    ("test_subprocess.SubprocessPidfdWatcherTests.*",
     "as SubprocessThreadedWatcherTests"),
)

# Names that the level `full` leaves alone unless install() replaces them: the
# suite depends on the insides of these objects.
UNSWAPPED = re.compile("BaseEventLoop|Policy|policy|Watcher|watcher"
                       "|new_event_loop|set_event_loop")

# Outcomes of a test, worst last.
PASS = "pass"
OFF_TARGET = "off-target"   # passed without ever making a loop of the target
SKIP = "skip"
FAIL = "fail"
ERROR = "error"
CRASH = "crash"
HANG = "hang"
WHITE = "white-box"         # not run, see WHITE_BOX and PURE_PYTHON
REPEAT = "repeated"         # not run, see REPEATED
LISTED = "listed"           # not run, see --list

BAD = (FAIL, ERROR, CRASH, HANG)
SEVERITY = {name: rank for rank, name in enumerate(
    (PASS, OFF_TARGET, SKIP, FAIL, ERROR, CRASH, HANG))}


def match(test_id, table):
    """Return the reason of the first pattern that matches, or None."""
    for pattern, reason in table:
        if fnmatch.fnmatchcase(test_id, pattern):
            return reason
    return None


def white_box_reason(test):
    """Return why a test can only be passed by the standard library's loop."""
    reason = match(short_id(test.id()), WHITE_BOX)
    if reason is None:
        method = getattr(test, test._testMethodName)
        for patch in getattr(method, "patchings", ()):
            owner = getattr(patch.getter(), "__name__", "")
            name = f"{owner}.{patch.attribute}"
            if name in WHITE_BOX_PATCHES:
                return f"mocks {name}"
    return reason


def short_id(test_id):
    return test_id.removeprefix(SUITE + ".")


# -- in the subprocess: swapping ---------------------------------------------


def asyncio_modules():
    """Import asyncio whole; return its modules and the accelerator's."""
    import asyncio
    import pkgutil
    for info in pkgutil.iter_modules(asyncio.__path__):
        if info.name.startswith("__") or "windows" in info.name:
            continue
        try:
            importlib.import_module(f"asyncio.{info.name}")
        except ImportError:
            pass
    names = sorted(name for name in sys.modules if name == "asyncio"
                   or name.startswith("asyncio.") or name == "_asyncio")
    return {name: sys.modules[name] for name in names}


def is_asyncio_object(value):
    """Whether a value is a class or function that asyncio defines."""
    module = getattr(value, "__module__", None)
    return (callable(value) and isinstance(module, str)
            and module.partition(".")[0] in ("asyncio", "_asyncio"))


class Making(threading.local):
    """Set while the thread makes a loop."""

    now = False


class Swapper:
    """Puts the target's objects into asyncio's modules."""

    def __init__(self, target_name):
        self.modules = asyncio_modules()
        self.before = {name: dict(vars(module))
                       for name, module in self.modules.items()}
        self.native_loop = self.native_loop_class()
        self.identity = target_name == "asyncio"
        self.target = importlib.import_module(target_name)
        self.make_loop = self.find_loop()
        loop = self.make_loop()
        selector = type(getattr(loop, "_selector", None))
        loop.close()
        self.loop_class = type(loop)
        self.foreign = self.loop_class is not self.native_loop
        # A selector that does the loop's work, so that a mock in its place has
        # an effect.
        self.has_selector = selector.__module__ == "selectors"
        self.making = Making()
        self.swapped = []       # names replaced by the target's objects
        self.shared = []        # names that stay the standard library's own
        self.warnings = []
        # State of the running test.
        self.white_box = False      # it keeps the standard library's loop
        self.touched = False        # it made a loop of the target
        self.virtual_time = False   # it made a TestLoop to steer its time

    def native_loop_class(self):
        """The class of the loops that asyncio.new_event_loop() makes."""
        import asyncio
        loop = asyncio.new_event_loop()
        loop.close()
        return type(loop)

    def find_loop(self):
        """Return a function that makes a loop of the target."""
        for name in ("new_event_loop", "EventLoop", "Loop"):
            make = getattr(self.target, name, None)
            if callable(make):
                break
        else:
            raise SystemExit(f"{self.target.__name__} has no new_event_loop()")
        loop = make()
        loop.close()
        # If the target re-exports the standard library's function, the event
        # loop policy would lead back here.
        return self.native_loop if type(loop) is self.native_loop else make

    # The level `loop`.

    def swap_loop(self):
        """Make the suite create the target's loops."""
        swapper = self

        class LoopSwap(type):
            """Stands for the default loop class, makes the target's."""

            def __call__(cls, *args, **kwargs):
                return swapper.new_loop(*args, **kwargs)

            def __instancecheck__(cls, instance):
                return isinstance(
                    instance, (swapper.loop_class, swapper.native_loop))

            def __subclasscheck__(cls, subclass):
                return issubclass(
                    subclass, (swapper.loop_class, swapper.native_loop))

            def __getattr__(cls, name):
                return getattr(swapper.loop_class, name)

        stand_in = LoopSwap("SelectorEventLoop", (), {
            "__doc__": "The event loop under test."})
        for module_name, namespace in self.before.items():
            for name, value in namespace.items():
                if value is self.native_loop:
                    setattr(self.modules[module_name], name, stand_in)
        # Some test modules call asyncio.BaseEventLoop() and put mocks in the
        # place of the methods that it lacks, and of its selector.  Any other
        # loop has these methods, and mocks of what it has not do not disturb
        # it.
        package = self.modules["asyncio"]
        if not self.has_selector:
            base = package.BaseEventLoop

            class BaseSwap(LoopSwap):
                """In a white-box test, the base class itself, which takes the
                mocks."""

                def __call__(cls, *args, **kwargs):
                    make = base if swapper.white_box else swapper.new_loop
                    return make(*args, **kwargs)

            package.BaseEventLoop = BaseSwap("BaseEventLoop", (), {
                "__doc__": stand_in.__doc__})
        for module in self.modules.values():
            for value in list(vars(module).values()):
                if isinstance(value, type) and "_loop_factory" in vars(value):
                    if vars(value)["_loop_factory"] in (
                            self.native_loop, self.loop_class):
                        value._loop_factory = stand_in
        if package.new_event_loop is not self.before["asyncio"][
                "new_event_loop"]:
            self.keep_installed(package.new_event_loop)

    def keep_installed(self, installed):
        """Let white-box tests get round the new_event_loop() of install()."""
        def new_event_loop():
            if self.white_box:
                return self.native_loop()
            self.touched = True
            return installed()
        for name in ("asyncio", "asyncio.events"):
            self.modules[name].new_event_loop = new_event_loop

    def new_loop(self, *args, **kwargs):
        if self.white_box:
            return self.native_loop(*args, **kwargs)
        self.touched = True
        if not self.foreign:
            return self.make_loop(*args, **kwargs)
        # The argument, if any, is a selector, which no other loop takes.
        for argument in (*args, *kwargs.values()):
            if hasattr(argument, "close"):
                argument.close()
        if self.making.now:
            # The target's function has asked a policy, which leads here.
            return self.loop_class()
        self.making.now = True
        try:
            return self.make_loop()
        finally:
            self.making.now = False

    def adapt_suite(self):
        """Swap the loop in the helpers that the test modules share."""
        utils = importlib.import_module(f"{SUITE}.utils")
        native_close_loop = utils.TestCase.close_loop
        native_new_test_loop = utils.TestCase.new_test_loop

        def close_loop(loop):
            """As the suite's close_loop(), for loops without its private
            attribute."""
            if hasattr(loop, "_default_executor"):
                native_close_loop(loop)
                return
            if not loop.is_closed():
                loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

        def new_test_loop(testcase, gen=None):
            """A loop of the target unless the test steers the loop's time.

            The suite's TestLoop runs on virtual time, taken from a generator.
            Most tests give none, and would do with any loop.
            """
            self.virtual_time |= gen is not None
            if self.white_box or gen is not None:
                return native_new_test_loop(testcase, gen)
            loop = self.new_loop()
            testcase.set_event_loop(loop)
            return loop

        utils.TestCase.close_loop = staticmethod(close_loop)
        utils.TestCase.new_test_loop = new_test_loop

    # The level `full`.

    def swap_objects(self):
        """Replace asyncio's objects by the target's, under all their names."""
        install = getattr(self.target, "install", None)
        if callable(install) and not self.identity:
            install()
        else:
            install = None
        replacements = {}       # id of asyncio's object: (name, replacement)
        for name, original in self.candidates().items():
            replacement = self.replacement(name, original, bool(install))
            if replacement is original:
                self.shared.append(name)
            else:
                self.swapped.append(name)
                replacements[id(original)] = name, replacement
        self.apply(replacements, bool(install))
        for name in self.shared:
            if self.is_expected(name):
                self.warnings.append(
                    f"{name} is still the standard library's own")

    def candidates(self):
        """Return asyncio's objects by name, the public ones first."""
        found = {}
        order = sorted(self.before, key=lambda name: (
            name != "asyncio", name != "_asyncio", name))
        for module_name in order:
            for name, value in self.before[module_name].items():
                if name.startswith(("__", "_py_", "_Py", "_c_", "_C")):
                    continue
                if is_asyncio_object(value) or module_name == "_asyncio":
                    found.setdefault(name, value)
        return found

    def replacement(self, name, original, installed):
        """Return what the target has for an object, or the object itself."""
        if installed:
            for module_name, namespace in self.before.items():
                if namespace.get(name) is original:
                    now = getattr(self.modules[module_name], name, original)
                    if now is not original:
                        return now
        offered = getattr(self.target, name, None)
        if offered is None or offered is original:
            return original
        if original is self.native_loop or UNSWAPPED.search(name):
            return original
        if installed:
            self.warnings.append(f"{name} was left in place by install(), "
                                 "the harness swaps it")
        return offered

    def apply(self, replacements, installed):
        for module_name, namespace in self.before.items():
            module = self.modules[module_name]
            for name, value in namespace.items():
                if id(value) not in replacements:
                    continue
                if name.startswith(("_py_", "_Py")):
                    continue    # the pure Python variants, tested as such
                known_as, replacement = replacements[id(value)]
                if getattr(module, name, None) is replacement:
                    continue
                # Names that only the suite uses are none that install()
                # replaces.
                if (installed and module_name != "_asyncio"
                        and not name.startswith(("_c_", "_C"))):
                    self.warnings.append(
                        f"install() left {module_name}.{name}, which is "
                        f"{known_as}, in place; the harness swaps it")
                if (isinstance(value, types.BuiltinFunctionType)
                        and isinstance(replacement, types.FunctionType)):
                    # Test classes have the accelerator's functions among their
                    # attributes, where a Python function would be a method.
                    replacement = staticmethod(replacement)
                setattr(module, name, replacement)

    def is_expected(self, name):
        """Whether the target should have a replacement for a name.

        Exceptions, abstract classes, policies and what only looks at its
        argument are as good when shared with the standard library.
        """
        public = self.modules["asyncio"].__all__
        native = self.before.get("_asyncio", {})
        if self.identity or not (name in public
                                 or callable(native.get(name))):
            return False
        if (UNSWAPPED.search(name) or name.startswith(("Abstract", "is"))
                or name.endswith("EventLoop")):
            return False
        value = self.before["asyncio"].get(name)
        return not isinstance(value, type) or not (
            issubclass(value, BaseException)
            or value.__module__ in ("asyncio.protocols", "asyncio.transports"))

    def describe(self):
        version = getattr(self.target, "__version__", None)
        if version is None:
            from importlib import metadata
            try:
                version = metadata.version(self.target.__name__)
            except metadata.PackageNotFoundError:
                version = "version unknown"
        if self.identity:
            version = "the standard library's"
        return {
            "version": str(version),
            "loop_class": f"{self.loop_class.__module__}."
                          f"{self.loop_class.__qualname__}",
            "foreign": self.foreign,
            "swapped": sorted(self.swapped),
            "warnings": sorted(self.warnings),
        }


# -- in the subprocess: running ----------------------------------------------


class Result(unittest.TestResult):
    """Keeps the worst outcome of the running test."""

    def __init__(self):
        super().__init__()
        self.begin()
        self.fixture_problems = []

    def begin(self):
        self.outcome, self.brief, self.detail = PASS, "", ""

    def note(self, test, outcome, brief, detail=""):
        if not isinstance(test, unittest.TestCase):
            # setUpClass, setUpModule and the like.
            self.fixture_problems.append({
                "outcome": outcome, "brief": f"{test}: {brief}",
                "detail": detail})
        elif SEVERITY[outcome] > SEVERITY[self.outcome]:
            self.outcome, self.brief, self.detail = outcome, brief, detail

    def note_exception(self, test, outcome, error):
        brief = "".join(traceback.format_exception_only(*error[:2]))
        self.note(test, outcome, brief.strip().partition("\n")[0],
                  "".join(traceback.format_exception(*error)))

    def addError(self, test, err):
        self.note_exception(test, ERROR, err)

    def addFailure(self, test, err):
        self.note_exception(test, FAIL, err)

    def addSkip(self, test, reason):
        self.note(test, SKIP, reason)

    def addExpectedFailure(self, test, err):
        pass

    def addUnexpectedSuccess(self, test):
        self.note(test, FAIL, "unexpected success of a test marked as failing")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            self.note_exception(test, FAIL if failed else ERROR, err)


class Worker:
    """Runs tests of one module and reports on them, a line of JSON each."""

    def __init__(self, spec, send):
        self.spec = spec
        self.send = send
        self.pid = os.getpid()
        self.result = Result()

    def main(self):
        spec = self.spec
        swapper = self.swapper = Swapper(spec["target"])
        if spec["level"] == "full":
            swapper.swap_objects()
        swapper.swap_loop()
        if spec["module"] is None:
            self.send(event="target", **swapper.describe())
            return
        try:
            swapper.adapt_suite()
            module = importlib.import_module(f"{SUITE}.{spec['module']}")
        except unittest.SkipTest as reason:
            self.send(event="no module", outcome=SKIP, brief=str(reason),
                      detail="")
            return
        except Exception as error:
            self.send(event="no module", outcome=ERROR,
                      brief=f"cannot be imported: {error!r}",
                      detail=traceback.format_exc())
            return
        tests = self.flatten(
            unittest.defaultTestLoader.loadTestsFromModule(module))
        if spec["ids"] is None:
            self.send(event="tests", tests=[
                (short_id(test.id()), white_box_reason(test))
                for test in tests])
            return
        wanted = set(spec["ids"])
        tests = [test for test in tests if short_id(test.id()) in wanted]
        for test in tests:
            # TestCase.__call__() calls self.run().
            test.run = functools.partial(self.run_test, test)
        unittest.TestSuite(tests).run(self.result)
        for problem in self.result.fixture_problems:
            self.send(event="fixture", **problem)

    def flatten(self, suite):
        if isinstance(suite, unittest.TestSuite):
            return [test for part in suite for test in self.flatten(part)]
        return [suite]

    def run_test(self, test, result=None):
        test_id = short_id(test.id())
        swapper, result = self.swapper, self.result
        swapper.white_box = (
            bool(white_box_reason(test)) and not self.spec["white_box"])
        swapper.touched = swapper.virtual_time = False
        self.send(event="start", id=test_id)
        result.begin()
        started = time.perf_counter()
        try:
            type(test).run(test, result)
        except BaseException:
            # unittest does not catch KeyboardInterrupt, nor any exception from
            # the end of IsolatedAsyncioTestCase.run().
            result.note_exception(test, ERROR, sys.exc_info())
        finally:
            if os.getpid() != self.pid:
                os._exit(70)    # a fork that went astray
        outcome = result.outcome
        on_target = swapper.touched and not swapper.virtual_time
        if (outcome == PASS and self.spec["level"] == "loop"
                and not on_target):
            outcome = OFF_TARGET
        self.send(event="end", id=test_id, outcome=outcome,
                  brief=result.brief, detail=result.detail,
                  seconds=round(time.perf_counter() - started, 3))


def worker_main(spec_file):
    import faulthandler
    with open(spec_file, encoding="utf-8") as file:
        spec = json.load(file)
    # The reports go to the real stdout; the output of the tests joins stderr.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    faulthandler.enable()
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != here]
    # A shell makes its background jobs ignore the signal that tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def send(**event):
        channel.write(json.dumps(event) + "\n")
        channel.flush()

    Worker(spec, send).main()
    send(event="done")


# -- in the parent -----------------------------------------------------------


class Process:
    """A worker process and the events that it sends."""

    running = set()
    stopped = False

    def __init__(self, options, module, ids=None, target=None):
        if self.stopped:
            raise RuntimeError("the run was interrupted")
        self.folder = tempfile.mkdtemp(prefix="conformance-")
        spec = {
            "target": target or options.target, "level": options.level,
            "module": module, "ids": ids, "white_box": options.white_box,
        }
        spec_file = os.path.join(self.folder, "spec.json")
        with open(spec_file, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE")}
        if "PYTHONPATH" in environment:     # the process has another folder
            environment["PYTHONPATH"] = os.pathsep.join(
                os.path.abspath(path)
                for path in environment["PYTHONPATH"].split(os.pathsep))
        work = os.path.join(self.folder, "work")
        os.mkdir(work)
        self.stderr = open(os.path.join(self.folder, "stderr"), "w+b")
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--worker", spec_file],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=self.stderr, cwd=work, env=environment,
            start_new_session=True)
        self.running.add(self)
        self.events = queue.SimpleQueue()
        threading.Thread(target=self.read, daemon=True).start()

    @classmethod
    def stop_all(cls):
        """End all processes, after Ctrl-C."""
        cls.stopped = True
        for process in list(cls.running):
            process.kill()

    def read(self):
        with self.process.stdout as lines:
            for line in lines:
                try:
                    self.events.put(json.loads(line))
                except ValueError:
                    pass        # cut short by the death of the process
        self.events.put({"event": "end of file"})

    def next(self, timeout):
        """Return the next event; None if there is none within the timeout."""
        deadline = time.monotonic() + timeout
        while True:
            dead = self.process.poll() is not None
            try:
                return self.events.get(timeout=min(1.0, timeout))
            except queue.Empty:
                if dead:        # a forked child holds the pipe open
                    return {"event": "end of file"}
                if time.monotonic() > deadline:
                    return None

    def wait(self, timeout):
        """Return the exit status; None if it does not come in time."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stacks(self):
        """Kill a process that hangs; return where its threads were."""
        if hasattr(signal, "SIGABRT") and os.name == "posix":
            self.process.send_signal(signal.SIGABRT)    # see faulthandler
            self.wait(5)
        return self.tail()

    def tail(self):
        self.stderr.seek(0)
        text = self.stderr.read().decode("utf-8", "replace")
        where = text.rfind("Fatal Python error")
        return text[where:][:6000] if where >= 0 else text[-3000:]

    def kill(self):
        """Kill the process and, where possible, its children."""
        if os.name == "posix":
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        else:
            self.process.kill()

    def close(self):
        self.kill()
        self.process.wait()
        self.running.discard(self)
        self.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


@dataclasses.dataclass
class Test:
    """The outcome of a test: in a word, in a line, in full."""

    outcome: str
    brief: str = ""
    detail: str = ""
    seconds: float = 0.0


def ask(options, module, target=None):
    """Start a worker that answers a question; return its first event."""
    with Process(options, module, target=target) as process:
        event = process.next(options.timeout)
        if event is None:
            detail = process.stacks()
            return {"event": "no module", "outcome": HANG,
                    "brief": "hangs before the first test" + place(detail),
                    "detail": detail}
        if event["event"] == "end of file":
            status = status_text(process.wait(5))
            detail = process.tail()
            return {"event": "no module", "outcome": CRASH,
                    "brief": f"dies before the first test: {status}"
                             + place(detail),
                    "detail": detail}
        return event


def status_text(status):
    if status is not None and status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            pass
    return f"exit status {status}"


def place(stacks):
    """Return the innermost place in the output of faulthandler."""
    current = max(stacks.find("Current thread"), 0)
    found = re.compile(r'File "(.*?)", line (\d+) in (\S+)').search(
        stacks, current)
    if not found:
        return ""
    path, number, function = found.groups()
    path = "/".join(path.replace("\\", "/").split("/")[-2:])
    return f" (in {function}, {path}:{number})"


def run_tests(options, module, ids):
    """Run tests of one class, in as many processes as it takes."""
    tests = {}
    pending = list(ids)
    while pending:
        with Process(options, module, pending) as process:
            run_process(options, process, pending, tests)
        pending = [test_id for test_id in pending if test_id not in tests]
    return tests


def run_process(options, process, pending, tests):
    """Follow one process to its end; fill in the outcomes of its tests."""
    current = last = None
    done = False

    def blame(outcome, brief, detail):
        brief += place(detail)
        if current or last:
            if not current:
                brief = f"after the end of the test: {brief}"
            tests[current or last] = Test(outcome, brief, detail)
        else:
            for test_id in pending:     # it would be the same for all of them
                tests[test_id] = Test(outcome, brief, detail)

    while True:
        event = process.next(options.timeout)
        kind = event["event"] if event else None
        if kind is None:
            blame(HANG, f"no end within {options.timeout:g} s",
                  process.stacks())
            return
        if kind == "start":
            current = event["id"]
        elif kind == "end":
            tests[event["id"]] = Test(event["outcome"], event["brief"],
                                      event["detail"], event["seconds"])
            current, last = None, event["id"]
        elif kind in ("fixture", "no module"):
            missing = [test_id for test_id in pending if test_id not in tests]
            for test_id in missing or [last]:
                tests[test_id] = Test(
                    event["outcome"], event["brief"], event["detail"])
        elif kind == "done":
            done = True
        elif kind == "end of file":
            status = process.wait(options.timeout)
            if status is None:
                blame(HANG, "the process does not exit", process.stacks())
            elif status != 0 or not done:
                blame(CRASH, status_text(status), process.tail())
            else:
                for test_id in pending:
                    tests.setdefault(test_id, Test(ERROR, "was never run"))
            return


class Run:
    """One run of the suite: its options and its outcomes."""

    def __init__(self, options):
        self.options = options
        self.target = None
        self.modules = {}       # name: {test id: Test}
        self.seconds = {}       # module name: time it took
        self.notes = {}         # module name: what befell it as a whole

    def main(self):
        options = self.options
        self.target = ask(options, None)
        if self.target["event"] != "target":
            sys.exit(f"{options.target} cannot be tested:\n"
                     f"{self.target['detail']}")
        print_target(options, self.target)
        print_header()
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            try:
                for name in options.modules:
                    self.run_module(name, pool)
                    print_module(name, self)
            except BaseException:
                Process.stop_all()
                pool.shutdown(cancel_futures=True)
                raise

    def run_module(self, name, pool):
        started = time.monotonic()
        tests = self.modules[name] = {}
        answer = ask(self.options, name)
        if answer["event"] == "tests":
            units = self.units(answer["tests"], tests)
            if self.options.list:
                tests.update((test_id, Test(LISTED))
                             for ids in units for test_id in ids)
                units = []
            jobs = [pool.submit(run_tests, self.options, name, ids)
                    for ids in units]
            for job in jobs:
                tests.update(job.result())
        elif answer["outcome"] == SKIP:
            self.notes[name] = answer["brief"]
        else:
            # All of the module's tests are lost: count them.
            self.notes[name] = f"{answer['brief']}\n{answer['detail']}"
            native = ask(self.options, name, target="asyncio")
            units = self.units(native.get("tests", [(name, None)]), tests)
            for ids in units:
                for test_id in ids:
                    tests[test_id] = Test(answer["outcome"], answer["brief"])
        self.seconds[name] = time.monotonic() - started

    def units(self, found, tests):
        """Set aside the tests not to be run; group the rest by class."""
        units = {}
        for test_id, white_box in found:
            if self.options.match and not any(
                    fnmatch.fnmatchcase(test_id, pattern)
                    for pattern in self.options.match):
                continue
            excluded = self.excluded(test_id, white_box)
            if excluded:
                tests[test_id] = excluded
                continue
            units.setdefault(test_id.rpartition(".")[0], []).append(test_id)
        return list(units.values())

    def excluded(self, test_id, white_box):
        if self.options.level == "full" and self.options.target != "asyncio":
            reason = match(test_id, PURE_PYTHON)
            if reason:
                return Test(WHITE, reason)
        if self.target["foreign"]:
            reason = match(test_id, REPEATED)
            if reason:
                return Test(REPEAT, reason)
            if (white_box and self.options.level == "loop"
                    and not self.options.white_box):
                return Test(WHITE, white_box)
        return None

    def all_tests(self):
        return {test_id: test for tests in self.modules.values()
                for test_id, test in tests.items()}

    def as_json(self):
        return {
            "target": self.options.target,
            "version": self.target["version"],
            "level": self.options.level,
            "loop_class": self.target["loop_class"],
            "python": sys.version.split()[0],
            "platform": sys.platform,
            "swapped": self.target["swapped"],
            "warnings": self.target["warnings"],
            "modules": {
                name: {"seconds": round(self.seconds[name], 1),
                       "note": self.notes.get(name, ""),
                       "counts": count(tests)}
                for name, tests in self.modules.items()},
            "total": count(self.all_tests()),
            "tests": {
                test_id: dataclasses.asdict(test)
                for test_id, test in self.all_tests().items()},
        }


# -- reporting ---------------------------------------------------------------

COLUMNS = ("ran", "passed", "failed", "errored", "crashed", "hung", "skipped",
           "off-target", "white-box", "repeated")


def count(tests):
    """Count outcomes; `ran` are the tests that tell something about the
    target."""
    by_outcome = collections.Counter(test.outcome for test in tests.values())
    counts = {
        "passed": by_outcome[PASS], "failed": by_outcome[FAIL],
        "errored": by_outcome[ERROR], "crashed": by_outcome[CRASH],
        "hung": by_outcome[HANG], "skipped": by_outcome[SKIP],
        "off-target": by_outcome[OFF_TARGET], "white-box": by_outcome[WHITE],
        "repeated": by_outcome[REPEAT],
    }
    counts["ran"] = by_outcome[PASS] + sum(by_outcome[kind] for kind in BAD)
    return {name: counts[name] for name in COLUMNS}


def cause(test):
    """Return a text that is the same for tests that fail in the same way."""
    text = re.sub(r"0x[0-9a-fA-F]+|\d+", "#", test.brief)
    return f"{test.outcome}: {text[:110]}"


def print_target(options, target):
    print(f"target {options.target} ({target['version']}), "
          f"level {options.level}, loop {target['loop_class']}, "
          f"Python {sys.version.split()[0]}")
    if options.level == "full":
        print(textwrap.fill(
            f"swapped ({len(target['swapped'])}): "
            + (", ".join(target["swapped"]) or "none"),
            width=79, subsequent_indent="    "))
        for warning in target["warnings"]:
            print("warning:", warning)
    print(flush=True)


def print_header():
    print(f"{'module':<24}" + "".join(f"{name:>{len(name) + 2}}"
                                      for name in COLUMNS) + "  seconds")


def print_counts(name, counts, seconds):
    print(f"{name:<24}" + "".join(f"{counts[column]:>{len(column) + 2}}"
                                  for column in COLUMNS)
          + f"  {seconds:7.1f}", flush=True)


def print_module(name, run):
    print_counts(name, count(run.modules[name]), run.seconds[name])
    note = run.notes.get(name)
    if note:
        print(textwrap.indent(note.strip(), "    "), flush=True)


def print_failures(run, baseline):
    failures = {test_id: test for test_id, test in run.all_tests().items()
                if test.outcome in BAD}
    if not failures:
        return
    print("\nFailures:")
    for test_id, test in failures.items():
        known = baseline.get(test_id) in BAD
        print(f"  {test.outcome:5} {test_id}{' (baseline too)' * known}: "
              f"{test.brief[:160]}")
        if run.options.verbose:
            print(textwrap.indent(test.detail.rstrip(), "        "))
    causes = collections.Counter(cause(test) for test in failures.values())
    print("\nMost frequent causes:")
    for text, number in causes.most_common(15):
        print(f"  {number:5} {text}")


def print_comparison(run, baseline):
    """Print what changed since the baseline; return the regressions."""
    tests = run.all_tests()
    good = (PASS, OFF_TARGET)
    worse = [test_id for test_id, test in tests.items()
             if test.outcome in BAD and baseline.get(test_id) in good]
    better = [test_id for test_id, test in tests.items()
              if test.outcome in good and baseline.get(test_id) in BAD]
    for title, ids in (("Worse", worse), ("Better", better)):
        print(f"\n{title} than the baseline: {len(ids)}")
        for test_id in ids:
            print(f"  {test_id}")
    return worse


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog="Exit status: 0 if all is well, 1 if tests fail (with "
               "--baseline: tests that pass there).")
    add = parser.add_argument
    add("--target", metavar="MODULE[:LEVEL]",
        help="the module to test; LEVEL is 'loop' (default) or 'full'")
    add("--modules", metavar="NAMES",
        help="test modules to run, separated by commas (default: all)")
    add("--match", metavar="GLOB", action="append",
        help="run only tests whose id, module.class.method, matches")
    add("--list", action="store_true",
        help="find the tests and run none")
    add("--json", metavar="FILE", help="write all results to a file")
    add("--baseline", metavar="FILE",
        help="compare with the results of an earlier run")
    add("--jobs", metavar="N", type=int, default=1,
        help="number of test classes to run at a time (default: 1)")
    add("--timeout", metavar="SECONDS", type=float, default=60,
        help="time after which a test counts as hung (default: 60)")
    add("--white-box", action="store_true",
        help="swap the loop in the tests of WHITE_BOX as well")
    add("--verbose", action="store_true", help="print whole tracebacks")
    add("--worker", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return options
    if not options.target:
        parser.error("--target is needed")
    options.target, _, options.level = options.target.partition(":")
    options.level = options.level or "loop"
    if options.level not in LEVELS:
        parser.error(f"no such level: {options.level}")
    available = suite_modules(parser)
    options.modules = (options.modules.split(",") if options.modules
                       else available)
    unknown = set(options.modules) - set(available)
    if unknown:
        parser.error("no such test module: " + ", ".join(sorted(unknown)))
    return options


def suite_modules(parser):
    try:
        suite = importlib.import_module(SUITE)
    except ImportError:
        parser.error(f"this Python has no {SUITE}: install its test suite")
    except unittest.SkipTest as reason:
        parser.error(f"{SUITE} cannot run here: {reason}")
    return sorted(name[:-3] for name in os.listdir(suite.__path__[0])
                  if name.startswith("test_") and name.endswith(".py"))


def main():
    options = parse_arguments()
    if options.worker:
        worker_main(options.worker)
        return 0
    # As Ctrl-C, so that no subprocess is left behind.
    signal.signal(signal.SIGTERM, lambda *args: sys.exit("terminated"))
    baseline = {}
    if options.baseline:
        with open(options.baseline, encoding="utf-8") as file:
            baseline = {test_id: test["outcome"]
                        for test_id, test in json.load(file)["tests"].items()}
    run = Run(options)
    run.main()
    total = count(run.all_tests())
    print_counts("total", total, sum(run.seconds.values()))
    print_failures(run, baseline)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(run.as_json(), file, indent=1)
    if options.baseline:
        return 1 if print_comparison(run, baseline) else 0
    return 1 if any(total[kind] for kind in
                    ("failed", "errored", "crashed", "hung")) else 0


if __name__ == "__main__":
    sys.exit(main())
