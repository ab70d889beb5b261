"""Every step that builds, tries and checks aioxide; people and CI call only this.

It needs nothing but Rust and Python 3.11 to 3.15: what else a step needs, it
installs into a virtual environment in the checkout.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import platform
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
PYTHONS = ROOT / "scripts" / "pythons.sh"

# The rows of the matrix, and what Debian calls a debug build's package.
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
DEBUG_VERSION = "3.14-dbg"
DEBUG_PACKAGE = "python3.14-dbg"

# Where the frameworks run in CI, the servers they need, and each way to use aioxide
# with what stands before `-m pytest`.
DOWNSTREAM_VERSIONS = ("3.13", "3.14")
DOWNSTREAM_PACKAGES = ("redis-server", "postgresql")
DOWNSTREAM_WAYS = {"factory": (), "runner": ("-m", "aioxide"), "install": ()}

# Seconds after which pytest hangs for good; it takes one or two minutes.
HANGS_AFTER = 1800

# What the extension module is made of: a wheel is built again when it changes.
SOURCES = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md",
           "crates", "python")


class Missing(Exception):
    """Something that the machine lacks: told in one line, exit status 2."""


class Failed(Exception):
    """A step that failed: told in one line, exit status 1."""


# -- running things ----------------------------------------------------------


def say(text):
    print(f"== {text}", flush=True)


def run(*command, quiet=False, **options):
    """Run a command; end with its output, if that was kept back, when it fails."""
    command = [str(word) for word in command]
    options.setdefault("cwd", ROOT)
    if not quiet:
        sys.stdout.flush()
        try:
            status = subprocess.run(command, **options).returncode
        except subprocess.TimeoutExpired:
            raise Failed("hangs: " + shlex.join(command)) from None
        if status:
            raise Failed("failed: " + shlex.join(command))
        return
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log,
                                   stderr=subprocess.STDOUT, **options)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            if sys.stdout.isatty():
                print(f"\r   {time.monotonic() - started:.0f} s ", end="",
                      flush=True)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
        if process.returncode:
            log.seek(0)
            print(log.read(), file=sys.stderr)
            raise Failed("failed: " + shlex.join(command))


def answer(*command):
    """Return what a command prints, or None if it fails or is not there."""
    try:
        done = subprocess.run([str(word) for word in command], cwd=ROOT,
                              capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def digest(*paths, extra=()):
    """A hash over files and folders."""
    total = hashlib.sha256(repr(extra).encode())
    for path in paths:
        files = [path] if path.is_file() else sorted(
            file for file in path.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts)
        for file in files:
            total.update(str(file.relative_to(ROOT)).encode())
            total.update(file.read_bytes())
    return total.hexdigest()


# -- the virtual environment with aioxide in it -------------------------------


class Environment:
    """A virtual environment of the running interpreter, and aioxide in it."""

    def __init__(self, folder=ROOT / ".venv", target=None, profile="release"):
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.profile = profile
        # pyo3 asks this interpreter how to build, whatever else is on PATH, and
        # links no libpython, which many machines lack: no Rust test starts a Python.
        self.variables = {**os.environ, "PYO3_PYTHON": str(self.python),
                          "PYO3_BUILD_EXTENSION_MODULE": "1",
                          "VIRTUAL_ENV": str(folder),
                          "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.variables.pop("PYTHONPATH", None)
        self.variables.pop("PYTHONHOME", None)
        if target:
            self.variables["CARGO_TARGET_DIR"] = str(target)

    def run(self, *command, **options):
        """Run a command that finds this interpreter."""
        run(*command, env={**self.variables, **options.pop("env", {})},
            **options)

    def stamp(self, name):
        return self.folder / f"aioxide-{name}.stamp"

    def fresh(self, name, key):
        file = self.stamp(name)
        return file.exists() and file.read_text() == key

    def create(self):
        """Make the virtual environment, unless it is there for this Python."""
        identity = f"{sys.version} {os.path.realpath(sys.executable)}"
        if self.fresh("python", identity) and self.python.exists():
            return
        say(f"making {self.folder.relative_to(ROOT)} "
            f"for Python {platform.python_version()}")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        lacking = Missing(
            f"this Python ({sys.executable}) has no venv module that works "
            f"(Debian: apt install python{version}-venv)")
        try:
            import ensurepip, venv  # noqa: F401
        except ImportError:
            raise lacking from None
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            run(sys.executable, "-m", "venv", self.folder, quiet=True)
        except Failed:
            raise lacking from None
        self.stamp("python").write_text(identity)

    def install(self, name, *arguments, key):
        """Install packages with pip, unless they are there."""
        if self.fresh(name, key):
            return
        say(f"installing what the {name} needs")
        self.run(self.python, "-m", "pip", "install", *arguments, quiet=True)
        self.stamp(name).write_text(key)

    def require(self, name, file):
        """Install a requirements file."""
        self.install(name, "-r", file, key=digest(file))

    def build(self):
        """Build aioxide's wheel and install it, unless nothing changed."""
        key = digest(*(ROOT / name for name in SOURCES
                       if (ROOT / name).exists()),
                     extra=(self.profile, answer("rustc", "--version")))
        if self.fresh("wheel", key):
            return
        say(f"building aioxide, profile {self.profile} "
            "(the first time takes a few minutes)")
        self.run(self.python, "-m", "pip", "install", "--no-deps",
                 "--force-reinstall", ".", quiet=True,
                 env={"MATURIN_PEP517_ARGS": f"--profile {self.profile}"})
        self.stamp("wheel").write_text(key)


