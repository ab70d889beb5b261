#!/usr/bin/env python3
"""Run threads on aioxide under ThreadSanitizer: each access of two threads to one place, one of
them a write, that nothing puts in order is a failure.

It needs a free-threaded Python, which runs this script, a nightly Rust and gcc with its libtsan.
Only aioxide is instrumented, and the interpreter is not. So the sanitizer does not see CPython's
locks; the extension has to tell it where a thread enters and leaves what they guard, under
`cfg(aioxide_tsan)`. A report counts if one of its frames is in the crates.

    python3.14t scripts/sanitizer.py                       # the tests and some misuse
    python3.14t scripts/sanitizer.py --program FILE ...    # a program, with its arguments
"""

import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
THREADS = ROOT / "tests" / "threads"
FOLDER = pathlib.Path(
    os.environ.get(
        "AIOXIDE_SANITIZER",
        ROOT / "target" / f"sanitizer-{sys.version_info.major}.{sys.version_info.minor}t",
    )
)
TRIPLE = "x86_64-unknown-linux-gnu"
SHIM = ROOT / "scripts" / "tsan_shim.c"

# A fork with several threads ends under the sanitizer, and children are programs without it.
LEFT_OUT = "not fork and not children and not import and not signals and not misuse"
# Seconds in which a program under the sanitizer counts as hanging.
HANGS_AFTER = 900


class Missing(Exception):
    """The machine lacks something. The text names it and says how to get it."""


def output(*command: str) -> str:
    """What a command prints; nothing if it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def check() -> str:
    """See to it that everything is there; the path of the sanitizer's runtime."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise Missing("this Python always has a GIL: scripts/pythons.sh run 3.14t python ...")
    if not output("rustc", "+nightly", "--version"):
        raise Missing("no nightly toolchain of Rust: rustup toolchain install nightly")
    runtime = output("gcc", "-print-file-name=libtsan.so.2")
    if not pathlib.Path(runtime).is_absolute():
        raise Missing("gcc has no libtsan.so.2 (Debian: apt install gcc libtsan2)")
    if not shutil.which("setarch"):
        raise Missing("no setarch (Debian: apt install util-linux)")
    return str(pathlib.Path(runtime).resolve())


def build() -> pathlib.Path:
    """Build the instrumented extension module; return the folder of its package."""
    variables = {
        **os.environ,
        "RUSTFLAGS": "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer "
        "-Cforce-frame-pointers=yes --cfg aioxide_tsan",
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "PYO3_PYTHON": sys.executable,
        "CARGO_TARGET_DIR": str(FOLDER),
    }
    command = ["cargo", "+nightly", "build", "--quiet", "-p", "aioxide", "--target", TRIPLE]
    subprocess.run(command, cwd=ROOT, env=variables, check=True)
    package = FOLDER / "package"
    shutil.rmtree(package, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "python" / "aioxide", package / "aioxide", ignore=ignored)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = FOLDER / TRIPLE / "debug" / "lib_aioxide.so"
    shutil.copy(built, package / "aioxide" / f"_aioxide{suffix}")
    shim = FOLDER / "libtsanshim.so"
    compiling = ["gcc", "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", str(shim), str(SHIM)]
    subprocess.run(compiling, check=True)
    return package


