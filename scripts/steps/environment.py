"""The virtual environments in which the steps run, and how aioxide gets into one.

`.venv` has the package of the checkout itself, with an extension module that cargo builds again in
seconds. For measuring and shipping there is a wheel, in an environment of its own.
"""

import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib

from .running import ROOT, Failed, Missing, Word, answer, run, run_quietly, say

CACHE = ROOT / ".cache"
PACKAGE = ROOT / "python" / "aioxide"

# The files that make up the extension module: a wheel is built again when one of them changes.
SOURCES = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "crates", "python")

# Free-threaded builds of Python have a `t` behind the version, in file names too.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}{'t' * FREE_THREADED}"


def digest(*paths: pathlib.Path, extra: object = ()) -> str:
    """A hash over files and folders, without the files that Python and cargo leave there."""
    total = hashlib.sha256(repr(extra).encode())
    for path in paths:
        files = (
            [path]
            if path.is_file()
            else sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and file.suffix != ".so" and "__pycache__" not in file.parts
            )
        )
        for file in files:
            total.update(str(file.relative_to(ROOT)).encode())
            total.update(file.read_bytes())
    return total.hexdigest()


def target_folder() -> pathlib.Path:
    """The folder where wheels are built. Each libc has its own, because the matrix builds in a
    chroot too and build scripts run only on the system where they were built."""
    return ROOT / "target" / ("".join(platform.libc_ver()) or "wheels")