def need_rust():
    """Stop if there is no Rust, or one too old for what Cargo.toml says."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    least = manifest["workspace"]["package"]["rust-version"]
    version = answer("cargo", "--version")
    if version is None:
        raise Missing(f"no working cargo on PATH: install Rust {least} or "
                      "later, for example with rustup")
    found = re.search(r"(\d+)\.(\d+)", version)
    if [int(part) for part in found.groups()] < [
            int(part) for part in least.split(".")[:2]]:
        raise Missing(f"{version} is too old: Rust {least} or later is needed")


def environment():
    """The checkout's own environment, aioxide included."""
    need_rust()
    env = Environment()
    env.create()
    env.build()
    return env


# -- demo ---------------------------------------------------------------------

# A row of the demo's table: its name and the words before the program.
WAYS = {"asyncio": (), "aioxide": ("-m", "aioxide")}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(env, way):
    """Run examples/service.py; give its address and its process."""
    port = free_port()
    process = subprocess.Popen(
        [env.python, *WAYS[way], "examples/service.py", "--port", str(port)],
        cwd=ROOT, env=env.variables)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"examples/service.py did not start on {way}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processor_seconds(process):
    """The processor time of a process so far, or None where it is not told."""
    with contextlib.suppress(OSError):
        line = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
        fields = line.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def fetch(env, way, count):
    """One round: a service and its client; return seconds, CPU and loop."""
    with serving(env, way) as (url, service):
        command = [env.python, *WAYS[way], "examples/fetch.py", url,
                   "--count", str(count)]
        # What the first requests of a process load does not count.
        answer(*command[:-1], "10")
        before = processor_seconds(service)
        done = subprocess.run([str(word) for word in command], cwd=ROOT,
                              env=env.variables, stdout=subprocess.PIPE,
                              text=True)
        after = processor_seconds(service)
    found = re.search(r"answers in ([\d.]+) s on (\S+)", done.stdout)
    if done.returncode or not found:
        raise Failed(f"examples/fetch.py failed on {way}")
    used = None if before is None else after - before
    return float(found[1]), used, found[2]


