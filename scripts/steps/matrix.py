"""The matrix: builds and tries aioxide's wheel on every Python, and prints one table."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from . import checks
from .environment import CACHE, Environment, need_rust, target_folder, tools
from .rows import Row, print_table
from .running import ROOT, Failed, Word, answer, run, say

RECIPE = ROOT / "scripts" / "recipe.py"
PYTHONS = ROOT / "scripts" / "pythons.sh"

# The rows of the matrix, and the name of Debian's package with a debug build.
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
DEBUG_VERSION = "3.14-dbg"
DEBUG_PACKAGE = "python3.14-dbg"
FREE_THREADED_VERSIONS = ("3.14t", "3.15t")
ALL_VERSIONS = (*VERSIONS, DEBUG_VERSION, *FREE_THREADED_VERSIONS)

# There each collection of garbage looks at every object of the process, and the tests collect
# several times each. So pytest runs only what CPython's own tests, at the full level, see least of:
# objects that are used again, contexts, timers, what waits without a Future, several loops; and the
# GIL.
FREE_THREADED_TESTS = (
    *("tests/loop", "tests/sync", "tests/threads"),
    *("tests/package/test_free_threading.py", "tests/package/test_interpreters.py"),
)


def row(options: argparse.Namespace) -> None:
    """Build and try aioxide on the running interpreter; write down the counts."""
    need_rust()
    env = Environment(CACHE / f"venv-{options.name}", target_folder())
    env.create()
    counts = Row(options.name)
    env.install_wheel(options.profile)
    counts.result["build"] = options.profile
    levels: list[str] = []
    tests: Sequence[Word] = ()
    if options.name in (DEBUG_VERSION, *FREE_THREADED_VERSIONS):
        # These builds are slow, the debug build in everything and the others in each collection of
        # garbage; and what they are to show are memory errors and wrong layouts of objects. One
        # level is enough, and asyncio's own errors are not looked for.
        levels = ["--level", "full"]
        env.variables["AIOXIDE_TESTS_ONLY"] = "aioxide"
    if options.name in FREE_THREADED_VERSIONS:
        tests = FREE_THREADED_TESTS
    checks.try_on(env, counts, *levels, tests=tests)


def row_command(name: str, profile: str) -> list[Word]:
    """The command that runs `row` on another Python. Free-threaded builds get the development
    build, whose assertions find values that are used outside of their domain."""
    if name in FREE_THREADED_VERSIONS:
        profile = "dev"
    return [
        *("bash", PYTHONS, "run", name, "python", RECIPE),
        *("row", name, "--profile", profile),
    ]


def present_versions() -> set[str]:
    """The versions that pythons.sh can run."""
    listing = answer("bash", PYTHONS, "list") or ""
    return {line.split()[0] for line in listing.splitlines()}


def prepare_matrix(wanted: list[str]) -> list[str]:
    """Install the Pythons that only Debian sid has here, and make the free-threaded ones; return
    the versions that are still missing."""
    missing = [name for name in wanted if name not in present_versions()]
    if any(name.startswith(("3.14", "3.15")) for name in missing):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            return missing
        packages = [DEBUG_PACKAGE] if DEBUG_VERSION in wanted else []
        say("setting up Debian sid's Pythons in a chroot")
        try:
            run("bash", PYTHONS, "setup", *packages)
            for name in missing:
                if name in FREE_THREADED_VERSIONS:
                    say(f"making Python {name}")
                    run("bash", PYTHONS, "make", name, tools().python)
        except Failed as failure:
            print(failure, file=sys.stderr)
    return [name for name in wanted if name not in present_versions()]


def matrix(options: argparse.Namespace) -> None:
    """Run build, tests and conformance on every Python; print one table at the end."""
    wanted = options.versions or list(ALL_VERSIONS)
    missing = prepare_matrix(wanted)
    failed = []
    for name in wanted:
        if name in missing:
            continue
        say(f"Python {name}")
        try:
            run(*row_command(name, options.profile))
        except Failed as failure:
            print(failure, file=sys.stderr)
            failed.append(name)
    print_table(wanted, missing)
    if missing:
        print(
            f"no such Python here: {', '.join(missing)} (uv python install or pyenv install; "
            "as root on Debian, scripts/pythons.sh setup)",
            file=sys.stderr,
        )
    if failed or missing:
        raise Failed("the matrix failed on: " + ", ".join(missing + failed))
