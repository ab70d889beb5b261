"""How much of their work loops on several threads keep: operations per second of processor time,
several threads against one.

Without a GIL, and if the threads share nothing, several do several times the work of one. What they
share costs each of them: memory that both write, locks, moments when all must stand still. The
processor time of the threads shows that where other programs take part of the machine too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import interpreter, machine, output, picture, rounds, table, targets
from report.spread import Spread
from threads import programs

# A row's samples by target: of each round, the ratios and the work of one thread.
Samples = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]


def measure(
    python: str, program: str, target: str, options: argparse.Namespace
) -> dict[str, float]:
    """The medians of one process's pairs."""
    script = str(Path(__file__).with_name("measure.py"))
    settings = ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    command = [python, script, program, target, *settings, "--pairs", str(options.pairs)]
    lines = interpreter.printed(command, options.timeout).splitlines()
    pairs = json.loads(lines[-1])["pairs"]
    several = str(options.threads)
    figures = {
        "scaling": [
            options.threads
            * pair[several]["per_processor_second"]
            / pair["1"]["per_processor_second"]
            for pair in pairs
        ],
        "wall": [pair[several]["per_second"] / pair["1"]["per_second"] for pair in pairs],
        "one": [pair["1"]["per_processor_second"] for pair in pairs],
        "several": [pair[several]["per_processor_second"] for pair in pairs],
    }
    return {name: statistics.median(values) for name, values in figures.items()}


def spreads(samples: Samples, figure: str) -> dict[str, dict[str, Spread]]:
    """The spread of one figure over the rounds, by row and target."""
    return {
        row: {
            name: Spread.of([sample[figure] for sample in taken]) for name, taken in named.items()
        }
        for row, named in samples.items()
        if named
    }


def plain_table(found: Mapping[str, Mapping[str, Spread]], names: Sequence[str]) -> str:
    """A line for each row, a column for each target."""
    rows = [
        [row, *(named[name].text() if name in named else "–" for name in names)]
        for row, named in found.items()
    ]
    return table.markdown(["", *names], rows)


def page(samples: Samples, names: Sequence[str], threads: int) -> str:
    """The report's text."""
    parts = [
        f"## Work per second of processor time, {threads} threads against one\n\n"
        f"{threads} is what threads do that share nothing. Medians of the rounds (least–greatest)."
        f"\n\n{plain_table(spreads(samples, 'scaling'), names)}",
        f"## Work per second, {threads} threads against one\n\n"
        "Only on a machine with nothing else to do does this say more.\n\n"
        f"{plain_table(spreads(samples, 'wall'), names)}",
        "## Operations per second of processor time, one thread\n\n"
        f"{plain_table(spreads(samples, 'one'), names)}",
    ]
    return "\n\n".join(parts)


def ask_about_gil(python: str, wish: str) -> str:
    """See to it that the measured processes have a GIL or none, as is wished, and say which."""
    code = "import sysconfig; print(sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    if asked.stdout.strip() != "1":
        return "on, as always in this build"
    os.environ["PYTHON_GIL"] = "0" if wish == "off" else "1"
    return wish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", help="interpreter of the measured processes (default: the benches' venv)"
    )
    parser.add_argument(
        "--targets",
        default="asyncio,uvloop,zuvloop,aioxide,aioxide+install",
        help="names, separated by commas",
    )
    parser.add_argument("--only", help=f"rows, separated by commas: {', '.join(programs.ROWS)}")
    parser.add_argument("--gil", choices=("off", "on"), default="off", help="in a build without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pairs", type=int, default=3, help="measurements of a process, each of both"
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="length of one measurement")
    parser.add_argument(
        "--timeout", type=float, default=120, help="seconds a measured process may take"
    )
    parser.add_argument(
        "--output", type=Path, default=output.FOLDER, help="folder for table, JSON and picture"
    )
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(programs.ROWS)
    if unknown := [row for row in chosen if row not in programs.ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(programs.ROWS)}")
    try:
        wanted = targets.parse(options.targets)
    except ValueError as error:
        parser.error(str(error))

    python = options.python or interpreter.default()
    gil = ask_about_gil(python, options.gil)
    probed = targets.probe(python, wanted)
    names = list(probed.versions)
    settings = {
        "threads": options.threads,
        "rounds": options.rounds,
        "pairs": options.pairs,
        "seconds each": options.seconds,
        "GIL": gil,
    }
    head = machine.head(python, probed, settings)
    taken, failed = rounds.collect(
        options.rounds,
        [(program, name) for program in chosen for name in names],
        programs.ROWS.__getitem__,
        lambda program, name: measure(python, program, name, options),
    )
    samples = {programs.ROWS[program]: named for program, named in taken.items()}
    if failed:
        head["Failed"] = "; ".join(f"{title}: {why}" for title, why in failed.items())
    drawn = {
        row: {name: spread.median for name, spread in named.items()}
        for row, named in spreads(samples, "scaling").items()
    }
    shown = picture.bars(
        f"Loops on {options.threads} threads",
        f"work per second of processor time, as multiples of one thread's · {head['Machine']}",
        drawn,
        names,
        line=(options.threads, "nothing is shared"),
    )
    output.write(
        options.output,
        "scaling",
        head,
        page(samples, names, options.threads),
        samples,
        {"scaling": shown},
    )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