def demo(options):
    """The service and its thousand fetches, on asyncio and on aioxide."""
    # Two ends of a thousand connections need more descriptors than some shells allow.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * options.count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if options.way:
        ways = [options.way]
    else:
        ways = list(WAYS)
    if ways == ["asyncio"]:
        env = Environment()
        env.create()
    else:
        env = environment()
    env.require("demo", ROOT / "examples" / "requirements.txt")
    print(f"""
A FastAPI service under uvicorn answers {options.count} requests that an
aiohttp client sends at once. The two programs are run as they are, with
`python examples/…` and with `python -m aioxide examples/…`.
""")
    results = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in ways:
            seconds, used, loop = fetch(env, way, options.count)
            results[way].append((seconds, used, loop))
            print(f"round {number + 1} of {options.rounds}: {way:8} "
                  f"{seconds:6.3f} s", flush=True)
    print(f"\n{'':10}{'median':>9}{'requests/s':>13}{'service CPU':>14}"
          f"{'faster':>9}   event loop")
    first = None
    for way, rounds in results.items():
        seconds = statistics.median(row[0] for row in rounds)
        first = first or seconds
        used = "-"
        if rounds[0][1] is not None:
            used = f"{statistics.median(row[1] for row in rounds):.2f} s"
        print(f"{way:10}{seconds:>7.3f} s{options.count / seconds:>13.0f}"
              f"{used:>14}{first / seconds:>8.2f}×   {rounds[0][2]}")
    print()


# -- checks -------------------------------------------------------------------


def cargo_test(env):
    """The tests of the Rust crates."""
    say("cargo test")
    env.run("cargo", "test", "--workspace")


def pytest(env, *arguments):
    """The Python tests."""
    env.require("test", ROOT / "tests" / "requirements.txt")
    say(f"pytest on Python {platform.python_version()}")
    env.run(env.python, "-m", "pytest", "-q", *arguments, timeout=HANGS_AFTER)


def conformance(env, *arguments):
    """CPython's own tests of asyncio, on aioxide."""
    env.run(env.python, ROOT / "tests" / "conformance" / "check.py",
            *arguments)


def has_suite(env):
    return answer(env.python, "-c", "import test.test_asyncio") is not None


def test(options):
    """cargo test, pytest, and the conformance run of this interpreter."""
    env = environment()
    cargo_test(env)
    pytest(env)
    if has_suite(env) or os.environ.get("CI"):
        say(f"conformance on Python {platform.python_version()}")
        conformance(env)
        say("all tests pass")
    else:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        say("all tests pass, but for CPython's own: this Python comes without "
            f"them (Debian: apt install libpython{version}-testsuite)")


def wheel(options):
    """A release wheel in dist/."""
    need_rust()
    env = Environment()
    env.create()
    env.run(env.python, "-m", "pip", "wheel", "--no-deps", "-w", "dist", ".")


def sdist(options):
    """A source distribution in dist/, and the proof that it builds."""
    need_rust()
    env = Environment()
    env.create()
    env.install("sdist", "maturin>=1.9,<2", key="1")
    with tempfile.TemporaryDirectory() as folder:
        env.run(env.python, "-m", "maturin", "sdist", "-o", folder, quiet=True)
        [archive] = pathlib.Path(folder).glob("*.tar.gz")
        say(f"building a wheel from {archive.name}")
        # Its own target folder, as a build from scratch elsewhere would have.
        env.run(env.python, "-m", "pip", "wheel", "--no-deps", "-w", folder,
                archive, quiet=True,
                env={"CARGO_TARGET_DIR": f"{folder}/target"})
        (ROOT / "dist").mkdir(exist_ok=True)
        shutil.copy(archive, ROOT / "dist")
    print(f"dist/{archive.name}")


def lint(options):
    """Formatting, and clippy with warnings denied."""
    env = environment()
    say("cargo fmt --check")
    run("cargo", "fmt", "--all", "--check")
    say("cargo clippy")
    env.run("cargo", "clippy", "--workspace", "--all-targets", "--",
            "-D", "warnings")


def layers(options):
    """Who may import whom, file sizes, paths in the docs."""
    env = environment()
    pytest(env, "tests/test_layers.py")


def stubtest(options):
    """The type stubs say what is there."""
    env = environment()
    check_stubs(env)


