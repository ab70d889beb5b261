"""The programs and commands of docs/guide are run as a reader would run them.

A Python block is a whole program, whose first line names its file. A console block is run in a
folder with its page's programs, from the first page's block to the last: each line after `$` is a
command, what follows it is all that it prints, with `...` for any text. `python -m aioxide
program.py` is run on asyncio as well and has to print the same there. A command that ends with
`&` goes on in the background until the page ends.

A comment before a block says what it takes: `<!-- only on aioxide -->`, `<!-- Python 3.12 -->`
for that version or later, `<!-- not run: reason -->`. A command that needs a package which is not
installed is left out, and so is one that names the port of a server which did not start.
"""

import ast
import contextlib
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

GUIDE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
BLOCK = re.compile(r"(?ms)^(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$")
# Numbers of ports in the pages: each is replaced by a free one.
PORT = re.compile(r"\b80\d\d\b")
HANGS_AFTER = 60


def blocks(page):
    """Notes, kinds and texts of a page's blocks."""
    for found in BLOCK.finditer(page.read_text()):
        yield found["note"] or "", found["kind"], found["text"]


def programs(page):
    """The page's programs, by the name in their first line."""
    found = {}
    for _, kind, text in blocks(page):
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"{page.name}: this program has no name:\n{text}"
            assert name[1] not in found, f"{page.name}: two programs are called {name[1]}"
            found[name[1]] = text
    return found


def commands(page):
    """Each command of the page: its note, itself, and the lines that it should print."""
    found = []
    for note, kind, text in blocks(page):
        if kind != "console":
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append((note, line[2:], []))
            else:
                found[-1][2].append(line)
    return found


def imported_packages(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def needs(command, sources):
    """The packages that a command takes: what it runs by -m, and what its programs import."""
    words = [word for word in command.split() if not re.match("[A-Z_]+=", word)]
    names = {words[place + 1] for place, word in enumerate(words) if word == "-m"}
    if words[0] != "python":
        names.add(words[0])
    for name, source in sources.items():
        if name in words or f"{name.removesuffix('.py')}:" in command:
            names |= set(imported_packages(source))
    own = {name.removesuffix(".py") for name in sources}
    return sorted(name.partition(".")[0] for name in names - own)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def pattern(lines):
    """Lines that may have `...` for any text, as a regular expression."""
    return ".*?".join(re.escape(part) for part in "\n".join(lines).split("..."))


class Reader:
    """Somebody who follows a page in a folder of their own."""

    def __init__(self, folder, page):
        self.folder = folder
        self.sources = programs(page)
        self.ports = {}
        self.behind = []
        for name, source in self.sources.items():
            (folder / name).write_text(self.renumbered(source))
        tools = folder / "bin"
        tools.mkdir()
        (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (tools / "python").chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for name in ("AIOXIDE_LEGACY", "AIOXIDE_CHILDREN", "PYTHONASYNCIODEBUG"):
            self.environment.pop(name, None)

    def renumbered(self, text):
        return PORT.sub(lambda found: str(self.ports.setdefault(found[0], free_port())), text)

    def start(self, command):
        return subprocess.Popen(
            ["sh", "-c", f"exec env {self.renumbered(command)}"],
            cwd=self.folder,
            text=True,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def follow(self, command, expected):
        """Run a command, and compare what it prints."""
        if command.endswith(" &"):
            process = self.start(command.removesuffix(" &"))
            self.behind.append(process)
            port = self.ports[PORT.search(command)[0]]
            until = time.monotonic() + HANGS_AFTER
            while not answers(port):
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < until, f"{command} does not listen"
                time.sleep(0.05)
            return
        process = self.start(command)
        try:
            printed = process.communicate(timeout=HANGS_AFTER)[0]
        finally:
            process.kill()
        assert process.returncode == 0, f"$ {command}\n{printed}"
        wanted = self.renumbered(pattern(expected))
        assert re.fullmatch(wanted, printed.rstrip("\n"), re.DOTALL), (
            f"$ {command}\n{printed}\ninstead of\n" + "\n".join(expected)
        )

    def leave(self):
        for process in self.behind:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=HANGS_AFTER)
            finally:
                process.kill()


def on_asyncio(command):
    """The same command without aioxide, or None if it is about aioxide."""
    plain = command.replace("python -m aioxide ", "python ")
    return plain if plain != command and "--" not in plain else None


def test_the_guide_has_its_pages():
    assert len(PAGES) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_program_is_run(page):
    """A program that no command names, and no program imports, is never run."""
    sources = programs(page)
    words = " ".join(command for _, command, _ in commands(page))
    imported = {name for source in sources.values() for name in imported_packages(source)}
    for name in sources:
        module = name.removesuffix(".py")
        assert name in words or f"{module}:" in words or module in imported, name


def is_left_out(note):
    """Whether a block is not for this Python, or not to be run at all."""
    version = re.match(r"Python (\d+)\.(\d+)", note)
    return note.startswith("not run") or (
        version is not None and sys.version_info < tuple(map(int, version.groups()))
    )


@pytest.mark.hung_after(240)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, tmp_path):
    reader = Reader(tmp_path, page)
    missing, dead_ports = set(), set()
    try:
        for note, command, expected in commands(page):
            if is_left_out(note):
                continue
            lacking = [
                name
                for name in needs(command, reader.sources)
                if importlib.util.find_spec(name) is None and not shutil.which(name)
            ]
            ports = set(PORT.findall(command))
            if lacking or ports & dead_ports:
                missing.update(lacking)
                dead_ports |= ports
                continue
            reader.follow(command, expected)
            plain = on_asyncio(command)
            if plain and "only on aioxide" not in note:
                reader.follow(plain, expected)
    finally:
        reader.leave()
    if missing:
        pytest.skip(f"all commands are run but those that need {', '.join(sorted(missing))}")
