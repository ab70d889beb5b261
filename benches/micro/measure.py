"""The measured process: one program on one target, its result as one line of JSON."""

import argparse
import asyncio
import gc
import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import targets  # noqa: E402

# a warm-up shorter than this says too little about how many operations fill the measurement
ENOUGH = 0.03


def timed(program, runner: asyncio.Runner, seconds: float) -> tuple[float, int]:
    """Seconds and operations of one run of about `seconds`, after a warm-up that sizes it."""
    operations = program.BATCH
    while (took := runner.run(program.main(operations))) < ENOUGH:
        operations *= 4
    batches = max(1, round(seconds / took * operations / program.BATCH))
    gc.collect()
    gc.freeze()
    return runner.run(program.main(batches * program.BATCH)), batches * program.BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--gc", choices=("on", "off"), default="on")
    options = parser.parse_args()

    # first the target, as aioxide+install has to come before the program's imports
    factory = targets.load(options.target)
    program = importlib.import_module(f"programs.{options.program}")
    if options.gc == "off":
        gc.disable()
    with asyncio.Runner(loop_factory=factory) as runner:
        if options.program == "memory":
            amount, operations = runner.run(program.main(program.BATCH)), program.BATCH
        else:
            seconds, operations = timed(program, runner, options.seconds)
            amount = seconds * 1e9
    print(json.dumps({"per_operation": amount / operations, "operations": operations}))


main()