def check_stubs(env):
    env.require("test", ROOT / "tests" / "requirements.txt")
    say(f"stubtest on Python {platform.python_version()}")
    command = [env.python, "-m", "mypy.stubtest", "aioxide"]
    allowlist = ROOT / "tests" / "stubtest-allowlist.txt"
    if allowlist.exists():
        command += ["--allowlist", allowlist]
    # Not in the checkout: python/ would shadow nothing, but target/ is large.
    env.run(*command, cwd=env.folder)


def miri(options):
    """The engine under Miri."""
    if not answer("rustc", "+nightly", "--version"):
        raise Missing("no nightly toolchain for Miri: "
                      "rustup toolchain install nightly")
    if answer("cargo", "+nightly", "miri", "--version") is None:
        run("rustup", "component", "add", "--toolchain", "nightly",
            "miri", "rust-src")
    say("cargo miri test, crates/engine")
    run("cargo", "+nightly", "miri", "test", "-p", "aioxide-engine", env={
        **os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "miri")})


def fuzz(options):
    """Fuzz the engine's parsers and buffers, each for some time."""
    need_rust()
    if not answer("rustc", "+nightly", "--version"):
        raise Missing("no nightly toolchain for libFuzzer: "
                      "rustup toolchain install nightly")
    if answer("cargo", "fuzz", "--version") is None:
        raise Missing("no cargo-fuzz: cargo install cargo-fuzz")
    targets = sorted(file.stem for file in
                     (ROOT / "fuzz" / "fuzz_targets").glob("*.rs"))
    for target in options.targets or targets:
        say(f"fuzzing {target} for {options.seconds} seconds")
        run("cargo", "+nightly", "fuzz", "run", "--fuzz-dir", ROOT / "fuzz",
            target, "--", f"-max_total_time={options.seconds}", "-timeout=10")


def soak(options):
    """Mixed traffic for a long time, after which nothing is left."""
    env = environment()
    env.require("test", ROOT / "tests" / "requirements.txt")
    say(f"soak on Python {platform.python_version()}")
    env.run(env.python, ROOT / "tests" / "soak" / "soak.py",
            "--seconds", options.seconds)


# -- the matrix ---------------------------------------------------------------


def row_file(name):
    return CACHE / "rows" / f"{name}.json"


def row(options):
    """Build and try aioxide on the running interpreter; write down the counts."""
    need_rust()
    name, libc = options.name, "".join(platform.libc_ver())
    # One target folder for each libc: build scripts run on the system they were built on.
    env = Environment(CACHE / f"venv-{name}", ROOT / "target" / (libc or "row"),
                      options.profile)
    file = row_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    result = {"python": platform.python_version(), "wheel": "failed"}
    failures = []

    def attempt(title, step, *arguments):
        try:
            step(env, *arguments)
        except Failed as failure:
            print(failure, file=sys.stderr)
            failures.append(title)

    try:
        env.create()
        env.build()
        result["wheel"] = "ok"
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "pytest.xml"
            attempt("pytest", pytest, f"--junitxml={report}")
            result["pytest"] = pytest_counts(report)
            attempt("stubtest", check_stubs)
            verdicts = pathlib.Path(folder) / "conformance.json"
            # A debug build is slow, and looks for damage: once is enough.
            levels = ["--level", "full"] if name == DEBUG_VERSION else []
            attempt("conformance", conformance, "--json", verdicts, *levels)
            if verdicts.exists():
                result.update(json.loads(verdicts.read_text()))
    finally:
        result["failures"] = failures
        file.write_text(json.dumps(result))
    if failures:
        raise Failed(f"{name}: failed: {', '.join(failures)}")


def pytest_counts(report):
    """What pytest's report adds up to."""
    if not report.exists():
        return None
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in xml.etree.ElementTree.parse(report).iter("testsuite"):
        for key in counts:
            counts[key] += int(suite.get(key, 0))
    return counts


