#!/usr/bin/env python3
"""Run the tests of crates/cpython that start an interpreter, under valgrind if it is there.

They are linked with the libpython of the Python that runs this script. Where it has none, a line
says so. `--native` leaves valgrind out. Other arguments go to the tests: names of tests to run,
`--list`.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUPPRESSIONS = ROOT / "crates" / "cpython" / "tests" / "embedded" / "valgrind.supp"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


class Missing(Exception):
    """The machine lacks something. The text names it and says how to get it."""


def library() -> str:
    """The folder of this Python's shared library."""
    folder = sysconfig.get_config_var("LIBDIR") or ""
    name = sysconfig.get_config_var("LDLIBRARY") or ""
    if ".so" not in name and ".dylib" not in name:
        name = "libpython.so"
    if (
        not sysconfig.get_config_var("Py_ENABLE_SHARED")
        or not (pathlib.Path(folder) / name).exists()
    ):
        raise Missing(
            f"Python {VERSION} ({sys.executable}) has no shared library to link with "
            f"(Debian: apt install libpython{VERSION}-dev; pyenv: install it again "
            "with PYTHON_CONFIGURE_OPTS=--enable-shared)"
        )
    return folder


def environment(folder: str) -> dict[str, str]:
    """The variables under which the tests are built and run."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYO3_BUILD_EXTENSION_MODULE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    # The build is optimised: the tests are about small stack frames in long chains, not about
    # unoptimised code.
    variables.setdefault("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
    variables.setdefault("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
    variables.setdefault("CARGO_TARGET_DIR", str(ROOT / "target" / f"embedded-{VERSION}"))
    paths = [folder, variables.get("LD_LIBRARY_PATH")]
    return {
        **variables,
        # Only the interpreter itself, not its virtual environment, knows how it was built.
        "PYO3_PYTHON": getattr(sys, "_base_executable", sys.executable),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
    }


def build(variables: dict[str, str]) -> str:
    """Build the tests; return the path of their program."""
    if not shutil.which("cargo"):
        raise Missing("no cargo: https://rustup.rs")
    command = [
        "cargo",
        "test",
        "-q",
        "-p",
        "aioxide-cpython",
        "--features",
        "embedded",
        "--test",
        "embedded",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]
    built = subprocess.run(command, cwd=ROOT, env=variables, text=True, stdout=subprocess.PIPE)
    if built.returncode:
        raise SystemExit(f"embedded: the tests do not build on Python {VERSION}")
    programs: list[str] = [
        message["executable"]
        for line in built.stdout.splitlines()
        if line.startswith("{") and (message := json.loads(line)).get("executable")
    ]
    return programs[-1]


def run(
    program: str, arguments: list[str], variables: dict[str, str], valgrind: str | None
) -> bool:
    """Run the tests; return whether they pass."""
    prefixes = {sys.base_prefix: None, sys.base_exec_prefix: None}
    variables = {
        **variables,
        "PYTHONHOME": os.pathsep.join(prefixes),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [program, *arguments]
    if valgrind:
        # valgrind then sees each object's memory, instead of CPython's pools.
        variables["PYTHONMALLOC"] = "malloc"
        command = [
            valgrind,
            "--quiet",
            "--error-exitcode=99",
            "--num-callers=30",
            f"--suppressions={SUPPRESSIONS}",
            # CPython 3.11 reads words that it has not written, where it makes ints from bytes.
            f"--undef-value-errors={'no' if sys.version_info < (3, 12) else 'yes'}",
            *command,
            "--test-threads=1",
        ]
    return subprocess.run(command, cwd=ROOT, env=variables).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--native", action="store_true", help="without valgrind")
    options, arguments = parser.parse_known_args()
    try:
        variables = environment(library())
        program = build(variables)
    except Missing as missing:
        print(f"embedded: {missing}", file=sys.stderr)
        return 2
    valgrind = None if options.native else shutil.which("valgrind")
    how = "under valgrind" if valgrind else "without valgrind"
    if not valgrind and not options.native:
        how += ", which is not there (Debian: apt install valgrind)"
    print(f"crates/cpython on Python {VERSION}, {how}", flush=True)
    # The plain run comes first, so that a plain failure shows at once.
    passed = run(program, arguments, variables, None) and (
        not valgrind or run(program, arguments, variables, valgrind)
    )
    if not passed:
        print(f"embedded: crates/cpython fails on Python {VERSION}", file=sys.stderr)
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
