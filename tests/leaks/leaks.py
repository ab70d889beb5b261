#!/usr/bin/env python3
"""Find references and descriptors that small programs leave behind.

    python3.14-dbg leaks.py [--target MODULE] [--match GLOB] [--rounds N] [--batches N]
"""

import argparse
import fnmatch
import gc
import importlib
import logging
import os
import sys
import warnings

import executor_scenarios  # noqa: F401 (adds its own to scenarios.ALL)
import scenarios
import socket_scenarios  # noqa: F401 (adds its own to scenarios.ALL)
import stream_scenarios  # noqa: F401 (as well)
import sync_scenarios  # noqa: F401 (as well)


def counts():
    """References and descriptors of this process now."""
    gc.collect()
    return sys.gettotalrefcount(), len(os.listdir("/proc/self/fd"))


def growths(play, rounds, batches):
    """What each batch of `rounds` calls of `play` adds: (references, descriptors)."""
    for _ in range(rounds):  # caches, free lists, specialized code
        play()
    counts()
    found = []
    before = counts()
    for _ in range(batches):
        for _ in range(rounds):
            play()
        after = counts()
        found.append(tuple(now - then for now, then in zip(after, before)))
        before = after
    return found


def leaks(found, rounds):
    """Whether one of the counts grows in every batch. What comes and goes, or comes once, does not."""
    return any(min(grown) > rounds / 2 for grown in zip(*found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--target", default="aioxide", help="the module to test (default: aioxide)")
    add("--match", default="*", metavar="GLOB", help="the scenarios to run (default: all)")
    add("--rounds", type=int, default=200, help="rounds in a batch (default: 200)")
    add("--batches", type=int, default=3, help="batches after the first (default: 3)")
    options = parser.parse_args()
    if not hasattr(sys, "gettotalrefcount"):
        parser.error("this needs a debug build of CPython")
    # What the scenarios provoke is reported; that is not the matter here.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda args: None
    target = importlib.import_module(options.target)
    names = fnmatch.filter(scenarios.ALL, options.match)
    if not names:
        parser.error(f"no scenario matches {options.match!r}")
    bad = []
    for name in names:
        found = growths(lambda: scenarios.ALL[name](target), options.rounds, options.batches)
        if leaks(found, options.rounds):
            bad.append(name)
        shown = "  ".join("{:+d}/{:+d}".format(*grown) for grown in found)
        print(f"{'LEAKS' if name in bad else 'ok':6} {name:32} {shown}", flush=True)
    print(f"{len(names)} scenarios, {len(bad)} leak; references/descriptors of {options.rounds} rounds")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
