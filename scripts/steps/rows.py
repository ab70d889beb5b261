"""The results of the tests on one Python: counted, written down, and put into one table."""

import json
import pathlib
import platform
import sys
import tempfile
import xml.etree.ElementTree
from collections.abc import Callable, Sequence
from typing import Any

from .environment import CACHE, Environment
from .running import Failed, Word

# If more tests than this fail, a busy machine is not the reason.
MOST_REPEATED = 20

# The counts of what is wrong, and the element that pytest's report has in such a test.
FAILING = {"failures": "failure", "errors": "error"}


class Row:
    """The counts of one Python, in a file from which `print_table` reads them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = _file(name)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.unlink(missing_ok=True)
        self.result: dict[str, Any] = {"python": platform.python_version(), "build": "failed"}
        self._failures: list[str] = []

    def attempt(self, title: str, step: Callable[..., None], *arguments: Any) -> None:
        """Take a step; when it fails, remember that and go on with the next one."""
        try:
            step(*arguments)
        except Failed as failure:
            print(failure, file=sys.stderr, flush=True)
            self._failures.append(title)

    def pytest(self, env: Environment, step: Callable[..., None], *arguments: Word) -> None:
        """Take the step that runs pytest, and count its tests.

        Tests that fail run again by themselves, as those of the conformance check do: some depend
        on time, and fail where the machine is busy. What fails then has failed.
        """
        with tempfile.TemporaryDirectory() as folder:
            report, again = (pathlib.Path(folder) / name for name in ("pytest.xml", "again.xml"))
            # The failures are remembered in a folder of this run's own.
            options = [*arguments, "-o", f"cache_dir={folder}/cache"]
            try:
                step(env, f"--junitxml={report}", *options)
            except Failed as failure:
                print(failure, file=sys.stderr, flush=True)
                names = _failing(report)
                if 0 < len(names) <= MOST_REPEATED:
                    print(f"again by themselves: {', '.join(names)}", flush=True)
                    options.append("--last-failed")
                    self.attempt("pytest", step, env, f"--junitxml={again}", *options)
                else:
                    self._failures.append("pytest")
            if report.exists():
                counts = self.result["pytest"] = _pytest_counts(report)
                counts["again"] = 0
                if again.exists():
                    counts["again"] = len(names)
                    counts.update({key: _pytest_counts(again)[key] for key in FAILING})
                print(f"slowest files: {_slowest(report)}", flush=True)

    def conformance(self, env: Environment, step: Callable[..., None], *arguments: Word) -> None:
        """Take the step that runs CPython's tests, and keep its verdict on each level."""
        with tempfile.TemporaryDirectory() as folder:
            verdicts = pathlib.Path(folder) / "conformance.json"
            self.attempt("conformance", step, env, "--json", verdicts, *arguments)
            if verdicts.exists():
                self.result.update(json.loads(verdicts.read_text()))

    def finish(self) -> None:
        """Write the counts down; fail if a step has failed."""
        self.file.write_text(json.dumps(self.result))
        if self._failures:
            raise Failed(f"Python {self.name}: failed: {', '.join(self._failures)}")


def _file(name: str) -> pathlib.Path:
    return CACHE / "rows" / f"{name}.json"


def _failing(report: pathlib.Path) -> list[str]:
    """The tests that failed, by name; none if there is no report."""
    if not report.exists():
        return []
    cases = xml.etree.ElementTree.parse(report).iter("testcase")
    bad = [case for case in cases if any(case.find(kind) is not None for kind in FAILING.values())]
    return [f"{case.get('classname')}.{case.get('name')}" for case in bad]


def _pytest_counts(report: pathlib.Path) -> dict[str, int]:
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in xml.etree.ElementTree.parse(report).iter("testsuite"):
        for key in counts:
            counts[key] += int(suite.get(key, 0))
    return counts


def _slowest(report: pathlib.Path) -> str:
    """The test files that take longest, with their seconds."""
    seconds: dict[str, float] = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "")
        seconds[name] = seconds.get(name, 0) + float(case.get("time", 0))
    longest = sorted(seconds.items(), key=lambda item: -item[1])[:12]
    return ", ".join(f"{name} {time:.0f} s" for name, time in longest)


def print_table(wanted: Sequence[str], missing: Sequence[str]) -> None:
    """One row for each Python: its tests and both levels of conformance."""
    print(f"\n{'':10}{'':10}{'':8}{'pytest':>8}{'':23}{'loop':>7}{'':22}{'full':>7}")
    level = f"{'ran':>7}{'passed':>8}{'listed':>8}{'worse':>6}"
    tests = f"{'ran':>8}{'failed':>8}{'again':>7}{'skipped':>8}"
    print(f"{'row':10}{'python':10}{'build':8}{tests}{level}{level}")
    for name in wanted:
        if name in missing or not _file(name).exists():
            print(f"{name:10}{'missing' if name in missing else 'no result'}")
            continue
        result = json.loads(_file(name).read_text())
        line = f"{name:10}{result['python']:10}{result['build']:8}"
        counts = result.get("pytest")
        if counts:
            bad = counts["failures"] + counts["errors"]
            line += f"{counts['tests']:>8}{bad:>8}{counts['again']:>7}{counts['skipped']:>8}"
        else:
            line += f"{'-':>8}{'-':>8}{'-':>7}{'-':>8}"
        for kind in ("loop", "full"):
            verdict = result.get(kind)
            if verdict:
                line += (
                    f"{verdict['counts']['ran']:>7}"
                    f"{verdict['counts']['passed']:>8}"
                    f"{len(verdict['expected']):>8}"
                    f"{len(verdict['unexpected']):>6}"
                )
            else:
                line += f"{'-':>7}{'-':>8}{'-':>8}{'-':>6}"
        print(line)
    if any(name.endswith("t") for name in wanted):
        print(
            "3.14t, 3.15t: free-threaded builds, without the GIL; pytest runs tests/loop, "
            "tests/sync and tests/threads, on aioxide alone."
        )
    print(flush=True)
