"""Plays one scenario under every failure, in a Python that was started with the library of inject.c.

    python failing.py MODULE SCENARIO all|some
    python failing.py MODULE SCENARIO CLASS NTH ERROR TIMES

The first prints a line of JSON for each case; only for those that standard input lists, if it lists
any. The second plays one case and prints its journal to be read.
"""

import gc
import importlib
import json
import sys
import zlib

import injecting
import other_scenarios
import connection_scenarios
from case import Case

SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (*connection_scenarios.SCENARIOS, *other_scenarios.SCENARIOS)
}

# What goes on failing, as when there is no descriptor left, and what never exists.
LASTING = {"EMFILE", "ENFILE", "ENOSYS"}
FOR_EVER = 1_000_000
# The first calls of a class, and the last, stand for all.
FIRST = 2
# What is no error yet is tried everywhere; of errors a scenario has its own two, unless all are tried.
MILD = {"EINTR", "EAGAIN", "SHORT", "HALF", "END"}


def errors(failing, name, is_all):
    """What calls of a class fail with in a scenario."""
    names = injecting.ERRORS[failing].split()
    mild = [error for error in names if error in MILD]
    hard = [error for error in names if error not in MILD]
    if is_all or len(hard) <= 2:
        return names
    start = zlib.crc32(f"{name} {failing}".encode()) % len(hard)
    return mild + (hard + hard)[start : start + 2]


def cases(counts, name, is_all):
    """What to let fail, by what was called without: class, which call, error, how often."""
    for failing, count in counts.items():
        for error in errors(failing, name, is_all):
            first = min(count, 10 * FIRST if is_all else FIRST)
            for nth in sorted({*range(1, first + 1), count}):
                yield failing, nth, error, 1
            if error in LASTING:
                yield failing, 1, error, FOR_EVER


def play(aio, scenario, failing=None, nth=0, error="EIO", times=1):
    case = Case(aio, failing, nth, injecting.number(error), times)
    case.play(scenario)
    return case


def show(case):
    print(f"{case.fired} of these calls failed: {case.calls}")
    for side, lines in case.sides.items():
        for line in lines:
            print(f"{side:>12}: {' '.join(map(str, line))}")


def write(record):
    print(json.dumps(record, default=repr), flush=True)


def main(module, name, *which):
    aio = importlib.import_module(module)
    scenario = SCENARIOS[name]
    if len(which) > 1:
        failing, nth, error, times = which
        play(aio, scenario)  # imports what it needs
        show(play(aio, scenario, failing, int(nth), error, int(times)))
        return
    chosen, done = json.load(sys.stdin)
    for _ in range(2):
        case = play(aio, scenario)
    # Each case collects garbage several times: what is there now need not be looked at again.
    gc.collect()
    gc.freeze()
    write({"case": None, "sides": case.sides, "calls": case.calls})
    done = set(map(tuple, done))
    for which in chosen or cases(case.calls, name, which == ("all",)):
        if tuple(which) in done:
            continue
        write({"begins": which})
        case = play(aio, scenario, *which)
        write({"case": which, "fired": case.fired, "sides": case.sides})


if __name__ == "__main__":
    main(*sys.argv[1:])
