"""At each system call an injected failure: the loop lives, and aioxide does what asyncio does.

AIOXIDE_SOAK=1 tries all errors at many more calls.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig

import comparing
import injecting
import failing
import pytest

SOAK = os.environ.get("AIOXIDE_SOAK", "") not in ("", "0")
# The other builds compare with asyncio. A debug build is slow and has assertions of CPython's that
# may fail; a free-threaded build may crash where a layout is taken for that of the others. aioxide
# alone is played on both.
DEBUG_BUILD = hasattr(sys, "gettotalrefcount")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
ROOT = os.path.dirname(os.path.dirname(injecting.HERE))
CALLS = os.path.join(ROOT, "crates", "engine", "src", "sys")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the library is for Linux"),
    pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler"),
]


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return injecting.build(tmp_path_factory.mktemp("inject"))


@pytest.mark.parametrize("scenario", failing.SCENARIOS)
def test_failures(scenario, library):
    if DEBUG_BUILD or FREE_THREADED:
        crashes = comparing.crashes(scenario, library)
        assert not crashes, crashes
        return
    found, count = comparing.compare(scenario, library, "all" if SOAK else "some")
    assert not found, f"{len(found)} of {count} cases differ\n{comparing.report(found)}"


# Everything that uses a call which some systems lack or forbid.
PROGRAM = """
import asyncio, signal, socket, sys
aio = __import__(sys.argv[1])

class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received, self.done = [], asyncio.get_running_loop().create_future()
    def datagram_received(self, data, address):
        self.received.append(data)
        if len(self.received) == 5:
            self.done.set_result(None)

async def echo(reader, writer):
    writer.write(await reader.read())
    writer.close()

async def main():
    loop = asyncio.get_running_loop()
    async with await aio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"sent")
        writer.write_eof()
        print(await reader.read())
        writer.close()
        await writer.wait_closed()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        accepted, _ = await accepting
        print(accepted.getblocking(), accepted.get_inheritable())
        accepted.close()
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    for number in range(5):
        transport.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    await protocol.done
    print(protocol.received)
    transport.close()
    process = await aio.create_subprocess_exec("/bin/sh", "-c", "echo out; exit 3", stdout=-1)
    print(await process.communicate(), process.returncode)
    print(await aio.to_thread(len, "abc"), await aio.sleep(0.001, "slept"))
    seen = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, seen.set)
    signal.raise_signal(signal.SIGUSR1)
    await seen.wait()
    print("signal")

aio.run(main())
"""


# How each is refused: accept4() and recvmmsg() have EPERM for other reasons too.
LACKING = [
    *((name, error) for name in ("epoll_create", "eventfd", "precise", "pidfd") for error in ("ENOSYS", "EPERM")),
    ("accept4", "ENOSYS"),
    ("many", "ENOSYS"),
]


@pytest.mark.parametrize(("name", "error"), LACKING)
def test_calls_that_a_system_lacks(name, error, library):
    command = [sys.executable, "-c", PROGRAM]
    plain = injecting.environment(library, sys.path)
    expected = subprocess.run([*command, "asyncio"], env=plain, capture_output=True, text=True)
    lacking = plain | injecting.missing(name, error)
    found = subprocess.run([*command, "aioxide"], env=lacking, capture_output=True, text=True, timeout=60)
    assert expected.stdout.endswith("signal\n"), expected.stderr
    assert (found.stdout, found.stderr) == (expected.stdout, expected.stderr)


# What the engine calls that has no reason to fail, or is no system call.
UNFAILING = {
    "clock_gettime",
    "memchr",
    "pthread_kill",
    "pthread_self",
    "pthread_sigmask",
    "sigaddset",
    "sigemptyset",
    "sigfillset",
    "sigismember",
    "sigpending",
}


def without_tests(source):
    """Rust without its modules of tests, which end the file."""
    return re.split(r"#\[cfg\(.*test.*\)\]\s*mod tests", source)[0]


@pytest.mark.skipif(not os.path.isdir(CALLS), reason="needs the source")
def test_every_call_of_the_engine_is_known(library):
    used = set()
    for name in os.listdir(CALLS):
        if name.endswith(".rs") and name != "tests.rs":
            with open(os.path.join(CALLS, name), encoding="utf-8") as file:
                text = without_tests(file.read())
            used |= set(re.findall(r"libc::([a-z]\w*)\(", text))
            used |= {f"syscall {number}" for number in re.findall(r"libc::(SYS_\w+)", text)}
    with open(os.path.join(injecting.HERE, "inject.c"), encoding="utf-8") as file:
        source = file.read()
    wrapped = set(re.findall(r"^\w[\w \*]*?(\w+)\([^;]*?\)\n?\s*(?:\{|OPENS)", source, re.M))
    wrapped |= {f"syscall {number}" for number in re.findall(r"case (SYS_\w+):", source)}
    # macros of the C library
    used -= {name for name in used if name.isupper()}
    assert used - wrapped - UNFAILING == set(), "calls that inject.c does not let fail"
    listed = re.search(r"enum \{\s*(RECV.*?), CLASSES", source, re.S).group(1)
    assert re.split(r",\s*", listed.lower()) == injecting.CLASSES
    assert set(injecting.CLASSES) == set(injecting.ERRORS)


def test_a_failing_call_fails(library):
    """The library does what it says: without it nothing would ever differ."""
    source = (
        "import injecting, socket\n"
        "one, two = socket.socketpair()\n"
        "injecting.arm('recv', 2, injecting.number('ECONNRESET'))\n"
        "two.send(b'abc')\n"
        "print(one.recv(1))\n"
        "try: one.recv(1)\n"
        "except ConnectionResetError: print('reset')\n"
        "print(one.recv(1), injecting.fired(), injecting.calls()['recv'])\n"
    )
    command = [sys.executable, "-c", source]
    environment = injecting.environment(library, sys.path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["b'a'", "reset", "b'b' 1 3"], done.stderr
