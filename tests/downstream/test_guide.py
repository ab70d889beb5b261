"""The guide's pages, all of their commands: the packages that they name are here."""

import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent
(GUIDE,) = (file for file in TESTS.glob("**/test_guide.py") if file.parent.name != "downstream")


def test_nothing_of_the_guide_is_left_out():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            os.devnull,
            "--noconftest",
            "--rootdir",
            TESTS,
            "-p",
            "no:cacheprovider",
            GUIDE,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert " skipped" not in done.stdout, done.stdout
