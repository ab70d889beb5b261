"""Runs misuse.py in a process of its own, seed after seed.

    python trying.py MODULE [--seeds N] [--first SEED] [OPTION OF misuse.py ...]
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# What a run may take beyond the time that the program gives itself.
GRACE = 120


@dataclasses.dataclass
class Played:
    """How a run ended: what is wrong with it, if anything is, and its counts."""

    command: str
    wrong: str
    result: dict

    def __str__(self):
        return f"{self.command}\n{self.wrong}"


def write_certificate(folder):
    """A file with a certificate for the TLS props; None where trustme is not installed."""
    try:
        import trustme
    except ImportError:
        return None
    path = pathlib.Path(folder) / "certificate.pem"
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def shortened(text):
    """The beginning and the end of a text."""
    return text if len(text) < 12_000 else f"{text[:4_000]}\n[...]\n{text[-8_000:]}"


def play(module, seed, *options, folder, certificate=None, environment=None):
    """One run."""
    journal = pathlib.Path(folder) / f"journal-{seed}"
    command = [sys.executable, str(HERE / "misuse.py"), module, str(seed), *map(str, options)]
    shown = shlex.join(command)
    command += ["--journal", str(journal)]
    if certificate:
        command += ["--certificate", str(certificate)]
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=GRACE)
        status = process.returncode
    except subprocess.TimeoutExpired:
        # the whole session: forked children hold the pipes open
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        status = "none: it hangs"
    result = {}
    lines = output.splitlines()
    if lines and lines[-1].startswith("{"):
        result = json.loads(lines[-1])
    wrong = "\n".join(result.get("wrong", ()))
    if status != 0 or not result or "panicked at" in errors:
        last = journal.read_bytes().replace(b"\0", b"").decode() if journal.exists() else ""
        wrong += f"\nexit status {status}\n{shortened(errors)}\nlast calls:\n{last}"
    journal.unlink(missing_ok=True)
    return Played(shown, wrong, result)


def main():
    """Play seeds until one fails, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    options, others = parser.parse_known_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        certificate = write_certificate(folder)
        for seed in range(options.first, options.first + options.seeds):
            played = play(options.module, seed, *others, folder=folder, certificate=certificate)
            print(seed, json.dumps(played.result.get("counts")), flush=True)
            if played.wrong:
                failed += 1
                print(played, flush=True)
                if not options.all:
                    break
            else:
                print("   ", json.dumps(played.result["raised"]), played.result["unknown"], flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
