#!/usr/bin/env python3
"""Run the conformance tests on this interpreter and judge the outcome.

    python check.py [--level loop|full] [--json FILE]

Each level runs on aioxide. A test that fails there and is not listed in
`expected.py`, or that asyncio has and aioxide's run has not, is run again by
itself on both: many tests of asyncio depend on time, and a busy machine makes
some fail; others fail with asyncio too on this machine. If that many fail that
running each again takes too long, the whole level is run on asyncio. The exit
status is 1 if a test fails that passes with asyncio.
"""

import argparse
import fnmatch
import glob
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import expected

HERE = pathlib.Path(__file__).resolve().parent
RUNNER = HERE / "conformance.py"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

GOOD = ("pass", "off-target")
BAD = ("fail", "error", "crash", "hang")

# The outcomes by the names under which a run counts them.
COUNTED = {"pass": "passed", "off-target": "off-target", "fail": "failed",
           "error": "errored", "crash": "crashed", "hang": "hung"}

# If more tests than this fail, a busy machine is not the reason, and repeating
# them one by one would take long.
MOST_REPEATED = 20


def has_suite():
    """Whether this Python came with its asyncio tests."""
    try:
        return importlib.util.find_spec("test.test_asyncio") is not None
    except ImportError:
        return False


def run(target, level, file, jobs, *options):
    """Run conformance.py on one target; return its results."""
    command = [sys.executable, str(RUNNER), "--target", f"{target}:{level}",
               "--jobs", str(jobs), "--json", str(file), *options]
    # A run of few tests, and a listing, are not worth a table.
    status = subprocess.run(
        command, stdout=subprocess.DEVNULL if options else None).returncode
    # The script knows no list of exceptions: status 1 says only that a test failed.
    if status not in (0, 1) or not os.path.exists(file):
        sys.exit(f"conformance.py ended with status {status}")
    with open(file, encoding="utf-8") as stream:
        return json.load(stream)


def is_expected(name, level):
    """Whether the test is listed in expected.py."""
    return any(entry.matches(name, level, PYTHON) for entry in expected.EXPECTED)


def failing(level, ours, names):
    """The tests that fail and are not listed, and those of asyncio's suite that
    the run has not met."""
    failed = [name for name, test in ours["tests"].items()
              if test["outcome"] in BAD and not is_expected(name, level)]
    return failed + [name for name in names if name not in ours["tests"]]


def again_on_both(level, suspects, ours, folder):
    """Run tests again, each by itself, on both. Put the outcomes on aioxide in
    the place of the first ones; return those on asyncio, and what changed."""
    native, repeated = {}, []
    for number, name in enumerate(suspects):
        print(f"again by itself: {name}", flush=True)
        outcomes = {}
        for target in ("asyncio", "aioxide"):
            test = run(
                target, level, folder / f"again-{number}-{target}.json", 1,
                "--modules", name.partition(".")[0],
                "--match", glob.escape(name))["tests"].get(name)
            outcomes[target] = test["outcome"] if test else "missing"
            if target == "aioxide":
                first = ours["tests"].get(name)
                replace(ours, name, test)
        native[name] = outcomes["asyncio"]
        repeated.append({"test": name,
                         "first": first["outcome"] if first else "missing",
                         **outcomes})
    return native, repeated


def replace(results, name, test):
    """Put the outcome of a repeated test in the place of its first outcome."""
    if test is None:
        return
    first = results["tests"].get(name)
    results["tests"][name] = test
    total = results["total"]
    for outcome, by in ((first and first["outcome"], -1), (test["outcome"], 1)):
        if outcome in COUNTED:
            total[COUNTED[outcome]] += by
            total["ran"] += by * (outcome != "off-target")


def judge(level, ours, names, jobs, folder):
    """Sort the tests by how they compare with asyncio's and with the list."""
    suspects = failing(level, ours, names)
    native, repeated = {}, []
    if len(suspects) > MOST_REPEATED:
        print(f"\nlevel {level}: {len(suspects)} tests fail: too many to run "
              "each again by itself; now all on asyncio", flush=True)
        theirs = run("asyncio", level, folder / "asyncio.json", jobs)
        native = {name: test["outcome"] for name, test in theirs["tests"].items()}
    elif suspects:
        print(f"\nlevel {level}: {len(suspects)} tests fail", flush=True)
        native, repeated = again_on_both(level, suspects, ours, folder)
    tests = ours["tests"]
    bad = [name for name in failing(level, ours, names)
           # A test that asyncio skips may be missing.
           if name in tests or native.get(name) in (*GOOD, *BAD)]
    return {
        "unexpected": [name for name in bad if native.get(name) not in BAD],
        "native": [name for name in bad if native.get(name) in BAD],
        "expected": [name for name, test in tests.items()
                     if test["outcome"] in BAD and is_expected(name, level)],
        "better": [name for name, test in tests.items()
                   if test["outcome"] in GOOD and is_expected(name, level)],
        "stale": [entry.pattern for entry in expected.EXPECTED
                  if level in entry.levels and PYTHON in entry.pythons
                  and not fnmatch.filter(names, entry.pattern)],
        "repeated": repeated,
    }


def report(level, verdict):
    """Print the differences, the gravest first."""
    if verdict["repeated"]:
        print(f"\nlevel {level}: repeated by themselves: "
              f"{len(verdict['repeated'])}")
        for test in verdict["repeated"]:
            print(f"  {test['test']}: {test['first']} at first, then "
                  f"{test['aioxide']} (asyncio: {test['asyncio']})")
    for kind, title in (
            ("unexpected", "FAILS, though it passes with asyncio"),
            ("expected", "fails as listed in expected.py"),
            ("native", "fails with asyncio too on this machine"),
            ("better", "listed in expected.py, but passes"),
            ("stale", "in expected.py, but no such test was run")):
        if verdict[kind]:
            print(f"\nlevel {level}: {title}: {len(verdict[kind])}")
            for name in verdict[kind]:
                print(f"  {name}")
    print(flush=True)


def main():
    """Run the levels asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0])
    parser.add_argument("--level", action="append", choices=expected.LEVELS,
                        help="only this level (default: each)")
    parser.add_argument("--json", help="write the verdicts to a file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="test classes to run at a time")
    options = parser.parse_args()
    if not has_suite():
        print(f"Python {PYTHON} at {sys.executable} has no test.test_asyncio; "
              f"install its test suite (Debian: libpython{PYTHON}-testsuite)",
              file=sys.stderr)
        return 2
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # Which tests there are does not depend on the level.
        names = list(run("asyncio", "loop", folder / "list.json", options.jobs,
                         "--list")["tests"])
        for level in options.level or expected.LEVELS:
            print(f"\naioxide, level {level}", flush=True)
            ours = run("aioxide", level, folder / f"{level}.json", options.jobs)
            verdict = judge(level, ours, names, options.jobs, folder)
            report(level, verdict)
            verdicts[level] = {**verdict, "counts": ours["total"]}
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(verdicts, file, indent=1)
    bad = sum(len(verdict["unexpected"]) for verdict in verdicts.values())
    good = sum(verdict["counts"]["passed"] for verdict in verdicts.values())
    again = sum(len(verdict["repeated"]) for verdict in verdicts.values())
    print(f"conformance on {platform.python_version()}: "
          f"{good} passed, {bad} failed"
          + (f"; {again} repeated by themselves" if again else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
