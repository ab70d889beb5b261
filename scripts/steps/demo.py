"""The demo: a service and its client, side by side on asyncio and on aioxide."""

import argparse
import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator

from .environment import Environment, released
from .running import ROOT, Failed, answer

# A row of the table: its name and the words before the program.
WAYS: dict[str, tuple[str, ...]] = {"asyncio": (), "aioxide": ("-m", "aioxide")}

# The seconds, the service's processor time (None where the system does not say), the event loop.
Round = tuple[float, float | None, str]


def demo(options: argparse.Namespace) -> None:
    """The service and its thousand fetches, on asyncio and on aioxide."""
    allow_descriptors(2 * options.count + 256)
    ways = [options.way] if options.way else list(WAYS)
    env = released(build=ways != ["asyncio"])
    env.require("demo", ROOT / "examples" / "requirements.txt")
    print(f"""
A FastAPI service under uvicorn answers {options.count} requests that an
aiohttp client sends at once. The two programs are run as they are, with
`python examples/…` and with `python -m aioxide examples/…`.
""")
    results: dict[str, list[Round]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in ways:
            done = fetch(env, way, options.count)
            results[way].append(done)
            print(f"round {number + 1} of {options.rounds}: {way:8} {done[0]:6.3f} s", flush=True)
    print_table(results, options.count)


def print_table(results: dict[str, list[Round]], count: int) -> None:
    """A line for each way, with the medians of its rounds."""
    print(f"\n{'':10}{'median':>9}{'requests/s':>13}{'service CPU':>14}{'faster':>9}   event loop")
    first = None
    for way, rounds in results.items():
        seconds = statistics.median(row[0] for row in rounds)
        first = first or seconds
        times = [row[1] for row in rounds if row[1] is not None]
        used = f"{statistics.median(times):.2f} s" if times else "-"
        print(
            f"{way:10}{seconds:>7.3f} s{count / seconds:>13.0f}"
            f"{used:>14}{first / seconds:>8.2f}×   {rounds[0][2]}"
        )
    print()


def allow_descriptors(wanted: int) -> None:
    """Raise the limit of descriptors, because some shells allow fewer than the two ends of a
    thousand connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(env: Environment, way: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run examples/service.py; give its address and its process."""
    port = free_port()
    process = subprocess.Popen(
        [env.python, *WAYS[way], "examples/service.py", "--port", str(port)],
        cwd=ROOT,
        env=env.variables,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"examples/service.py did not start on {way}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processor_seconds(process: subprocess.Popen[bytes]) -> float | None:
    """The processor time of a process so far, or None where the system does not say."""
    with contextlib.suppress(OSError):
        line = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
        fields = line.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def fetch(env: Environment, way: str, count: int) -> Round:
    """One round: a service and its client."""
    with serving(env, way) as (url, service):
        command = [str(env.python), *WAYS[way], "examples/fetch.py", url, "--count", str(count)]
        # The first requests of a process load modules, which is not counted.
        answer(*command[:-1], "10")
        before = processor_seconds(service)
        done = subprocess.run(
            command, cwd=ROOT, env=env.variables, stdout=subprocess.PIPE, text=True
        )
        after = processor_seconds(service)
    found = re.search(r"answers in ([\d.]+) s on (\S+)", done.stdout)
    if done.returncode or not found:
        raise Failed(f"examples/fetch.py failed on {way}")
    used = None if before is None or after is None else after - before
    return float(found[1]), used, found[2]
