"""The loops that are measured, by name, and how a measured process gets one.

A target is a loop factory. aiofastnet is no loop: it puts its own transports above a loop, here
asyncio's. `aioxide+install` also puts the native Future, Task and sleep in the place of asyncio's,
so its `load` must come before the program is imported.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import interpreter

PEERS = ("uvloop", "zuvloop", "rsloop", "rloop", "aiofastnet")
OWN = ("aioxide", "aioxide+install")
ALL = ("asyncio", *PEERS, *OWN)


@dataclass(frozen=True)
class Probed:
    """The targets that work under one interpreter, with their versions, and the others, with the
    reason."""

    versions: dict[str, str]
    missing: dict[str, str]


def module_of(name: str) -> str:
    """The module that the target `name` imports."""
    return name.partition("+")[0]


def load(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Import the target, install it where its name says so, and return its loop factory."""
    module: Any = importlib.import_module(module_of(name))
    if name.endswith("+install"):
        module.install()
    factory: Callable[[], asyncio.AbstractEventLoop] = (
        module.loop_factory() if name == "aiofastnet" else module.new_event_loop
    )
    return factory


def parse(text: str) -> list[str]:
    """The comma-separated target names of a command line; ValueError for an unknown name."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ALL]:
        raise ValueError(f"no target {', '.join(unknown)}; there are {', '.join(ALL)}")
    return names


def probe(python: str, names: list[str]) -> Probed:
    """Ask `python`, one process per target, which of `names` it can import and run."""
    versions, missing = {}, {}
    script = str(Path(__file__).with_name("probe.py"))
    for name in names:
        found = subprocess.run(
            [python, script, name], capture_output=True, text=True, env=interpreter.environment()
        )
        if found.returncode == 0:
            versions[name] = json.loads(found.stdout.splitlines()[-1])
        else:
            lines = found.stderr.strip().splitlines()
            missing[name] = lines[-1] if lines else f"exit status {found.returncode}"
    return Probed(versions, missing)
