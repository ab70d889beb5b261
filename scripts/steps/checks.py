"""The checks of the checkout on one Python: tests, lints, stubs."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence

from .environment import FREE_THREADED, PYTHON_VERSION, Environment, need_rust, tools, working
from .rows import Row
from .running import ROOT, Missing, Word, answer, run, say

# pytest takes some minutes, half an hour on a debug build beside another row. After this number of
# seconds it counts as hanging. Most tests have a limit of their own.
HANGS_AFTER = 3600

TEST_REQUIREMENTS = [ROOT / "tests" / "requirements.txt"]
if not FREE_THREADED:
    TEST_REQUIREMENTS.append(ROOT / "tests" / "requirements-gil.txt")
LINT_REQUIREMENTS = ROOT / "scripts" / "requirements.txt"


def cargo_test(env: Environment) -> None:
    """Run the tests of the Rust crates."""
    say("cargo test")
    env.run("cargo", "test", "--workspace")


def pytest(env: Environment, *arguments: Word) -> None:
    """Run the Python tests."""
    env.require("test", *TEST_REQUIREMENTS)
    say(f"pytest on Python {platform.python_version()}")
    env.run(env.python, "-m", "pytest", "-q", *arguments, timeout=HANGS_AFTER)


def check_conformance(env: Environment, *arguments: Word) -> None:
    """Run CPython's own tests of asyncio on aioxide."""
    env.run(env.python, ROOT / "tests" / "conformance" / "check.py", *arguments)


def has_suite(env: Environment) -> bool:
    """Whether this Python came with its own tests."""
    return answer(env.python, "-c", "import test.test_asyncio") is not None


def dev(options: argparse.Namespace) -> None:
    """Build incrementally and install in place."""
    env = working()
    env.require("test", *TEST_REQUIREMENTS)


def test(options: argparse.Namespace) -> None:
    """Run cargo test, pytest, stubtest, and the conformance run of this interpreter."""
    env = working()
    counts = Row(PYTHON_VERSION)
    counts.result["build"] = "dev"
    counts.attempt("cargo test", cargo_test, env)
    try_on(env, counts)
    say("all tests pass")


def try_on(env: Environment, counts: Row, *conformance: Word, tests: Sequence[Word] = ()) -> None:
    """Run every test on an environment's Python and its aioxide, even if an earlier one fails; of
    pytest's only those that are given, if some are."""
    counts.pytest(env, pytest, *tests)
    counts.attempt("stubtest", check_stubs, env)
    if has_suite(env) or os.environ.get("CI"):
        say(f"conformance on Python {platform.python_version()}")
        counts.conformance(env, check_conformance, *conformance)
    else:
        say(
            "no conformance: this Python comes without CPython's own tests "
            f"(Debian: apt install libpython{PYTHON_VERSION}-testsuite)"
        )
    counts.finish()


def conformance(options: argparse.Namespace) -> None:
    """Run the conformance tests on this interpreter."""
    check_conformance(working(), *options.arguments)


def soak(options: argparse.Namespace) -> None:
    """Run mixed traffic for a long time, after which nothing may be left."""
    env = working()
    env.require("test", *TEST_REQUIREMENTS)
    say(f"soak on Python {platform.python_version()}")
    env.run(env.python, ROOT / "tests" / "soak" / "soak.py", "--seconds", options.seconds)


def fmt(options: argparse.Namespace) -> None:
    """Format the code, and mend what ruff can mend."""
    need_rust()
    env = tools()
    env.require("lint", LINT_REQUIREMENTS)
    env.run("cargo", "fmt", "--all")
    env.run(env.python, "-m", "ruff", "check", "--quiet", "--fix-only")
    env.run(env.python, "-m", "ruff", "format")


