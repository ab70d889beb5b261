"""How long a thread waits that calls another thread's loop, which is busy with short entries."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import interpreter, machine, output, rounds, table, targets
from threads.scaling import ask_about_gil

# As strangers.py names them.
CALLS = (
    "loop.time()",
    "future.done()",
    "loop.call_soon(f)",
    "loop.call_soon_threadsafe(f)",
    "until the loop calls f",
)


def measure(python: str, call: str, target: str, options: argparse.Namespace) -> dict[str, float]:
    """The median, the 99th percentile and the greatest, in milliseconds, of one process."""
    script = str(Path(__file__).with_name("strangers.py"))
    command = [python, script, target, "--only", call, "--calls", str(options.calls)]
    taken = json.loads(interpreter.printed(command, options.timeout).splitlines()[-1])
    taken.sort()
    return {
        "median": statistics.median(taken),
        "99 %": taken[int(len(taken) * 0.99)],
        "greatest": taken[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", help="interpreter of the measured processes (default: the benches' venv)"
    )
    parser.add_argument(
        "--targets", default="asyncio,uvloop,zuvloop,aioxide", help="names, separated by commas"
    )
    parser.add_argument("--gil", choices=("off", "on"), default="off", help="in a build without it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000, help="of each kind in a process")
    parser.add_argument(
        "--timeout", type=float, default=120, help="seconds a measured process may take"
    )
    parser.add_argument(
        "--output", type=Path, default=output.FOLDER, help="folder for table and JSON"
    )
    options = parser.parse_args()
    try:
        wanted = targets.parse(options.targets)
    except ValueError as error:
        parser.error(str(error))

    python = options.python or interpreter.default()
    gil = ask_about_gil(python, options.gil)
    probed = targets.probe(python, wanted)
    names = list(probed.versions)
    settings = {"rounds": options.rounds, "calls": options.calls, "GIL": gil}
    head = machine.head(python, probed, settings)
    samples, failed = rounds.collect(
        options.rounds,
        [(call, name) for call in CALLS for name in names],
        lambda call: call,
        lambda call, name: measure(python, call, name, options),
    )
    if failed:
        head["Failed"] = "; ".join(f"{title}: {why}" for title, why in failed.items())
    rows = []
    for call, named in samples.items():
        cells = []
        for name in names:
            taken = named.get(name)
            if not taken:
                cells.append("–")
                continue
            medians = statistics.median(sample["median"] for sample in taken)
            late = statistics.median(sample["99 %"] for sample in taken)
            greatest = max(sample["greatest"] for sample in taken)
            cells.append(f"{medians:.4f} / {late:.3f} / {greatest:.1f}")
        rows.append([call, *cells])
    text = (
        "Milliseconds: the median call, the 99th percentile (medians of the rounds), and the "
        f"longest of all.\n\n{table.markdown(['', *names], rows)}"
    )
    output.write(options.output, "latency", head, text, samples, {})
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
