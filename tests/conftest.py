"""Fixtures of the behaviour tests.

Every test runs on asyncio and on aioxide alike: through `aio` and what builds on it
(`loop_factory`, `loop`, `run`), or through `agree`, which runs one scenario on both and compares
what was seen.
AIOXIDE_TESTS_ONLY=asyncio leaves aioxide out, to check the tests themselves.
AIOXIDE_TESTS_ONLY=aioxide leaves asyncio out, except where one test compares both.
"""

import asyncio
import faulthandler
import gc
import importlib
import inspect
import logging
import signal
import sys
import threading
import warnings

import pytest
from implementations import COMPARED, ONLY_ASYNCIO, TRIED
from observing import Case, Loggings, descriptors, finish, live_objects
from peers import Serving

# Where a shell starts the tests in the background it has them ignore SIGINT, and so would every
# program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that takes this long hangs; the slowest takes a few seconds.
HUNG_AFTER = 30


class Hung(SystemExit):
    """Raised in a test that hangs. A SystemExit, as only that passes through a callback."""


def pytest_configure(config):
    config.addinivalue_line("markers", "hung_after(seconds): when the test counts as hanging")
    config.addinivalue_line("markers", "leftovers: the test leaves objects behind on purpose")
    config.addinivalue_line("markers", "aioxide_alone: asyncio itself is wrong there")


def pytest_generate_tests(metafunc):
    if "aio" in metafunc.fixturenames:
        alone = metafunc.definition.get_closest_marker("aioxide_alone")
        metafunc.parametrize(
            "aio",
            [name for name in TRIED if not (alone and name == "asyncio")],
            indirect=True,
        )


@pytest.fixture(scope="session")
def frozen():
    """What exists now is no test's doing: the checks after each test need not look at it."""
    for name in COMPARED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when == "call":
        item.test_failed = report.failed


@pytest.fixture
def aio(request):
    """The module under test: asyncio or aioxide."""
    return importlib.import_module(request.param)


@pytest.fixture
def loop_factory(aio):
    return aio.new_event_loop


@pytest.fixture
def loop(loop_factory):
    """A fresh loop, closed afterwards."""
    loop = loop_factory()
    yield loop
    if not loop.is_closed():
        finish(loop)


@pytest.fixture(params=[False, True], ids=["normal", "debug"])
def debug(request):
    return request.param


@pytest.fixture
def run(loop_factory):
    """run(main, *args, debug=False): the result of `main(*args)` on a fresh loop."""

    def run(main, *args, debug=False):
        loop = loop_factory()
        loop.set_debug(debug)
        try:
            return loop.run_until_complete(main(*args))
        finally:
            finish(loop)

    return run


@pytest.fixture
def made():
    """The protocols of class Serving that a server has made."""
    Serving.made = []
    yield Serving.made
    Serving.made = []


@pytest.fixture
def agree():
    """agree(scenario, debug=False): runs `scenario(case)` on asyncio and on aioxide, asserts that
    both recorded the same, and returns the record.

    With `asyncio_is_wrong` (on this version of CPython) it runs on aioxide alone."""

    def agree(scenario, debug=False, asyncio_is_wrong=False):
        records = {}
        if asyncio_is_wrong and ONLY_ASYNCIO:
            pytest.skip("asyncio is wrong here on this version")
        for name in COMPARED[asyncio_is_wrong:]:
            case = Case(importlib.import_module(name), debug)
            with case:
                if inspect.iscoroutinefunction(scenario):
                    case.loop.run_until_complete(scenario(case))
                else:
                    scenario(case)
            records[name] = case.records
            del case
            gc.collect()
        expected = records.pop(COMPARED[asyncio_is_wrong])
        assert expected, "the scenario recorded nothing"
        for name, record in records.items():
            assert record == expected, f"{name} and asyncio differ"
        return expected

    return agree


@pytest.fixture(params=["normal", "debug", "foreign"])
def agree_everywhere(agree, request):
    """agree_everywhere(scenario): as `agree`, on the module's own loop, in debug mode, and on
    asyncio's own loop, whose futures and handles are not native."""

    def agree_everywhere(scenario):
        if request.param != "foreign":
            return agree(scenario, request.param == "debug")

        def on_asyncio(case):
            case.loop.close()
            case.loop = asyncio.new_event_loop()
            case.loop.set_exception_handler(case.report)
            case.loop.run_until_complete(scenario(case))

        return agree(on_asyncio)

    return agree_everywhere


@pytest.fixture
def asyncio_log():
    """What asyncio's logger got; a test that asks for it expects reports there."""
    with Loggings() as records:
        yield records


@pytest.fixture
def debug_log(asyncio_log):
    """What asyncio's logger got, of the lowest level too."""
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield asyncio_log
    logger.setLevel(level)


def await_watchers():
    """Wait for the threads in which asyncio has waited for a child, and which hold what they have
    told its loop."""
    for thread in threading.enumerate():
        if "waitpid-" in thread.name:
            thread.join(HUNG_AFTER)


@pytest.fixture(autouse=True)
def nothing_left(request):
    """After a test: no descriptor more, no loop, transport, server, handle or task alive, nothing
    raised where nobody could catch it, nothing reported that the test did not ask for."""
    if not {"aio", "agree"} & set(request.fixturenames):
        yield
        return
    request.getfixturevalue("frozen")
    marker = request.node.get_closest_marker("hung_after")
    seconds = marker.args[0] if marker else HUNG_AFTER

    def hung(signum, frame):
        faulthandler.dump_traceback()
        raise Hung(f"hung for {seconds} s")

    unraisable = []
    hook, sys.unraisablehook = (
        sys.unraisablehook,
        lambda args: unraisable.append((args.exc_type.__name__, str(args.exc_value), args.err_msg)),
    )
    gc.collect()
    old_objects = live_objects()
    old_descriptors = descriptors()
    old_alarm = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(2 * seconds, exit=True)
    try:
        with Loggings(logging.ERROR) as reported, warnings.catch_warnings():
            warnings.simplefilter("always")
            yield
            request.node.funcargs.clear()
            await_watchers()
            gc.collect()
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old_alarm)
        sys.unraisablehook = hook
    if getattr(request.node, "test_failed", True):
        return  # its traceback holds everything
    assert asyncio._get_running_loop() is None
    opened = {fd: name for fd, name in descriptors().items() if old_descriptors.get(fd) != name}
    assert not opened, "descriptors left open"
    assert unraisable == [], "exceptions nobody could catch"
    if "asyncio_log" not in request.fixturenames:
        assert reported == [], "unexpected reports"
    if not request.node.get_closest_marker("leftovers"):
        old = {id(item) for item in old_objects}
        alive = [item for item in live_objects() if id(item) not in old]
        assert alive == [], "objects still alive"