def run(runtime: str, package: pathlib.Path, name: str, *command: str) -> tuple[bool, list[str]]:
    """Run Python under the sanitizer: whether it ends well, and the reports."""
    logs = FOLDER / "reports" / name
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    settings = {
        "log_path": str(logs / "report"),
        # The exit status is the program's own; the reports are read below.
        "exitcode": "0",
        "history_size": "4",
        "report_signal_unsafe": "0",
        "report_thread_leaks": "0",
        "report_destroy_locked": "0",
    }
    variables = {
        **os.environ,
        "LD_PRELOAD": f"{runtime}:{FOLDER / 'libtsanshim.so'}",
        "TSAN_OPTIONS": ":".join(f"{key}={value}" for key, value in settings.items()),
        "PYTHON_GIL": "0",
        "PYTHONPATH": os.pathsep.join(
            [str(package), str(THREADS), str(ROOT / "tests" / "support")]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AIOXIDE_TESTS_ONLY": "aioxide",
    }
    # The sanitizer's shadow memory lies at addresses that must not be taken by chance.
    whole = ["setarch", "-R", sys.executable, *command]
    print(f"== {name}", flush=True)
    try:
        status = subprocess.run(whole, cwd=ROOT, env=variables, timeout=HANGS_AFTER).returncode
        if status:
            print(f"{name} ended with {status}", flush=True)
    except subprocess.TimeoutExpired:
        status = 1
        print(f"{name} hangs", flush=True)
    reports = []
    for file in sorted(logs.iterdir()):
        reports += re.split(r"={18,}\n", file.read_text(errors="replace"))
    return status == 0, [report for report in reports if "WARNING: ThreadSanitizer" in report]


# A frame in the crates: its function, its file and line.
FRAME = re.compile(r"#\d+ (.+?) (\S*crates/(?:aioxide|cpython|engine)/\S+?:\d+)")


# The collector looks at objects while all other threads stand still. The sanitizer does not see
# that.
STANDSTILL = re.compile(r"#\d+ traverse<.+ crates/cpython/src/lifecycle\.rs:\d+")


# A frame of the sanitizer's own functions, which stand for those of libc.
RUNTIME = re.compile(r"libtsan|libsanitizer")


def frame(access: str) -> re.Match[str] | None:
    """The frame of an access, if that is in the crates. What CPython does for them is its own."""
    for line in access.splitlines():
        if re.match(r"\s*#\d+ ", line) and not RUNTIME.search(line):
            return FRAME.search(line)
    return None


def place(report: str) -> str | None:
    """Where the two accesses are. None if neither is in the crates."""
    accesses = re.split(r"\n\n", report)[:2]
    if any(STANDSTILL.search(access) for access in accesses):
        return None
    found = [frame(access) for access in accesses]
    if not any(found):
        return None
    shown = [own[2].partition("crates/")[2] if own else "elsewhere" for own in found]
    return " and ".join(sorted(shown))


def tell(reports: list[str], everything: bool) -> int:
    """Print one report of each place; return their number."""
    places: dict[str, list[str]] = collections.defaultdict(list)
    for report in reports:
        if (where := place(report)) is not None:
            places[where].append(report)
    for where, same in sorted(places.items(), key=lambda item: -len(item[1])):
        print(f"{len(same)} times: {where}")
        if everything:
            print(same[0])
    return len(places)


def main() -> int:
    """Build, run, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="of tests/threads/misuse.py")
    parser.add_argument("--seconds", type=float, default=3, help="of each seed")
    parser.add_argument("--short", action="store_true", help="the places of the reports alone")
    parser.add_argument("--as-built", action="store_true", help="do not build")
    parser.add_argument("--program", nargs=argparse.REMAINDER, help="this, and no tests")
    options = parser.parse_args()
    try:
        runtime = check()
        package = FOLDER / "package" if options.as_built else build()
    except Missing as missing:
        print(f"sanitizer: {missing}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"sanitizer: failed: {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    runs: list[tuple[str, list[str]]] = []
    if options.program:
        runs.append(("program", options.program))
    else:
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(THREADS), "-k", LEFT_OUT]
        runs.append(("tests", tests))
        for seed in range(options.seeds):
            misuse = [str(THREADS / "misuse.py"), "aioxide", str(seed), "--without", "forking"]
            misuse += ["--seconds", str(options.seconds), "--patience", "120"]
            runs.append((f"misuse-{seed}", misuse))
    passed, found = True, []
    for name, command in runs:
        ended_well, reports = run(runtime, package, name, *command)
        passed &= ended_well
        found += reports
    count = tell(found, not options.short)
    if count or not passed:
        print(f"sanitizer: {count} places with races", file=sys.stderr)
        return 1
    print("sanitizer: no races")
    return 0


if __name__ == "__main__":
    sys.exit(main())