def present_versions():
    listing = answer("bash", PYTHONS, "list") or ""
    return {line.split()[0] for line in listing.splitlines()}


def prepare_matrix(wanted):
    """Install what Debian has; return the versions that are still missing."""
    missing = [name for name in wanted if name not in present_versions()]
    if any(name.startswith(("3.14", "3.15")) for name in missing):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            return missing
        packages = [DEBUG_PACKAGE] if DEBUG_VERSION in wanted else []
        say("setting up Debian sid's Pythons in a chroot")
        try:
            run("bash", PYTHONS, "setup", *packages)
        except Failed as failure:
            print(failure, file=sys.stderr)
    return [name for name in wanted if name not in present_versions()]


def matrix(options):
    """Build, test and conformance on every Python; one table at the end."""
    wanted = options.versions or [*VERSIONS, DEBUG_VERSION]
    missing = prepare_matrix(wanted)
    failed = []
    for name in wanted:
        if name in missing:
            continue
        say(f"Python {name}")
        command = ["bash", PYTHONS, "run", name, "python", "scripts/recipe.py",
                   "row", name, "--profile", options.profile]
        try:
            run(*command)
        except Failed as failure:
            print(failure, file=sys.stderr)
            failed.append(name)
    print_matrix(wanted, missing)
    if missing:
        print("no such Python here: " + ", ".join(missing), file=sys.stderr)
    if failed or missing:
        raise Failed("the matrix failed on: " + ", ".join(missing + failed))


def print_matrix(wanted, missing):
    """One row for each Python: its tests and both levels of conformance."""
    print(f"\n{'':10}{'':10}{'':8}{'pytest':>8}{'':16}{'loop':>7}{'':22}"
          f"{'full':>7}")
    level = f"{'ran':>7}{'passed':>8}{'listed':>8}{'worse':>6}"
    print(f"{'row':10}{'python':10}{'wheel':8}{'ran':>8}{'failed':>8}"
          f"{'skipped':>8}{level}{level}")
    for name in wanted:
        if name in missing or not row_file(name).exists():
            print(f"{name:10}{'missing' if name in missing else 'no result'}")
            continue
        result = json.loads(row_file(name).read_text())
        line = f"{name:10}{result['python']:10}{result['wheel']:8}"
        counts = result.get("pytest")
        if counts:
            bad = counts["failures"] + counts["errors"]
            line += f"{counts['tests']:>8}{bad:>8}{counts['skipped']:>8}"
        else:
            line += f"{'-':>8}" * 3
        for kind in ("loop", "full"):
            verdict = result.get(kind)
            if verdict:
                line += (f"{verdict['counts']['ran']:>7}"
                         f"{verdict['counts']['passed']:>8}"
                         f"{len(verdict['expected']):>8}"
                         f"{len(verdict['unexpected']):>6}")
            else:
                line += f"{'-':>7}{'-':>8}{'-':>8}{'-':>6}"
        print(line)
    print(flush=True)


# -- frameworks ---------------------------------------------------------------


def downstream(options):
    """Frameworks and clients on aioxide, against real servers."""
    for name in options.versions:
        say(f"frameworks on Python {name}")
        run("bash", PYTHONS, "run", name, "python", "scripts/recipe.py",
            "downstream", "--profile", options.profile)
    if options.versions:
        return
    need_rust()
    # Not the other tests' environment: pytest would load the plugins in all of them.
    name = f"downstream-{sys.version_info.major}.{sys.version_info.minor}"
    env = Environment(CACHE / f"venv-{name}",
                      ROOT / "target" / ("".join(platform.libc_ver()) or "row"),
                      options.profile)
    env.create()
    env.build()
    # A version without a wheel shows at once, instead of being built.
    requirements = ROOT / "tests" / "downstream" / "requirements.txt"
    env.install("frameworks", "--only-binary", ":all:", "-r", requirements,
                key=digest(requirements))
    for way, words in DOWNSTREAM_WAYS.items():
        say(f"frameworks on Python {platform.python_version()}, way in: {way}")
        env.run(env.python, *words, "-m", "pytest", "-q",
                ROOT / "tests" / "downstream", "--way", way,
                timeout=HANGS_AFTER)


