"""Make the benches' own venv: the loops to compare with, web frameworks, aioxide from this checkout
in release mode, and the load generator. A part that cannot be installed is named with the reason,
and the rest goes on."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from report import interpreter, targets

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
WEB_REQUIREMENTS = Path(__file__).with_name("requirements-web.txt")
RECIPE = interpreter.CHECKOUT / "scripts" / "recipe.py"
CRATE = Path(__file__).parent / "net" / "loadgen" / "Cargo.toml"


def step(title: str, command: list[str]) -> None:
    """Run one command and print its outcome; only its last line matters when it fails."""
    print(f"{title} ... ", end="", flush=True)
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode == 0:
        print("not for this Python" if "Ignoring " in ran.stdout else "done")
        return
    lines = [line for line in (ran.stderr + ran.stdout).splitlines() if "rror" in line]
    print(f"not possible here: {lines[-1].strip() if lines else f'exit status {ran.returncode}'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure on")
    parser.add_argument("--venv", type=Path, default=interpreter.VENV, help="where the venv goes")
    parser.add_argument("--no-aioxide", action="store_true", help="the peers only")
    options = parser.parse_args()

    made = subprocess.run([options.python, "-m", "venv", str(options.venv)])
    if made.returncode:
        sys.exit(f"{options.python} makes no venv")
    python = str(options.venv / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    for line in REQUIREMENTS.read_text().splitlines():
        if line and not line.startswith("#"):
            step(line.partition(";")[0], [*pip, "--only-binary", ":all:", line])
    step("web frameworks", [*pip, "--only-binary", ":all:", "-r", str(WEB_REQUIREMENTS)])
    if not options.no_aioxide:
        with tempfile.TemporaryDirectory() as folder:
            # This is the wheel that is shipped.
            wheel = [options.python, str(RECIPE), "wheel", "--output", folder]
            step("aioxide's wheel (two release builds and a training take minutes)", wheel)
            built = [str(file) for file in Path(folder).glob("*.whl")]
            step("aioxide", [*pip, "--force-reinstall", "--no-deps", *built])
    step("the load generator", ["cargo", "build", "--release", "--manifest-path", str(CRATE)])

    probed = targets.probe(python, list(targets.ALL))
    print(f"\n{python} runs")
    for name, version in probed.versions.items():
        print(f"  {name} {version}")
    for name, why in probed.missing.items():
        print(f"  not {name}: {why}")


main()
