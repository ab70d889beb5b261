"""Profile-guided optimisation: a wheel that is built twice.

The first build counts how often each branch is taken while the training runs, and the compiler
lays out the second by it. The training is `benches/micro` and `scripts/training.py`, on both
ways to use aioxide; both need nothing but the standard library.
"""

import fnmatch
import hashlib
import os
import pathlib
import shutil
import tempfile

from .environment import CACHE, PYTHON_VERSION, Environment, target_folder
from .running import ROOT, answer, say

# The benches' targets on which the training runs, and the seconds for each row of benches/micro.
TARGETS = ("aioxide", "aioxide+install")
SECONDS = 0.1

MICRO = ROOT / "benches" / "micro"
TRAINING = ROOT / "scripts" / "training.py"

# These rows only fill memory, which says nothing about the layout of code, or repeat at length, in
# one pass, what another row does.
UNTRAINED = ("memory*", "*_once")


def profdata() -> pathlib.Path | None:
    """The tool that merges profiles, of the Rust that builds; None where there is none."""
    libraries = answer("rustc", "--print", "target-libdir")
    if libraries is None:
        return None
    tool = pathlib.Path(libraries).parent / "bin" / "llvm-profdata"
    if not tool.exists():
        answer("rustup", "component", "add", "llvm-tools")
    return tool if tool.exists() else None


def build_wheel(env: Environment, output: pathlib.Path, *, pgo: bool) -> pathlib.Path:
    """Build a release wheel into a folder, with a profile if that is wanted and possible."""
    if not pgo:
        return plain_wheel(env, output)
    tool = profdata()
    if tool is None:
        say("no llvm-profdata (rustup component add llvm-tools): building without a profile")
        return plain_wheel(env, output)
    # The folder is always the same, because cargo builds anew when a flag changes.
    folder = CACHE / f"pgo-{PYTHON_VERSION}"
    raw = folder / "raw"
    with tempfile.TemporaryDirectory() as place:
        say("building aioxide to count what the training uses")
        counting = plain_wheel(
            env, pathlib.Path(place), f"-Cprofile-generate={raw}", "pgo-generate"
        )
        # The counts of instrumented build scripts and macros, and of earlier trainings, are
        # dropped.
        shutil.rmtree(folder, ignore_errors=True)
        train(env, counting)
    merged = folder / "merged.profdata"
    env.run_quietly(tool, "merge", "-o", merged, *sorted(raw.glob("*.profraw")))
    # The file is named by its content: cargo notices no change within a file that a flag names.
    name = hashlib.sha256(merged.read_bytes()).hexdigest()[:16]
    profile = merged.rename(folder / f"{name}.profdata")
    say("building aioxide by the profile")
    return plain_wheel(env, output, f"-Cprofile-use={profile}", "pgo-use")


def plain_wheel(
    env: Environment, output: pathlib.Path, flags: str = "", target: str = ""
) -> pathlib.Path:
    """Build a release wheel with flags for rustc, in a target folder of their own."""
    variables = {"MATURIN_PEP517_ARGS": "--profile release"}
    if flags:
        variables["RUSTFLAGS"] = f"{os.environ.get('RUSTFLAGS', '')} {flags}".strip()
        variables["CARGO_TARGET_DIR"] = str(target_folder() / target)
    with tempfile.TemporaryDirectory() as folder:
        env.run_quietly(
            *(env.python, "-m", "pip", "wheel", "--no-deps", "-w", folder, "."), env=variables
        )
        [wheel] = pathlib.Path(folder).glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return pathlib.Path(shutil.copy(wheel, output))


def train(env: Environment, wheel: pathlib.Path) -> None:
    """Install a wheel that counts branches, and run the training on it."""
    env.run_quietly(*(env.python, "-m", "pip", "install", "--no-deps", "--force-reinstall", wheel))
    rows = sorted(
        file.stem
        for file in (MICRO / "programs").glob("*.py")
        if not any(fnmatch.fnmatch(file.stem, left_out) for left_out in ("__init__", *UNTRAINED))
    )
    try:
        for target in TARGETS:
            say(f"training, {target}")
            for row in rows:
                env.run_quietly(
                    *(env.python, MICRO / "measure.py", row, target, "--seconds", SECONDS)
                )
            env.run_quietly(env.python, TRAINING, target)
    finally:
        # A build that counts must not be taken for another, so it is uninstalled.
        env.run_quietly(env.python, "-m", "pip", "uninstall", "-y", "aioxide")