def lint(options: argparse.Namespace) -> None:
    """Check formatting, clippy, rustdoc, ruff and mypy, with warnings denied."""
    need_rust()
    env = tools()
    env.require("lint", LINT_REQUIREMENTS)
    say("ruff and mypy")
    env.run(env.python, "-m", "ruff", "format", "--check")
    env.run(env.python, "-m", "ruff", "check")
    env.run(env.python, "-m", "mypy")
    say("cargo fmt --check")
    env.run("cargo", "fmt", "--all", "--check")
    say("cargo clippy")
    env.run(
        *("cargo", "clippy", "--workspace", "--all-targets"),
        *("--features", "aioxide-cpython/embedded", "--", "-D", "warnings"),
    )
    say("cargo doc")
    env.run(
        *("cargo", "doc", "--workspace", "--no-deps", "--document-private-items"),
        env={"RUSTDOCFLAGS": "-D warnings"},
    )


def layers(options: argparse.Namespace) -> None:
    """Check imports, file sizes and the paths in the documents."""
    pytest(tools(), *sorted((ROOT / "tests").glob("**/test_layers.py")))


def stubtest(options: argparse.Namespace) -> None:
    """Check the type stubs against the module."""
    check_stubs(working())


def check_stubs(env: Environment) -> None:
    """Run stubtest in an environment that has aioxide."""
    env.require("test", *TEST_REQUIREMENTS)
    say(f"stubtest on Python {platform.python_version()}")
    command: list[Word] = [env.python, "-m", "mypy.stubtest", "aioxide"]
    allowlist = ROOT / "tests" / "stubtest-free-threaded.txt"
    if FREE_THREADED:
        command += ["--allowlist", allowlist]
    # It does not run in the checkout, whose configuration of mypy is for the scripts.
    env.run(*command, cwd=env.folder)


def embedded(options: argparse.Namespace) -> None:
    """Run the tests of crates/cpython in an embedded interpreter, under valgrind if it is there."""
    need_rust()
    say(f"crates/cpython in Python {platform.python_version()}")
    run(sys.executable, ROOT / "scripts" / "embedded.py")


def sanitizer(options: argparse.Namespace) -> None:
    """Run threads under ThreadSanitizer, on a free-threaded Python."""
    need_rust()
    need_nightly("ThreadSanitizer")
    if not FREE_THREADED:
        raise Missing("a GIL leaves no races to find: run it with a free-threaded Python")
    env = tools()
    env.require("test", *TEST_REQUIREMENTS)
    say(f"tests/threads on Python {platform.python_version()}")
    env.run(env.python, ROOT / "scripts" / "sanitizer.py", *options.arguments)


def docs(options: argparse.Namespace) -> None:
    """Build the site of the documentation in dist/site, with warnings denied."""
    if sys.version_info < (3, 12):
        raise Missing(f"Sphinx needs Python 3.12 or later; this is {platform.python_version()}")
    say("the documentation's site")
    run(working().python, ROOT / "scripts" / "docs_site.py")


def miri(options: argparse.Namespace) -> None:
    """Run the engine's tests under Miri."""
    need_nightly("Miri")
    if answer("cargo", "+nightly", "miri", "--version") is None:
        run("rustup", "component", "add", "--toolchain", "nightly", "miri", "rust-src")
    say("cargo miri test, crates/engine")
    run(
        *("cargo", "+nightly", "miri", "test", "-p", "aioxide-engine"),
        env={**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "miri")},
    )


def fuzz(options: argparse.Namespace) -> None:
    """Fuzz the engine's parsers and buffers, each for some time."""
    need_rust()
    need_nightly("libFuzzer")
    if not answer("cargo", "fuzz", "--version"):
        raise Missing("no cargo-fuzz: cargo install cargo-fuzz")
    targets = sorted(file.stem for file in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs"))
    for target in options.targets or targets:
        say(f"fuzzing {target} for {options.seconds} seconds")
        run(
            *("cargo", "+nightly", "fuzz", "run", "--fuzz-dir", ROOT / "fuzz", target, "--"),
            *(f"-max_total_time={options.seconds}", "-timeout=10"),
        )


def need_nightly(purpose: str) -> None:
    """Stop if there is no nightly toolchain of Rust."""
    if not answer("rustc", "+nightly", "--version"):
        raise Missing(f"no nightly toolchain for {purpose}: rustup toolchain install nightly")
