"""Every step that builds, tries and checks aioxide; people and CI call only this.

It needs nothing but Rust and Python 3.11 to 3.15. A step installs everything else that it needs
into a virtual environment in the checkout.
"""

import argparse
import sys
from collections.abc import Callable

from steps.checks import (
    conformance,
    dev,
    docs,
    embedded,
    fmt,
    fuzz,
    layers,
    lint,
    miri,
    sanitizer,
    soak,
    stubtest,
    test,
)
from steps.ci import ci
from steps.demo import WAYS, demo
from steps.downstream import downstream
from steps.matrix import matrix, row
from steps.release import sdist, wheel
from steps.running import Failed, Missing


def parse_arguments() -> argparse.Namespace:
    """The command line: a step and its options."""
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    steps = parser.add_subparsers(metavar="STEP", required=True)

    def add(step: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        sub = steps.add_parser(step.__name__, help=step.__doc__)
        sub.set_defaults(step=step)
        return sub

    sub = add(demo)
    sub.add_argument("--count", type=int, default=1000, help="requests at once (default: 1000)")
    sub.add_argument(
        "--rounds", type=int, default=5, help="rounds, of which the median counts (default: 5)"
    )
    sub.add_argument("--way", choices=WAYS, help="only this one")
    for step in (test, dev, fmt, lint, layers, stubtest, miri, embedded, docs, sdist):
        add(step)
    sub = add(wheel)
    sub.add_argument("--output", default="dist", help="folder of the wheel (default: dist)")
    sub.add_argument(
        "--pgo",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="build twice, the second time by a profile of the first (default: yes)",
    )
    sub = add(fuzz)
    sub.add_argument(
        "targets", nargs="*", metavar="TARGET", help="only these, of fuzz/fuzz_targets"
    )
    sub.add_argument("--seconds", type=int, default=180, help="for each target (default: 180)")
    sub = add(soak)
    sub.add_argument("--seconds", type=int, default=600, help="how long (default: 600)")
    sub = add(conformance)
    sub.add_argument("arguments", nargs="*", help="options of tests/conformance/check.py, after --")
    sub = add(sanitizer)
    sub.add_argument("arguments", nargs="*", help="options of scripts/sanitizer.py, after --")
    for step in (matrix, row, downstream, ci):
        sub = add(step)
        sub.add_argument(
            "--profile", default="ci", help="cargo profile of the wheels (default: ci)"
        )
        if step is row:
            sub.add_argument("name", help="what the row is called")
        else:
            sub.add_argument("versions", nargs="*", metavar="VERSION", help="only these rows")
    return parser.parse_args()


def main() -> int:
    """Take a step; say in one line what it lacks or where it failed."""
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
