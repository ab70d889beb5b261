"""Which Python the measured processes run on, and their environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
VENV = CHECKOUT / ".venv-bench"


def default() -> str:
    """The interpreter of the benches' own venv if `benches/setup.py` has made one that runs here,
    otherwise this Python."""
    python = VENV / "bin" / "python"
    try:
        subprocess.run([python, "-c", ""], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return sys.executable
    return str(python)


def environment() -> dict[str, str]:
    """This process's environment without the switches that would change what is measured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONPATH", "PYTHONMALLOC")
    }
    kept["PYTHONHASHSEED"] = "0"
    return kept


def printed(
    command: Sequence[str], timeout: float, before: Callable[[], None] | None = None
) -> str:
    """The output of a measured process, which must end within `timeout` seconds. It runs `before`
    first. RuntimeError with its last line if it fails."""
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        preexec_fn=before,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        raise RuntimeError(lines[-1])
    return ended.stdout