def prepare_downstream(versions):
    """Install the servers that the frameworks need, here and in the chroot."""
    has_servers = ["sh", "-c", "command -v redis-server && "
                   "ls -d /usr/lib/postgresql/*/bin"]
    if answer(*has_servers) is None:
        apt_install(DOWNSTREAM_PACKAGES)
    for name in versions:
        if answer("bash", PYTHONS, "run", name, *has_servers) is None:
            say(f"installing {' '.join(DOWNSTREAM_PACKAGES)} beside Python {name}")
            run("bash", PYTHONS, "setup", *DOWNSTREAM_PACKAGES, quiet=True)


def ci(options):
    """All of it, in the order in which a mistake is cheapest to find."""
    machine_packages()
    test(options)
    demo(argparse.Namespace(count=300, rounds=1, way=None))
    lint(options)
    layers(options)
    stubtest(options)
    miri(options)
    sdist(options)
    matrix(options)
    versions = [name for name in DOWNSTREAM_VERSIONS
                if name in (options.versions or DOWNSTREAM_VERSIONS)]
    if versions:
        prepare_downstream(versions)
        # A test without its server is skipped; here it fails.
        os.environ["CI"] = "1"
        downstream(argparse.Namespace(versions=versions,
                                      profile=options.profile))
    say("CI is green")


def machine_packages():
    """Install what a bare Debian lacks for building and for the test suite."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    packages = []
    if not shutil.which("cc"):
        packages.append("build-essential")
    if os.path.realpath(sys.executable).startswith("/usr/bin/"):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        packages += [f"python{version}-venv", f"libpython{version}-testsuite"]
    if packages:
        apt_install(packages)


def apt_install(packages):
    """Install packages of Debian's."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing("this needs packages that only root can install on Debian: "
                      f"apt install {' '.join(packages)}")
    say("installing " + " ".join(packages))
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", quiet=True, env=variables)
    run("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages,
        quiet=True, env=variables)


def only_conformance(options):
    """The conformance run of this interpreter."""
    conformance(environment(), *options.arguments)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    steps = parser.add_subparsers(metavar="STEP", required=True)

    def add(step, name=None):
        sub = steps.add_parser(name or step.__name__, help=step.__doc__)
        sub.set_defaults(step=step)
        return sub

    sub = add(demo)
    sub.add_argument("--count", type=int, default=1000,
                     help="requests at once (default: 1000)")
    sub.add_argument("--rounds", type=int, default=5,
                     help="rounds, of which the median counts (default: 5)")
    sub.add_argument("--way", choices=WAYS, help="only this one")
    for step in (test, wheel, sdist, lint, layers, stubtest, miri):
        add(step)
    sub = add(fuzz)
    sub.add_argument("targets", nargs="*", metavar="TARGET",
                     help="only these, of fuzz/fuzz_targets")
    sub.add_argument("--seconds", type=int, default=180,
                     help="for each target (default: 180)")
    sub = add(soak)
    sub.add_argument("--seconds", type=int, default=600,
                     help="how long (default: 600)")
    sub = add(only_conformance, "conformance")
    sub.add_argument("arguments", nargs="*",
                     help="options of tests/conformance/check.py, after --")
    for step in (matrix, row, downstream, ci):
        sub = add(step)
        sub.add_argument("--profile", default="ci",
                         help="cargo profile of the wheels (default: ci)")
        if step is row:
            sub.add_argument("name", help="what the row is called")
        else:
            sub.add_argument("versions", nargs="*", metavar="VERSION",
                             help="only these rows")
    return parser.parse_args()


def main():
    options = parse_arguments()
    try:
        options.step(options)
    except Missing as lack:
        print(f"aioxide: {lack}", file=sys.stderr)
        return 2
    except Failed as failure:
        print(f"aioxide: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
