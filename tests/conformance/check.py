#!/usr/bin/env python3
"""Run the conformance tests on this interpreter and judge the outcome.

    python check.py [--level loop|full] [--cache FOLDER] [--json FILE]

For each level the standard library is run against itself first (kept in the
cache folder, for the same interpreter), then aioxide against that baseline.
A test that fails, passes with asyncio and is not listed in `expected.py` is run
again by itself, on both: many tests of asyncio depend on time, and a busy machine
makes some fail. The exit status is 1 if one fails again that passes with asyncio.
"""

import argparse
import fnmatch
import glob
import hashlib
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

# If more tests than this do worse than asyncio, a busy machine is not the
# reason, and repeating them one by one would take long.
MOST_REPEATED = 20


def has_suite():
    """Whether this Python came with its asyncio tests."""
    try:
        return importlib.util.find_spec("test.test_asyncio") is not None
    except ImportError:
        return False


def run(target, level, file, jobs, test=None):
    """Run one target, its whole suite or silently one test; return its results."""
    command = [sys.executable, str(RUNNER), "--target", f"{target}:{level}",
               "--jobs", str(jobs), "--json", str(file)]
    if test:
        command += ["--modules", test.partition(".")[0],
                    "--match", glob.escape(test)]
    # The script knows no list of exceptions: status 1 says only that a test failed.
    status = subprocess.run(
        command, stdout=subprocess.DEVNULL if test else None).returncode
    if status not in (0, 1) or not os.path.exists(file):
        sys.exit(f"conformance.py ended with status {status}")
    with open(file, encoding="utf-8") as stream:
        return json.load(stream)


def baseline(level, cache, jobs):
    """Return asyncio's own results, from the cache if they are there."""
    key = hashlib.sha256("\n".join(
        [sys.version, platform.platform(), os.path.realpath(sys.executable),
         RUNNER.read_text(encoding="utf-8")]).encode())
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"asyncio-{PYTHON}-{level}-{key.hexdigest()[:16]}.json"
    if file.exists():
        print(f"baseline of asyncio, level {level}: from {file.name}")
        with open(file, encoding="utf-8") as stream:
            return json.load(stream)
    print(f"baseline of asyncio, level {level}", flush=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    results = run("asyncio", level, unfinished, jobs)
    unfinished.rename(file)
    return results


def judge(level, ours, theirs):
    """Compare outcomes with asyncio's and with the list."""
    native = {name: test["outcome"] for name, test in theirs["tests"].items()}
    verdict = {"unexpected": [], "expected": [], "native": [], "better": [],
               "stale": []}
    tests = {name: test["outcome"] for name, test in ours["tests"].items()}
    for name, outcome in tests.items():
        listed = any(entry.matches(name, level, PYTHON)
                     for entry in expected.EXPECTED)
        if outcome in BAD:
            # A test that the baseline does not know counts against aioxide.
            if native.get(name) in BAD:
                verdict["native"].append(name)
            elif listed:
                verdict["expected"].append(name)
            else:
                verdict["unexpected"].append(name)
        elif outcome in GOOD and listed:
            verdict["better"].append(name)
    missing = [name for name, outcome in native.items()
               if outcome in GOOD and name not in tests]
    verdict["unexpected"] += missing
    for entry in expected.EXPECTED:
        if (level in entry.levels and PYTHON in entry.pythons
                and not fnmatch.filter(native, entry.pattern)):
            verdict["stale"].append(entry.pattern)
    return verdict


def repeat(level, names, folder):
    """Run tests again, each by itself, on both; return the outcomes as {name:
    {target: test or None}}."""
    again = {}
    for number, name in enumerate(names):
        print(f"again by itself: {name}", flush=True)
        again[name] = {}
        for target in ("asyncio", "aioxide"):
            file = folder / f"again-{number}-{target}.json"
            again[name][target] = run(
                target, level, file, 1, name)["tests"].get(name)
    return again


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


def judge_twice(level, ours, theirs, folder):
    """Compare; repeat the tests that do worse than asyncio's before saying
    so."""
    verdict = judge(level, ours, theirs)
    names = verdict["unexpected"]
    repeated = []
    if len(names) > MOST_REPEATED:
        print(f"\nlevel {level}: {len(names)} tests do worse than with asyncio: "
              "too many to run each again by itself")
    elif names:
        print(f"\nlevel {level}: {len(names)} tests do worse than with asyncio",
              flush=True)
        for name, results in repeat(level, names, folder).items():
            outcomes = {target: test["outcome"] if test else "missing"
                        for target, test in results.items()}
            first = ours["tests"].get(name)
            repeated.append({"test": name,
                             "first": first["outcome"] if first else "missing",
                             **outcomes})
            replace(ours, name, results["aioxide"])
            replace(theirs, name, results["asyncio"])
        verdict = judge(level, ours, theirs)
    return {**verdict, "repeated": repeated}


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
    parser.add_argument("--cache", type=pathlib.Path,
                        default=HERE.parent.parent / ".cache" / "conformance",
                        help="where asyncio's own results are kept")
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
    for level in options.level or expected.LEVELS:
        theirs = baseline(level, options.cache, options.jobs)
        print(f"\naioxide, level {level}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            ours = run("aioxide", level, folder / "now.json", options.jobs)
            verdict = judge_twice(level, ours, theirs, folder)
        report(level, verdict)
        verdicts[level] = {**verdict, "counts": ours["total"],
                           "baseline": theirs["total"]}
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
