"""Fixtures of the downstream tests: one way in for the whole session, servers, and checks.

    pytest tests/downstream --way factory                        loop_factory=aioxide.new_event_loop
    pytest tests/downstream --way install                        aioxide.install()
    python -m aioxide -m pytest tests/downstream --way runner    python -m aioxide
    pytest tests/downstream --way asyncio                        asyncio itself: checks the tests

A session has one way, as a process has: what frameworks import is then what they would get.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import ssl
import sys
import warnings

import pytest

import servers

WAYS = ("factory", "runner", "install", "asyncio")


def pytest_addoption(parser):
    parser.addoption("--way", choices=WAYS, default="factory", help="how the session uses aioxide")


def pytest_configure(config):
    if config.getoption("--way") == "install":
        import aioxide

        aioxide.install()


def pytest_ignore_collect(collection_path, config):
    """In one session only: that file is about install(), in a process of its own."""
    elsewhere = config.getoption("--way") != "install"
    return True if elsewhere and collection_path.name == "test_early_imports.py" else None


def pytest_collection_finish():
    """What the frameworks made when they were imported is no test's doing: collections skip it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def way(request):
    """How this session uses aioxide."""
    way = request.config.getoption("--way")
    own = "asyncio.unix_events" if way == "asyncio" else "aioxide"
    if way in ("install", "runner", "asyncio"):
        assert asyncio.SelectorEventLoop.__module__ == own, f"the session is not what {way} means"
    return way


@pytest.fixture(scope="session")
def loop_name(way):
    """What `servers.loop_name()` says on the loop that is expected to run."""
    return "asyncio.unix_events" if way == "asyncio" else "aioxide"


@pytest.fixture(scope="session")
def task_name(way):
    """What `servers.task_name()` says in a task that the loop, or asyncio's functions, made."""
    return "_asyncio" if way == "asyncio" else "aioxide"


@pytest.fixture(scope="session")
def loop_factory(way):
    """What to give to whoever takes a loop factory: None where asyncio's default must do."""
    return importlib.import_module("aioxide").new_event_loop if way == "factory" else None


@pytest.fixture
def run(loop_factory, loop_name, task_name):
    """run(main, *args): the result of `main(*args)` on the loop under test."""

    async def checked(main, args):
        assert servers.loop_name() == loop_name
        assert servers.task_name() == task_name
        return await main(*args)

    def run(main, *args):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(checked(main, args))

    return run


class _Reports(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when == "call":
        item.test_failed = report.failed


@pytest.fixture(autouse=True)
def nothing_reported(request):
    """After a test: asyncio logged nothing, nobody warned of a resource left open, and nothing was
    raised where nobody could catch it."""
    reports = _Reports()
    unraisable = []
    logger = logging.getLogger("asyncio")
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: unraisable.append(
        f"{args.err_msg}: {args.exc_value!r}"
    )
    gc.collect()
    logger.addHandler(reports)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)
            yield
            request.node.funcargs.clear()
            gc.collect()
    finally:
        logger.removeHandler(reports)
        sys.unraisablehook = hook
    if getattr(request.node, "test_failed", True):
        return  # its traceback holds everything
    assert reports.messages == []
    assert [str(w.message) for w in warned if issubclass(w.category, ResourceWarning)] == []
    assert unraisable == []


# -- servers --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Files of a certificate for localhost and 127.0.0.1, and of the authority that signed it."""
    import trustme

    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    servers.write_certificates(authority, folder)
    return folder


@pytest.fixture
def server_tls(certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    return context


@pytest.fixture
def client_tls(certificates):
    return ssl.create_default_context(cafile=certificates / "authority.pem")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory, certificates):
    """The ports without and with TLS and the socket's path of a redis-server."""
    with _present(servers.redis, tmp_path_factory.mktemp("redis"), certificates) as address:
        yield address


@pytest.fixture(scope="session")
def postgres_server(certificates):
    """The connection parameters of a PostgreSQL server: host, port, user, password, database."""
    with _present(servers.postgres, certificates) as address:
        yield address


@contextlib.contextmanager
def _present(start, *arguments):
    """What `start` gives; without the server's program skips, but in CI fails."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(start(*arguments))
        except servers.NotInstalled as lack:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(lack))
        yield address
