"""Frameworks and clients on aioxide, against real servers."""

import argparse
import platform

from .checks import HANGS_AFTER
from .environment import CACHE, PYTHON_VERSION, Environment, digest, need_rust, target_folder
from .machine import apt_install
from .matrix import PYTHONS, RECIPE
from .running import ROOT, Word, answer, run, run_quietly, say

# The Pythons on which the frameworks run in CI, the servers that they need, and each way to use
# aioxide with the words before `-m pytest`.
DOWNSTREAM_VERSIONS = ("3.13", "3.14")
DOWNSTREAM_PACKAGES = ("redis-server", "postgresql")
DOWNSTREAM_WAYS: dict[str, tuple[str, ...]] = {
    "factory": (),
    "runner": ("-m", "aioxide"),
    "install": (),
}


def downstream(options: argparse.Namespace) -> None:
    """Frameworks and clients on aioxide, against real servers."""
    for name in options.versions:
        say(f"frameworks on Python {name}")
        run(
            *("bash", PYTHONS, "run", name, "python", RECIPE),
            *("downstream", "--profile", options.profile),
        )
    if options.versions:
        return
    need_rust()
    # The other tests have another environment: pytest would load the plugins in all of them.
    env = Environment(CACHE / f"venv-downstream-{PYTHON_VERSION}", target_folder())
    env.create()
    env.install_wheel(options.profile)
    # A version without a wheel fails at once, instead of being built.
    requirements = ROOT / "tests" / "downstream" / "requirements.txt"
    env.install(
        "frameworks", "--only-binary", ":all:", "-r", requirements, key=digest(requirements)
    )
    for way, words in DOWNSTREAM_WAYS.items():
        say(f"frameworks on Python {platform.python_version()}, way in: {way}")
        command: list[Word] = [env.python, *words, "-m", "pytest", "-q"]
        env.run(*command, ROOT / "tests" / "downstream", "--way", way, timeout=HANGS_AFTER)


def prepare_downstream(versions: list[str]) -> None:
    """Install the servers that the frameworks need, here and in the chroot."""
    has_servers = ["sh", "-c", "command -v redis-server && ls -d /usr/lib/postgresql/*/bin"]
    if answer(*has_servers) is None:
        apt_install(DOWNSTREAM_PACKAGES)
    for name in versions:
        if answer("bash", PYTHONS, "run", name, *has_servers) is None:
            say(f"installing {' '.join(DOWNSTREAM_PACKAGES)} beside Python {name}")
            run_quietly("bash", PYTHONS, "setup", *DOWNSTREAM_PACKAGES)
