"""The cost of the loop's primitive operations, side by side on every loop that is installed.

Each measurement is a process of its own; the targets take turns in every round.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import interpreter, machine, output, picture, rounds, table, targets
from report.spread import Spread

# program, title; figures are nanoseconds per operation except for the last
ROWS = {
    "call_soon": "call_soon",
    "call_soon_threadsafe": "call_soon_threadsafe",
    "timer_cancel": "timer: schedule and cancel",
    "timer_fire": "timer: fire",
    "sleep_one": "sleep(0), one task",
    "sleep_thousand": "sleep(0), a thousand tasks",
    "task": "create and await a task",
    "ping_pong": "future ping-pong",
    "gather": "gather of a hundred",
    "wait": "wait for a hundred",
    "as_completed": "as_completed of a hundred",
    "task_group": "TaskGroup of a hundred",
    "shield": "shield",
    "wait_for": "wait_for",
    "timeout": "timeout",
    "lock_free": "lock, free",
    "lock_contended": "lock, ten tasks",
    "semaphore": "semaphore, twenty tasks",
    "event": "event, 500 waiters",
    "condition": "condition ping-pong",
    "queue_one": "queue, one to one",
    "queue_many": "queue, ten to ten",
    "readline": "streams: readline",
    "readexactly": "streams: readexactly",
    "read": "streams: read",
    "stream_echo": "streams: echo, fifty clients",
    "executor": "executor round trip",
    "executor_batch": "executor, a thousand at once",
    "to_thread": "to_thread round trip",
    "memory": "bytes per suspended task",
}
# the peers use asyncio's own Task, so their memory is compared with asyncio's
BASES = {ROWS["memory"]: ("asyncio",)}

Samples = dict[str, dict[str, list[float]]]


def measure(python: str, program: str, target: str, options: argparse.Namespace) -> float:
    """Nanoseconds (bytes for memory) per operation of one fresh process."""
    script = str(Path(__file__).with_name("measure.py"))
    settings = ["--seconds", str(options.seconds), "--gc", options.gc]
    command = [python, script, program, target, *settings]
    lines = interpreter.printed(command, options.timeout).splitlines()
    amount: float = json.loads(lines[-1])["per_operation"]
    return amount


def collect(
    python: str, names: list[str], options: argparse.Namespace
) -> tuple[Samples, dict[str, str]]:
    """All samples by row and target, and what failed."""
    samples, failed = rounds.collect(
        options.rounds,
        [(program, name) for program in options.only for name in names],
        ROWS.__getitem__,
        lambda program, name: measure(python, program, name, options),
    )
    return {ROWS[program]: named for program, named in samples.items()}, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", help="interpreter of the measured processes (default: the benches' venv)"
    )
    parser.add_argument(
        "--targets", default=",".join(targets.ALL), help="names, separated by commas"
    )
    parser.add_argument("--only", help=f"rows, separated by commas: {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one measurement")
    parser.add_argument(
        "--gc", choices=("on", "off"), default="on", help="garbage collection, for all alike"
    )
    parser.add_argument(
        "--timeout", type=float, default=120, help="seconds a measured process may take"
    )
    parser.add_argument(
        "--output", type=Path, default=output.FOLDER, help="folder for table, JSON and picture"
    )
    options = parser.parse_args()
    options.only = options.only.split(",") if options.only else list(ROWS)
    if unknown := [row for row in options.only if row not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    try:
        wanted = targets.parse(options.targets)
    except ValueError as error:
        parser.error(str(error))

    python = options.python or interpreter.default()
    probed = targets.probe(python, wanted)
    names = list(probed.versions)
    settings = {"rounds": options.rounds, "seconds each": options.seconds, "gc": options.gc}
    head = machine.head(python, probed, settings)
    samples, failed = collect(python, names, options)

    if failed:
        head["Failed"] = "; ".join(f"{title}: {why}" for title, why in failed.items())
    results = {
        row: {name: Spread.of(values) for name, values in by_name.items()}
        for row, by_name in samples.items()
        if by_name
    }
    note = (
        "Nanoseconds per operation: median of the rounds (least–greatest). "
        "Ours against the best of the peers in the same run, above 1 being better."
    )
    subtitle = "times better than the best peer (memory: than asyncio), longer is better"
    drawn = output.ratios(results, bases=BASES)
    output.write(
        options.output,
        "micro",
        head,
        f"{note}\n\n{table.comparison(results, names, bases=BASES)}",
        samples,
        {
            "micro": picture.bars(
                "Primitive operations", f"{subtitle} · {head['Machine']}", drawn, names
            )
        },
    )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
