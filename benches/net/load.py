"""One measurement: a server process, the load generator, and the server's CPU clock around it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from report import interpreter
from report.processors import Processors

CRATE = Path(__file__).with_name("loadgen")
SERVE = Path(__file__).with_name("serve.py")


FLOOR = "floor"
# what the name of a target ends in that runs on the interpreter of an earlier build
BEFORE = " before"
DATAGRAM_FLOOR = "floor of datagrams"
# kinds of server that speak UDP, and the most bytes that a datagram carries
DATAGRAMS = ("datagram", DATAGRAM_FLOOR)
LARGEST_DATAGRAM = 65507


@dataclass(frozen=True)
class Binaries:
    """The load generator and the floor."""

    loadgen: str
    floor: str


@dataclass(frozen=True)
class Setting:
    """The settings that are the same for every measurement of a run."""

    python: str
    binaries: Binaries
    seconds: float
    warmup: float
    unix: bool
    # a folder with certificates, if the servers speak TLS
    tls: str | None
    # whether every request has a connection of its own
    reconnect: bool
    processors: Processors
    # an interpreter with an earlier build of aioxide, if there is one to compare with
    before: str | None = None


@dataclass(frozen=True)
class Case:
    """One server under one load; the floor has no kind of server."""

    server: str
    connections: int
    size: int

    def over(self, unix: bool) -> str:
        """The option of the load generator and the floor for the way to the server."""
        if self.server in DATAGRAMS:
            return "udp"
        return "unix" if unix else "tcp"

    def title(self) -> str:
        size = f"{self.size} B" if self.size < 1024 else f"{self.size // 1024} KiB"
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return f"{self.server}, {connections}, {size}"


def certificates(python: str, folder: str) -> str:
    """Make an authority (client.pem) and a certificate for localhost (server.pem, server.key)."""
    made = subprocess.run(
        [python, "-m", "trustme", "--quiet", "--dir", folder, "--identities", "localhost"],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise SystemExit(f"no certificates: {made.stderr.strip() or made.stdout.strip()}")
    return folder


def build() -> Binaries:
    """Build the load generator and the floor with cargo, where they are not built yet."""
    command = ["cargo", "build", "--release", "--manifest-path", str(CRATE / "Cargo.toml")]
    built = subprocess.run(
        [*command, "--message-format=json-render-diagnostics"], stdout=subprocess.PIPE, text=True
    )
    if built.returncode:
        raise SystemExit("the load generator does not build; it needs Rust 1.85 or newer")
    found = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            found[message["target"]["name"]] = message["executable"]
    return Binaries(found["loadgen"], found["floor"])


@dataclass(frozen=True)
class Server:
    """A server process that runs, and the option of the load generator for the way to it."""

    pid: int
    address: tuple[str, str]


@contextmanager
def serving(setting: Setting, case: Case, target: str) -> Iterator[Server]:
    """A server process, until the end of the block; RuntimeError with the reason when it fails."""
    with ExitStack() as stack:
        path = None
        over = case.over(setting.unix)
        if over == "unix":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = f"{folder}/echo"
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        server = subprocess.Popen(
            _server(setting, case, target, path),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=interpreter.environment(),
            preexec_fn=setting.processors.enter_measured,
        )
        stack.callback(_stop, server)
        port = line(server)
        if not port:
            server.wait()
            errors.seek(0)
            lines = errors.read().strip().splitlines() or [f"exit status {server.returncode}"]
            raise RuntimeError(lines[-1])
        yield Server(server.pid, (f"--{over}", path or f"127.0.0.1:{port}"))


def measure(setting: Setting, case: Case, target: str) -> dict[str, float]:
    """Requests per second, p50 and p99 in microseconds, and the server's CPU microseconds per
    request; RuntimeError with the reason when the server or a reply fails."""
    with serving(setting, case, target) as server:
        return _load(setting, case, server)


def _server(setting: Setting, case: Case, target: str, path: str | None) -> list[str]:
    if target == FLOOR:
        return [setting.binaries.floor, f"--{case.over(setting.unix)}", path or "127.0.0.1:0"]
    where = ["--unix", path] if path else []
    if setting.tls:
        where += ["--tls", setting.tls]
    loop = target.removesuffix(BEFORE)
    python = setting.before if loop != target and setting.before else setting.python
    return [python, str(SERVE), case.server, "--loop", loop, *where]


def load(setting: Setting, case: Case, server: Server) -> subprocess.Popen[str]:
    """Start the load generator, which makes a window for each line that it gets."""
    shape = ["--connections", str(case.connections), "--size", str(case.size)]
    length = ["--seconds", str(setting.seconds), "--warmup", str(setting.warmup), "--wait"]
    kind = ["--tls", f"{setting.tls}/client.pem"] if setting.tls else []
    if setting.reconnect:
        kind.append("--reconnect")
    return subprocess.Popen(
        [setting.binaries.loadgen, *server.address, *kind, *shape, *length],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=setting.processors.enter_load,
    )


def _load(setting: Setting, case: Case, server: Server) -> dict[str, float]:
    """Run the load generator for one window. It pauses before and after, so that the difference of
    the CPU clock is the work of exactly the requests that it counted."""
    with load(setting, case, server) as generator:
        ready = line(generator)
        before = cpu_seconds(server.pid) if ready else 0.0
        out, errors = generator.communicate("\n" if ready else None)
        if generator.returncode:
            raise RuntimeError(errors.strip() or f"exit status {generator.returncode}")
        return with_cpu(out, cpu_seconds(server.pid) - before)


def with_cpu(printed: str, used: float) -> dict[str, float]:
    """The figures of a window that the load generator has printed, and the server's CPU."""
    figures: dict[str, float] = json.loads(printed)
    figures["cpu_us"] = used / figures["requests"] * 1e6
    return figures


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, living and ended, user and system.

    Linux's clock of another process, which the scheduler keeps in nanoseconds and not by ticks:
    the sum of the first figures of /proc/PID/task/*/schedstat and of what ended threads had.
    """
    return time.clock_gettime((~pid << 3) | 2)


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints, empty when it has ended instead."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _stop(server: subprocess.Popen[str]) -> None:
    server.terminate()
    try:
        server.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.communicate()
