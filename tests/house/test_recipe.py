"""scripts/recipe: the steps that the docs name are there, what is missing is told in one line, and
each version of Python is found once."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = next(
    folder for folder in pathlib.Path(__file__).resolve().parents if (folder / "scripts").is_dir()
)
RECIPE = ROOT / "scripts" / "recipe.py"
DOCS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/**/*.md", "benches/README.md")


def call(*command, **variables):
    """What a command ends with, with these variables of the environment instead."""
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_docs_name_steps_that_are_there():
    done = call(sys.executable, RECIPE, "--help")
    assert done.returncode == 0, done.stderr
    steps = set(re.findall(r"(?m)^    (\w+)", done.stdout))
    assert {"dev", "fmt", "test", "lint"} <= steps
    for doc in (file for pattern in DOCS for file in ROOT.glob(pattern)):
        named = set(re.findall(r"scripts/recipe (\w+)", doc.read_text()))
        assert named <= steps, f"{doc.name} names {sorted(named - steps)}"


def test_a_machine_without_rust_is_told_so_in_one_line():
    done = call(sys.executable, RECIPE, "dev", PATH="/nonexistent")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"aioxide: no working cargo on PATH: .*\n", done.stderr), done.stderr


def test_a_step_that_nobody_knows():
    assert call(sys.executable, RECIPE, "nothing").returncode == 2


LANES = """
import sys
from steps.lanes import Chain, Lanes

def python(text):
    return [sys.executable, "-c", text]

chains = [
    Chain("one", [python("print('first')"), python("import sys; sys.exit(3)"), python("print('last')")]),
    Chain("second", [python("print('beside', flush=True); raise SystemExit")]),
    Chain("third", [python("print('after')")]),
]
Lanes(chains).run(2)
print([chain.failed for chain in chains])
"""


def test_a_chain_goes_on_after_a_command_that_fails():
    done = call(sys.executable, "-c", LANES, PYTHONPATH=str(ROOT / "scripts"))
    assert done.returncode == 0, done.stderr
    *lines, failed = done.stdout.splitlines()
    assert failed == "[True, False, False]"
    said = {name: [] for name in ("one", "second", "third")}
    for line in lines:
        name, text = line.split(" | ", 1)
        said[name.strip()].append(re.sub(r"after \d+ s: .*", "after", text, flags=re.S))
    assert said["one"] == ["first", "== done after", "== FAILED (3) after", "last", "== done after"]
    assert said["second"] == ["beside", "== done after"]
    assert said["third"] == ["after", "== done after"]


ROW = """
import json, pathlib, sys
from steps import rows
from steps.running import Failed, run

def step(env, *arguments):
    run(sys.executable, "-m", "pytest", "-q", *arguments, cwd=pathlib.Path.cwd())

rows.CACHE = pathlib.Path.cwd()
row = rows.Row("tried")
row.pytest(None, step, "test_it.py")
try:
    row.finish()
except Failed as failure:
    print(failure)
rows.print_table(["tried"], [])
print(json.dumps(row.result["pytest"]))
"""


# The body of a test that fails once.
FIRST_FAILS = "assert os.path.exists('ran') or os.mkdir('ran')"


@pytest.mark.parametrize(
    ("tests", "counts"),
    [
        ("def test_sound(): pass", (0, 0)),
        (f"def test_sound(): pass\ndef test_busy(): {FIRST_FAILS}", (0, 1)),
        ("def test_sound(): pass\ndef test_broken(): assert False", (1, 1)),
        ("@pytest.mark.parametrize('n', range(21))\ndef test_broken(n): assert False", (21, 0)),
    ],
)
def test_a_row_repeats_the_tests_that_fail(tmp_path, tests, counts):
    (tmp_path / "test_it.py").write_text(f"import os, pytest\n{tests}\n")
    done = subprocess.run(
        [sys.executable, "-c", ROW],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["failures"], result["again"]) == counts
    assert ("again by themselves: test_it.test_b" in done.stdout) == bool(counts[1])
    assert ("Python tried: failed: pytest" in done.stdout) == bool(counts[0])


def found(tmp_path, *folders):
    """What pythons.sh lists with these folders as pyenv's and uv's, each with an interpreter."""
    for folder in folders:
        python = tmp_path / folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\n")
        python.chmod(0o755)
    uv = tmp_path / "commands" / "uv"
    uv.parent.mkdir()
    uv.write_text(f"#!/bin/sh\necho {tmp_path}/uv\n")
    uv.chmod(0o755)
    done = call(
        "bash",
        ROOT / "scripts" / "pythons.sh",
        "list",
        PATH=f"{uv.parent}:/usr/bin:/bin",
        PYENV_ROOT=str(tmp_path / "pyenv"),
        AIOXIDE_SID=str(tmp_path / "nothing"),
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {version: (kind, pathlib.Path(path)) for version, kind, path in lines}


def test_the_newest_of_each_version_is_used(tmp_path):
    listed = found(
        tmp_path, "pyenv/versions/3.12.9", "pyenv/versions/3.12.10", "uv/cpython-3.15.0-linux"
    )
    assert listed["3.12"] == ("pyenv", tmp_path / "pyenv/versions/3.12.10/bin/python")
    assert listed["3.15"] == ("uv", tmp_path / "uv/cpython-3.15.0-linux/bin/python")


def test_pyenv_comes_before_uv(tmp_path):
    listed = found(tmp_path, "uv/cpython-3.13.9-linux", "pyenv/versions/3.13.0")
    assert listed["3.13"][0] == "pyenv"


def test_free_threaded_builds_are_versions_of_their_own(tmp_path):
    pyenv, uv = "pyenv/versions/3.14.0t", "uv/cpython-3.15.0+freethreaded-linux"
    older, debug = "pyenv/versions/3.13.0t", "uv/cpython-3.15.0+debug-linux"
    listed = found(tmp_path, pyenv, uv, older, debug)
    assert listed["3.14t"] == ("pyenv", tmp_path / pyenv / "bin/python")
    assert listed["3.15t"] == ("uv", tmp_path / uv / "bin/python")
    assert "3.13t" not in listed
    assert all(listed.get(version, ("path",))[0] == "path" for version in ("3.14", "3.15"))


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("3.13t", "pythons.sh: no way to make 3.13t, only 3.14t and 3.15t"),
        ("3.14t", "pythons.sh: no python3.14 in /nonexistent; 'setup' makes it"),
    ],
)
def test_a_free_threaded_build_that_cannot_be_made(version, told):
    script = ROOT / "scripts" / "pythons.sh"
    done = call("bash", script, "make", version, AIOXIDE_SID="/nonexistent")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{told}\n")
