"""Child processes on every loop that is installed: starting one and waiting for its end, and
sending 64 KiB to a `cat` and back.

Each measurement is a process of its own; the targets take turns in every round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import interpreter, machine, output, picture, rounds, table, targets
from report.spread import spreads

PIPE = subprocess.PIPE
DATA = bytes(range(256)) * 256  # 64 KiB
# asyncio is a peer here: most other loops are slower
PEERS = ("asyncio", *targets.PEERS)

# figures of every round by row and target
Samples = dict[str, dict[str, list[dict[str, float]]]]


async def spawn(count: int) -> None:
    """Start a program that does nothing and wait for its end."""
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()


async def communicate(count: int) -> None:
    """Start a `cat`, send it 64 KiB, read them back and wait for its end."""
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(DATA)
        assert out == DATA


async def round_trip(count: int) -> None:
    """Send 64 KiB to a running `cat` and read them back."""
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    for _ in range(count):
        process.stdin.write(DATA)
        out = await process.stdout.readexactly(len(DATA))
        assert out == DATA
    process.stdin.close()
    await process.wait()


# the function of a row, its title, and its repetitions in one measurement
ROWS: dict[str, tuple[Callable[[int], Coroutine[Any, Any, None]], str, int]] = {
    "spawn": (spawn, "spawn and wait", 200),
    "communicate": (communicate, "spawn cat, 64 KiB by communicate", 200),
    "round_trip": (round_trip, "64 KiB through cat", 5000),
}


def title(row: str) -> str:
    return ROWS[row][1]


def measured(row: str, target: str) -> None:
    """The measured process: microseconds of time and of its own CPU per operation."""
    factory = targets.load(target)
    run, _, count = ROWS[row]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run(count // 10))
        started, used = time.perf_counter(), time.process_time()
        runner.run(run(count))
        took, used = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"us": took / count * 1e6, "cpu_us": used / count * 1e6}))


def measure(python: str, row: str, target: str) -> dict[str, float]:
    """The figures of one fresh process; RuntimeError with the reason if it fails."""
    command = [python, __file__, "--measure", row, "--targets", target]
    figures: dict[str, float] = json.loads(interpreter.printed(command, 120).splitlines()[-1])
    return figures


def collect(python: str, names: list[str], count: int) -> tuple[Samples, dict[str, str]]:
    """All samples of `count` rounds, and the failures."""
    samples, failed = rounds.collect(
        count,
        [(row, name) for row in ROWS for name in names],
        title,
        lambda row, name: measure(python, row, name),
    )
    return {title(row): named for row, named in samples.items()}, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="interpreter to measure on (default: the benches' venv)")
    parser.add_argument(
        "--targets", default=",".join(targets.ALL), help="names, separated by commas"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--measure", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=output.FOLDER, help="folder for the results")
    options = parser.parse_args()
    if options.measure:
        measured(options.measure, options.targets)
        return
    if options.rounds < 1:
        parser.error("--rounds must be positive")
    try:
        wanted = targets.parse(options.targets)
    except ValueError as error:
        parser.error(str(error))

    python = options.python or interpreter.default()
    probed = targets.probe(python, wanted)
    names = list(probed.versions)
    head = machine.head(python, probed, {"rounds": options.rounds})
    samples, failed = collect(python, names, options.rounds)

    if failed:
        head["Failed"] = "; ".join(f"{title}: {why}" for title, why in failed.items())
    time_of, cpu = spreads(samples, "us"), spreads(samples, "cpu_us")
    bases = dict.fromkeys(time_of, PEERS)
    text = (
        "Medians of the rounds (least–greatest). Ours against the best of the peers in the same "
        "run, asyncio among them, above 1 being better.\n\n"
        "## Microseconds per operation\n\n"
        f"{table.comparison(time_of, names, bases=bases)}\n\n"
        "## CPU microseconds of the parent process per operation\n\n"
        f"{table.comparison(cpu, names, bases=bases)}"
    )
    subtitle = f"times better than the best peer, longer is better · {head['Machine']}"
    pictures = {
        "children": picture.bars(
            "Child processes", subtitle, output.ratios(time_of, bases=bases), names
        )
    }
    output.write(options.output, "children", head, text, samples, pictures)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
