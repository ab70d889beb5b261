"""pytest-asyncio, and anyio's plugin for pytest: small suites, run by a pytest of their own."""

import shutil

import pytest

import servers

SUITE = """\
import asyncio
import pytest
import pytest_asyncio
import servers

LOOP = "{loop}"

@pytest_asyncio.fixture
async def connection():
    async def connected(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()
        await writer.wait_closed()

@pytest.mark.asyncio
async def test_fixture(connection):
    assert servers.loop_name() == LOOP
    reader, writer = connection
    writer.write(b"line\\n")
    assert await reader.read() == b"line\\n"

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(5))
async def test_parameters(number):
    assert await asyncio.gather(asyncio.sleep(0, number)) == [number]

@pytest.mark.asyncio(loop_scope="class")
class TestOneLoop:
    async def test_first(self):
        TestOneLoop.loop = asyncio.get_running_loop()

    async def test_second(self):
        assert asyncio.get_running_loop() is TestOneLoop.loop
        assert servers.loop_name() == LOOP

@pytest.mark.asyncio
async def test_exception():
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            raise ValueError
"""

ANYIO_SUITE = """\
import anyio
import pytest
import servers

LOOP = "{loop}"
pytestmark = pytest.mark.anyio

@pytest.fixture
async def group():
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()

async def test_loop():
    assert servers.loop_name() == LOOP

async def test_fixture(group):
    event = anyio.Event()
    group.start_soon(anyio.sleep, 60)
    group.start_soon(lambda: _set(event))
    await event.wait()

async def _set(event):
    event.set()
"""

SETTINGS = """\
[pytest]
asyncio_default_fixture_loop_scope = function
"""

# How a suite gets aioxide's loop, by this session's way; policies and the fixture are deprecated.
SETUPS = {"factory": ["hook", "policy"], "install": ["install"]}

CONFTESTS = {
    "none": "",
    "hook": """\
import aioxide

def pytest_asyncio_loop_factories(config, item):
    return {"aioxide": aioxide.new_event_loop}
""",
    "policy": """\
import aioxide, pytest

@pytest.fixture(scope="session")
def event_loop_policy():
    return aioxide.EventLoopPolicy()
""",
    "install": """\
import aioxide

aioxide.install()
""",
    "anyio": """\
import aioxide, pytest

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": aioxide.new_event_loop}
""",
    "anyio_default": """\
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"
""",
}


@pytest.fixture
def suite(way, tmp_path, loop_name):
    """suite(text, conftest, passed): runs a suite in this session's way; `passed` tests must pass."""

    def suite(text, conftest, passed, *options):
        (tmp_path / "test_suite.py").write_text(text.format(loop=loop_name))
        (tmp_path / "conftest.py").write_text(conftest)
        (tmp_path / "pytest.ini").write_text(SETTINGS)
        shutil.copy(servers.HERE / "servers.py", tmp_path)
        words = ["-m", "aioxide"] if way == "runner" else []
        command = [*words, "-m", "pytest", "-W", "error", *options, "test_suite.py"]
        with servers.Program(command, tmp_path) as program:
            status = program.ended()
        assert status == 0 and f"= {passed} passed in" in program.output, program.output

    return suite


def pytest_generate_tests(metafunc):
    if "setup" in metafunc.fixturenames:
        metafunc.parametrize("setup", SETUPS.get(metafunc.config.getoption("--way"), ["none"]))


def test_pytest_asyncio(suite, setup):
    suite(SUITE, CONFTESTS[setup], 9, "-W", "ignore::DeprecationWarning" if setup == "policy" else "error")


def test_anyio_plugin(suite, way):
    conftest = CONFTESTS["anyio" if way == "factory" else "anyio_default"]
    if way == "install":
        conftest = CONFTESTS["install"] + conftest
    suite(ANYIO_SUITE, conftest, 2)
