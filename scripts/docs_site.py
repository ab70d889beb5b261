"""Build the documentation's site in dist/site, with warnings as errors.

    python scripts/docs_site.py [--output FOLDER]

The Python that runs this needs aioxide, whose docstrings the API reference is made from, and has
to be 3.12 or later, as Sphinx has. The tools of docs/requirements.txt go into .cache/venv-docs;
once they are there, nothing is downloaded.
"""

import argparse
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".cache" / "venv-docs"
REQUIREMENTS = ROOT / "docs" / "requirements.txt"

# The site's pages lie where the documents lie in the checkout, so its root only redirects there.
START = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">\n'


class Failed(Exception):
    """A failure, described in one line."""


def run(what: str, *command: object, env: dict[str, str] | None = None) -> str:
    """Run a command; show its output only if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise Failed(f"{what} failed")
    return done.stdout


def package_folder() -> pathlib.Path:
    """A folder with a link to the aioxide of this Python, and nothing else to import."""
    found = importlib.util.find_spec("aioxide")
    if not (found and found.origin and importlib.util.find_spec("aioxide._aioxide")):
        raise Failed(f"aioxide is not built for {sys.executable}")
    link = ROOT / ".cache" / "docs-package" / "aioxide"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(pathlib.Path(found.origin).absolute().parent)
    return link.parent


def tools() -> pathlib.Path:
    """The Python of an environment with Sphinx, made anew when the requirements change."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "docs.stamp"
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == key):
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        run("making an environment", sys.executable, "-m", "venv", ENVIRONMENT)
        run(
            "installing docs/requirements.txt",
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "-r",
            REQUIREMENTS,
        )
        stamp.write_text(key)
    return python


def build(output: pathlib.Path) -> int:
    """Build every page anew; return their number."""
    if sys.version_info < (3, 12):
        raise Failed("the site needs Python 3.12 or later")
    packages = str(package_folder())
    python = tools()
    shutil.rmtree(output, ignore_errors=True)
    run(
        "the site",
        python,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-E",
        "-b",
        "html",
        "-c",
        ROOT / "docs",
        "-d",
        ROOT / ".cache" / "docs",
        ROOT,
        output,
        env={**os.environ, "PYTHONPATH": packages},
    )
    (output / "index.html").write_text(START)
    return len(list(output.rglob("*.html")))


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the documentation's site.")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "dist" / "site")
    options = parser.parse_args()
    try:
        pages = build(options.output)
    except Failed as failure:
        print(f"aioxide: {failure}", file=sys.stderr)
        return 1
    print(f"{options.output}: {pages} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
