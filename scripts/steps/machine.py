"""Packages that CI installs on a bare Debian."""

import os
import shutil
import sys
from collections.abc import Sequence

from .environment import PYTHON_VERSION
from .running import Missing, run_quietly, say


def may_install() -> bool:
    """Whether this is a Debian and we may install packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def machine_packages() -> None:
    """Install the packages that a bare Debian lacks for building and for the test suite."""
    if not may_install():
        return
    packages = []
    if not shutil.which("cc"):
        packages.append("build-essential")
    if not shutil.which("valgrind"):
        packages.append("valgrind")
    if os.path.realpath(sys.executable).startswith("/usr/bin/"):
        packages += [f"python{PYTHON_VERSION}-venv", f"libpython{PYTHON_VERSION}-testsuite"]
    if packages:
        apt_install(packages)


def apt_install(packages: Sequence[str]) -> None:
    """Install Debian packages."""
    if not may_install():
        raise Missing(
            "this needs packages that only root can install on Debian: "
            f"apt install {' '.join(packages)}"
        )
    say("installing " + " ".join(packages))
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run_quietly("apt-get", "update", "-q", env=variables)
    run_quietly(
        *("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages),
        env=variables,
    )
