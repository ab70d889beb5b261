"""The files that are shipped: a wheel of a release build, and a source distribution."""

import argparse
import pathlib
import shutil
import tempfile

from .environment import CACHE, PYTHON_VERSION, Environment, need_rust, target_folder
from .pgo import build_wheel
from .running import ROOT, say


def building() -> Environment:
    """An environment in which wheels are built, for this version of Python."""
    need_rust()
    env = Environment(CACHE / f"venv-build-{PYTHON_VERSION}", target_folder())
    env.create()
    return env


def wheel(options: argparse.Namespace) -> None:
    """Build a release wheel in dist/, optimised by a profile."""
    say(f"built {build_wheel(building(), ROOT / options.output, pgo=options.pgo)}")


def sdist(options: argparse.Namespace) -> None:
    """Build a source distribution in dist/, and prove that it builds."""
    env = building()
    env.install("sdist", "maturin>=1.9,<2", key="1")
    with tempfile.TemporaryDirectory() as folder:
        env.run_quietly(env.python, "-m", "maturin", "sdist", "-o", folder)
        [archive] = pathlib.Path(folder).glob("*.tar.gz")
        say(f"building a wheel from {archive.name}")
        # The build has its own target folder, as a build from scratch elsewhere would have.
        env.run_quietly(
            *(env.python, "-m", "pip", "wheel", "--no-deps", "-w", folder, archive),
            env={"CARGO_TARGET_DIR": f"{folder}/target"},
        )
        (ROOT / "dist").mkdir(exist_ok=True)
        shutil.copy(archive, ROOT / "dist")
    print(f"dist/{archive.name}")