class Environment:
    """A virtual environment of the running interpreter."""

    def __init__(self, folder: pathlib.Path, target: pathlib.Path | None = None) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        # pyo3 asks this interpreter how to build, whatever else is on PATH. It links no libpython,
        # which many machines lack, and the Rust tests start no Python. The name has the version:
        # cargo takes what it has built for the same name as built for the same Python, and the
        # environment may have been made anew for another.
        self.variables = {
            **os.environ,
            "PYO3_PYTHON": str(folder / "bin" / f"python3.{sys.version_info.minor}"),
            "PYO3_BUILD_EXTENSION_MODULE": "1",
            "VIRTUAL_ENV": str(folder),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self.variables.pop("PYTHONPATH", None)
        self.variables.pop("PYTHONHOME", None)
        if target:
            self.variables["CARGO_TARGET_DIR"] = str(target)

    def run(
        self,
        *command: Word | float,
        cwd: pathlib.Path = ROOT,
        env: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Run a command that finds this interpreter."""
        run(*command, cwd=cwd, env={**self.variables, **(env or {})}, timeout=timeout)

    def run_quietly(self, *command: Word | float, env: dict[str, str] | None = None) -> None:
        """As run(), but show the output only if the command fails."""
        run_quietly(*command, env={**self.variables, **(env or {})})

    def _stamp(self, name: str) -> pathlib.Path:
        return self.folder / f"aioxide-{name}.stamp"

    def _fresh(self, name: str, key: str) -> bool:
        file = self._stamp(name)
        return file.exists() and file.read_text() == key

    def create(self) -> None:
        """Make the virtual environment, unless it is there for this Python."""
        identity = f"{sys.version} {os.path.realpath(sys.executable)}"
        if self._fresh("python", identity) and self.python.exists():
            return
        say(f"making {self.folder.relative_to(ROOT)} for Python {platform.python_version()}")
        lacking = Missing(
            f"this Python ({sys.executable}) has no venv module that works "
            f"(Debian: apt install python{PYTHON_VERSION}-venv)"
        )
        try:
            import ensurepip  # noqa: F401
            import venv  # noqa: F401
        except ImportError:
            raise lacking from None
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            run_quietly(sys.executable, "-m", "venv", self.folder)
        except Failed:
            raise lacking from None
        self._stamp("python").write_text(identity)

    def install(self, name: str, *arguments: Word, key: str) -> None:
        """Install packages with pip, unless they are there."""
        if self._fresh(name, key):
            return
        say(f"installing the {name} requirements")
        self.run_quietly(self.python, "-m", "pip", "install", *arguments)
        self._stamp(name).write_text(key)

    def require(self, name: str, *files: pathlib.Path) -> None:
        """Install requirements files."""
        arguments = [word for file in files for word in ("-r", file)]
        self.install(name, *arguments, key=digest(*files))

    def install_wheel(self, profile: str) -> None:
        """Build aioxide's wheel with a profile of cargo's and install it, unless nothing
        changed."""
        key = digest(
            *(ROOT / name for name in SOURCES if (ROOT / name).exists()),
            extra=(profile, answer("rustc", "--version")),
        )
        if self._fresh("wheel", key):
            return
        say(f"building aioxide, profile {profile} (the first time takes a few minutes)")
        self.run_quietly(
            *(self.python, "-m", "pip", "install", "--no-deps", "--force-reinstall", "."),
            env={"MATURIN_PEP517_ARGS": f"--profile {profile}"},
        )
        self._stamp("wheel").write_text(key)

    def develop(self) -> None:
        """Build the extension module, put it into the checkout's package, and let this
        environment import that."""
        say("building aioxide, profile dev (seconds after the first time)")
        built = self._build_extension()
        place = PACKAGE / f"_aioxide{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not (place.exists() and place.read_bytes() == built.read_bytes()):
            # The new file is renamed into place, so a program that runs keeps the old one.
            new = place.with_suffix(f".{os.getpid()}.so")
            shutil.copyfile(built, new)
            new.replace(place)
        self._refer_to_checkout()

    def _build_extension(self) -> pathlib.Path:
        """Run cargo, and return the shared object that it has made."""
        command = ["cargo", "build", "-p", "aioxide", "--message-format=json-render-diagnostics"]
        done = subprocess.run(
            command, cwd=ROOT, env=self.variables, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise Failed("failed: cargo build -p aioxide")
        for line in done.stdout.splitlines():
            message = json.loads(line)
            if message.get("target", {}).get("name") == "_aioxide" and "filenames" in message:
                [library] = message["filenames"]
                return pathlib.Path(library)
        raise Failed("cargo built no _aioxide")

    def _refer_to_checkout(self) -> None:
        """Write what an editable install writes: a path, and the files that importlib.metadata and
        pip read.

        `pip install -e .` does the same, but with a build of its own that takes longer than ours.
        """
        site = self.folder / "lib" / f"python{PYTHON_VERSION}" / "site-packages"
        path, line = site / "aioxide.pth", f"{PACKAGE.parent}\n"
        info = site / f"aioxide-{version()}.dist-info"
        if path.exists() and path.read_text() == line and info.exists():
            return
        self.run_quietly(self.python, "-m", "pip", "uninstall", "-y", "aioxide")
        info.mkdir()
        files = {
            path: line,
            info / "METADATA": f"Metadata-Version: 2.1\nName: aioxide\nVersion: {version()}\n",
            info / "INSTALLER": "scripts/recipe\n",
        }
        for file, text in files.items():
            file.write_text(text)
        record = info / "RECORD"
        names = [file.relative_to(site) for file in [*files, record]]
        record.write_text("".join(f"{name},,\n" for name in names))


def manifest() -> dict[str, str]:
    """The data of Cargo.toml that holds for the whole workspace."""
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    assert isinstance(package, dict)
    return package


def version() -> str:
    """The version of aioxide."""
    return manifest()["version"]


def need_rust() -> None:
    """Stop if there is no Rust, or one too old for what Cargo.toml says."""
    least = manifest()["rust-version"]
    found = answer("cargo", "--version")
    if found is None:
        raise Missing(
            f"no working cargo on PATH: install Rust {least} or later, for example with rustup"
        )
    number = re.search(r"(\d+)\.(\d+)", found)
    if number and [int(part) for part in number.groups()] < [
        int(part) for part in least.split(".")[:2]
    ]:
        raise Missing(f"{found} is too old: Rust {least} or later is needed")


def tools() -> Environment:
    """`.venv` as it is, for steps that need packages but no aioxide."""
    env = Environment(ROOT / ".venv")
    env.create()
    return env


def working() -> Environment:
    """`.venv` with the checkout's own package, built for development."""
    need_rust()
    env = tools()
    env.develop()
    return env


def released(build: bool = True) -> Environment:
    """An environment for the wheel of a release build; with the wheel, unless it is told not to
    build."""
    env = Environment(CACHE / "venv-release", target_folder())
    if build:
        need_rust()
    env.create()
    if build:
        env.install_wheel("release")
    return env
