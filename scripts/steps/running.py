"""Running commands, and how a step that fails ends."""

import contextlib
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).resolve().parents[2]

Word = str | pathlib.Path


class Missing(Exception):
    """The machine lacks something. The step ends with one line and exit status 2."""


class Failed(Exception):
    """A step has failed. It ends with one line and exit status 1."""


def say(text: str) -> None:
    """Print what the step does next."""
    print(f"== {text}", flush=True)


def run(
    *command: Word | float,
    cwd: pathlib.Path = ROOT,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> None:
    """Run a command whose output is shown; fail if it fails or takes longer than `timeout`."""
    words = [str(word) for word in command]
    sys.stdout.flush()
    try:
        status = subprocess.run(words, cwd=cwd, env=env, timeout=timeout).returncode
    except subprocess.TimeoutExpired:
        raise Failed("hangs: " + shlex.join(words)) from None
    except OSError as error:
        raise Failed(f"{words[0]}: {error.strerror}") from None
    if status:
        raise Failed("failed: " + shlex.join(words))


def run_quietly(
    *command: Word | float, cwd: pathlib.Path = ROOT, env: Mapping[str, str] | None = None
) -> None:
    """Run a command; show its output only when it fails, and on a terminal the time it takes."""
    words = [str(word) for word in command]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(words, cwd=cwd, env=env, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            if sys.stdout.isatty():
                print(f"\r   {time.monotonic() - started:.0f} s ", end="", flush=True)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
        if process.returncode:
            log.seek(0)
            print(log.read(), file=sys.stderr)
            raise Failed("failed: " + shlex.join(words))


def answer(*command: Word, env: Mapping[str, str] | None = None) -> str | None:
    """Return what a command prints, or None if it fails or is not there."""
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=ROOT, env=env, capture_output=True, text=True
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
