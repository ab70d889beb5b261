"""The measured process: one program on one target, its result as one line of JSON."""

import argparse
import asyncio
import gc
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import targets
from report.kinds import Kind, kind_of

# In seconds: a measurement consists of pieces of at least this length. A shorter piece says little,
# and during a longer one the machine seldom does nothing else.
PIECE = 0.005
# The least number of pieces of a measurement.
LEAST_PIECES = 3


def timed(program: Any, runner: asyncio.Runner, seconds: float) -> tuple[float, int]:
    """Seconds and operations of the fastest piece, of as many pieces as take about `seconds`.

    A slower piece is slower because the machine did something else meanwhile.
    """
    operations = program.BATCH
    while runner.run(program.main(operations)) < PIECE:
        operations *= 2
    gc.collect()
    gc.freeze()
    end = time.perf_counter() + seconds
    pieces: list[float] = []
    while len(pieces) < LEAST_PIECES or time.perf_counter() < end:
        pieces.append(runner.run(program.main(operations)))
    return min(pieces), operations


def single(program: Any, runner: asyncio.Runner) -> tuple[float, int]:
    """Seconds (bytes for memory) and operations of the program's only pass."""
    operations: int = program.BATCH
    gc.collect()
    gc.freeze()
    return runner.run(program.main(operations)), operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--gc", choices=("on", "off"), default="on")
    options = parser.parse_args()

    # first the target: aioxide+install must be in place before the program's imports
    factory = targets.load(options.target)
    program = importlib.import_module(f"programs.{options.program}")
    if options.gc == "off":
        gc.disable()
    kind = kind_of(program)
    with asyncio.Runner(loop_factory=factory) as runner:
        if kind is Kind.REPEATED:
            amount, operations = timed(program, runner, options.seconds)
        else:
            amount, operations = single(program, runner)
    if kind is not Kind.BYTES:
        amount *= 1e9
    print(json.dumps({"per_operation": amount / operations, "operations": operations}))


main()
