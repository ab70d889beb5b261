#!/usr/bin/env python3
"""Run the conformance tests on this interpreter and judge the outcome.

    python check.py [--level loop|full] [--cache FOLDER] [--json FILE]

For each level the standard library is run against itself first (kept in the
cache folder, for the same interpreter), then aioxide against that baseline.
The exit status is 1 if a test fails that passes with asyncio and is not listed
in `expected.py`.
"""

import argparse
import fnmatch
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


def has_suite():
    """Whether this Python came with its asyncio tests."""
    try:
        return importlib.util.find_spec("test.test_asyncio") is not None
    except ImportError:
        return False


def run(target, level, file, jobs):
    """Run one target; return its results."""
    command = [sys.executable, str(RUNNER), "--target", f"{target}:{level}",
               "--jobs", str(jobs), "--json", str(file)]
    # Its own exit status is that of a run without a list of exceptions.
    status = subprocess.run(command).returncode
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
            # A test that the baseline does not know is held against aioxide.
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


def report(level, verdict):
    """Print what differs, in the order of its weight."""
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
            ours = run("aioxide", level, pathlib.Path(folder) / "now.json",
                       options.jobs)
        verdict = judge(level, ours, theirs)
        report(level, verdict)
        verdicts[level] = {**verdict, "counts": ours["total"],
                           "baseline": theirs["total"]}
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(verdicts, file, indent=1)
    bad = sum(len(verdict["unexpected"]) for verdict in verdicts.values())
    good = sum(verdict["counts"]["passed"] for verdict in verdicts.values())
    print(f"conformance on {platform.python_version()}: "
          f"{good} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
