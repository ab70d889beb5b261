"""Everything, as CI runs it."""

import argparse
import os

from .downstream import DOWNSTREAM_VERSIONS, prepare_downstream
from .environment import CACHE, PYTHON_VERSION
from .lanes import Chain, Lanes
from .machine import machine_packages
from .matrix import ALL_VERSIONS, DEBUG_VERSION, PYTHONS, RECIPE, prepare_matrix, row_command
from .rows import print_table
from .running import ROOT, Failed, Word, say

# The row of the matrix in whose environment the documentation's site is built.
SITE_ROW = "3.13"

# The steps that run once, on the Python that runs CI, after the test command of the README.
ONCE = (
    ("lint",),
    ("layers",),
    ("miri",),
    ("embedded",),
    ("demo", "--count", "300", "--rounds", "1"),
    ("wheel",),
    ("sdist",),
)


def ci(options: argparse.Namespace) -> None:
    """Run everything: `./test`, the other checks of this Python, then the other Pythons."""
    # A test without its server is skipped; here it fails.
    os.environ["CI"] = "1"
    machine_packages()
    wanted = options.versions or list(ALL_VERSIONS)
    missing = prepare_matrix(wanted)
    prepare_downstream([name for name in DOWNSTREAM_VERSIONS if name in wanted])
    here: list[list[Word]] = [[ROOT / "test"]]
    here += [[ROOT / "scripts" / "recipe", *words] for words in ONCE]
    # `./test` writes the row of the Python that it runs on.
    others = [name for name in wanted if name not in (*missing, PYTHON_VERSION)]
    # The longest chains come first, so that the lanes end at about the same time.
    others.sort(key=lambda name: (name != DEBUG_VERSION, name not in DOWNSTREAM_VERSIONS))
    chains = [Chain("here", here)] + [chain(name, options.profile) for name in others]
    Lanes(chains).run(min(2, os.cpu_count() or 1))
    print_table([PYTHON_VERSION, *(name for name in wanted if name != PYTHON_VERSION)], missing)
    failed = [chain.name for chain in chains if chain.failed]
    if missing or failed:
        raise Failed("CI failed on: " + ", ".join(missing + failed))
    say("CI is green")


def chain(name: str, profile: str) -> Chain:
    """The chain of commands for one of the other Pythons."""
    commands = [row_command(name, profile)]
    if name == SITE_ROW:
        commands.append(
            [CACHE / f"venv-{name}" / "bin" / "python", ROOT / "scripts" / "docs_site.py"]
        )
    if name in DOWNSTREAM_VERSIONS:
        commands.append(
            [
                *("bash", PYTHONS, "run", name, "python", RECIPE),
                *("downstream", "--profile", profile),
            ]
        )
    return Chain(name, commands)
