"""The head of every report: the machine, the versions and the command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from report import interpreter
from report.targets import Probed


def head(python: str, probed: Probed, settings: dict[str, object]) -> dict[str, str]:
    """The facts of this run, in the order in which they are printed."""
    facts = {
        "Command": shlex.join(["python", *_relative(sys.argv)]),
        "Machine": f"{platform.machine()}, {_processor()}, {os.cpu_count()} CPUs",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": _ask(python, "import sys; print(sys.version.replace(chr(10), ' '))"),
        "Checkout": _commit(),
        "Packages": ", ".join(
            f"{name} {version}" for name, version in probed.versions.items() if "+" not in name
        ),
        "Settings": ", ".join(f"{name} {value}" for name, value in settings.items()),
    }
    if probed.missing:
        facts["Missing"] = "; ".join(f"{name} ({why})" for name, why in probed.missing.items())
    return facts


def _relative(arguments: list[str]) -> list[str]:
    """The command line as typed, its program relative to the checkout."""
    program = Path(arguments[0]).resolve()
    if program.is_relative_to(interpreter.CHECKOUT):
        return [str(program.relative_to(interpreter.CHECKOUT)), *arguments[1:]]
    return arguments


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "processor unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "processor unknown")


def _commit() -> str:
    git = ["git", "-C", str(interpreter.CHECKOUT)]
    try:
        found = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    if found.returncode:
        return "unknown"
    return found.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def _ask(python: str, code: str) -> str:
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
