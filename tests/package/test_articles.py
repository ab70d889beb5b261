"""The programs in tests/articles: what they print, on asyncio and on aioxide."""

import fnmatch
import os
import pathlib
import re
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "articles"
PROGRAMS = sorted(FOLDER.glob("*.py"))


def parsed(program):
    """The directives in the head, and the patterns of the lines on stdout and stderr."""
    text = program.read_text()
    head = re.match(r"(?:#.*\n)*", text)[0]
    directives = [line.removeprefix("# ") for line in head.splitlines()]
    _, _, tail = text.rpartition("\n# prints\n")
    lines = [line.removeprefix("#").removeprefix(" ") for line in tail.splitlines()]
    if "reports" not in lines:
        return directives, lines, []
    place = lines.index("reports")
    return directives, lines[:place], lines[place + 1 :]


def version(text):
    return tuple(map(int, text.split(".")))


def runs_on_asyncio(directives):
    for directive in directives:
        if directive == "asyncio never":
            return False
        if directive.startswith("asyncio until "):
            return sys.version_info[:2] <= version(directive.removeprefix("asyncio until "))
    return True


def matches(lines, patterns):
    """Whether the lines are those of the patterns; `...` stands for any lines."""
    if not patterns:
        return not lines
    if patterns[0] == "...":
        return any(matches(lines[count:], patterns[1:]) for count in range(len(lines) + 1))
    pattern = re.sub(r"[\[\]]", lambda found: f"[{found[0]}]", patterns[0]).replace("?", "[?]")
    return bool(lines) and fnmatch.fnmatchcase(lines[0], pattern) and matches(lines[1:], patterns[1:])


def execute(program, directives, *options):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHON_COLORS": "0",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("PYTHONASYNCIODEBUG", None)
    if "debug" in directives:
        environment["PYTHONASYNCIODEBUG"] = "1"
    if "warnings" not in directives:
        environment["PYTHONWARNINGS"] = "ignore"
    else:
        environment["PYTHONWARNINGS"] = "ignore::ResourceWarning"
    done = subprocess.run(
        [sys.executable, *options, str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    # Underlined places in a traceback are a matter of the version.
    stderr = [line for line in done.stderr.splitlines() if line.strip(" ~^")]
    return done.returncode, done.stdout.splitlines(), stderr


@pytest.mark.parametrize("implementation", ["asyncio", "aioxide", "aioxide-loop"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_program(program, implementation):
    directives, prints, reports = parsed(program)
    if implementation == "asyncio":
        if not runs_on_asyncio(directives):
            # It is not merely said so: it ends otherwise.
            code, out, err = execute(program, directives)
            assert code or not matches(out, prints)
            return
        options = []
    else:
        options = ["-m", "aioxide", *(["--legacy"] if "legacy" in directives else [])]
        if implementation == "aioxide-loop":
            if program.stem not in ("running", "outside_a_loop", "tasks"):
                return
            options.append("--loop-only")
    code, out, err = execute(program, directives, *options)
    assert code == 0, "\n".join(err)
    assert matches(out, prints), "\n".join(out)
    assert matches(err, reports), "\n".join(err)


MEMORY = """
import asyncio, threading

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

async def main():
    await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(10)))
    before = resident()
    tasks = [asyncio.create_task(asyncio.sleep(60)) for _ in range(20_000)]
    await asyncio.sleep(0)
    print((resident() - before) // len(tasks), threading.active_count())
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_sleeping_task_costs_no_more_than_asyncios(tmp_path):
    """Nor as much as a thread by far: that takes a stack."""
    program = tmp_path / "memory.py"
    program.write_text(MEMORY)
    taken = []
    for options in ((), ("-m", "aioxide")):
        code, out, err = execute(program, [], *options)
        assert code == 0, err
        size, threads = map(int, out[0].split())
        assert threads == 1
        taken.append(size)
    assert taken[1] < taken[0] * 1.1 < 20_000
