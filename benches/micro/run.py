"""The cost of the loop's primitive operations, side by side on every loop that is installed.

Each measurement is a process of its own; the targets take turns in every round.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import interpreter, machine, output, picture, rounds, table, targets
from report.kinds import Kind, kind_of
from report.spread import Spread

# program, title
ROWS = {
    "call_soon": "call_soon",
    "burst_10": "burst of 10 callbacks",
    "burst_1000": "burst of 1,000 callbacks",
    "burst_10000": "burst of 10,000 callbacks",
    "burst_100000": "burst of 100,000 callbacks",
    "burst_300000": "burst of 300,000 callbacks",
    "kept": "call_soon, 200,000 handles kept",
    "call_soon_threadsafe": "call_soon_threadsafe",
    "call_soon_threadsafe_own": "call_soon_threadsafe, own thread",
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
    "timer_cancel_once": "timer: schedule and cancel, once",
    "timer_fire_once": "timer: fire, once",
    "ping_pong_once": "future ping-pong, once",
    "queue_one_once": "queue, one to one, once",
    "readline_once": "streams: readline, once",
    "memory": "bytes per suspended task",
    "memory_handle": "bytes per waiting handle",
    "memory_timer": "bytes per waiting timer",
    "memory_connection": "bytes per idle connection",
    "memory_stream": "bytes per idle stream",
}
# a kind's picture, its title, and its unit
PICTURES = {
    Kind.REPEATED: ("micro", "Primitive operations", "nanoseconds per operation"),
    Kind.ONCE: ("micro-once", "Primitive operations, a single pass", "nanoseconds per operation"),
    Kind.BYTES: ("micro-memory", "Resident memory (of a task: against asyncio)", "resident bytes"),
}
# the peers use asyncio's own Task, so a task's memory is compared with asyncio's
BASES = {ROWS["memory"]: ("asyncio",)}

Samples = dict[str, dict[str, list[float]]]
# one kind's spreads by row and target
Rows = Mapping[str, Mapping[str, Spread]]


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


def by_kind(samples: Samples) -> dict[Kind, Rows]:
    """The spreads of each kind of rows, without the kinds and rows that have none."""
    kinds = {
        title: kind_of(importlib.import_module(f"programs.{program}"))
        for program, title in ROWS.items()
    }
    found = {
        kind: {
            row: {name: Spread.of(values) for name, values in named.items()}
            for row, named in samples.items()
            if named and kinds[row] is kind
        }
        for kind in Kind
    }
    return {kind: rows for kind, rows in found.items() if rows}


def page(results: Mapping[Kind, Rows], names: Sequence[str]) -> str:
    """The report's text: a table for each kind."""
    note = (
        "Medians of the rounds (least–greatest). Ours against the best of the peers in the same "
        "run (a task's memory: against asyncio), above 1 being better."
    )
    tables = (
        f"## {kind.value.capitalize()}\n\n{table.comparison(rows, names, bases=BASES)}"
        for kind, rows in results.items()
    )
    return "\n\n".join([note, *tables])


def pictures(results: Mapping[Kind, Rows], names: Sequence[str], where: str) -> dict[str, str]:
    """A picture for each kind, by the name of its file."""
    drawn = {}
    for kind, rows in results.items():
        file, title, unit = PICTURES[kind]
        subtitle = f"{unit}: times better than the best peer, longer is better · {where}"
        drawn[file] = picture.bars(title, subtitle, output.ratios(rows, bases=BASES), names)
    return drawn


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
    results = by_kind(samples)
    output.write(
        options.output,
        "micro",
        head,
        page(results, names),
        samples,
        pictures(results, names, head["Machine"]),
    )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
