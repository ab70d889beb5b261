"""The examples that end by themselves say the same on asyncio and on aioxide."""

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
# These wait for each other and need packages: `./demo` runs them.
TOGETHER = ("service.py", "fetch.py")


def output(*command):
    done = subprocess.run([sys.executable, *command], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", [
    file.name for file in sorted(EXAMPLES.glob("*.py"))
    if file.name not in TOGETHER])
def test_example_says_the_same_on_both(name):
    on_asyncio = output(EXAMPLES / name)
    assert on_asyncio
    assert output("-m", "aioxide", EXAMPLES / name) == on_asyncio
