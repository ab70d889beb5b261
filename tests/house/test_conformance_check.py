"""tests/conformance/check.py: what it says of tests that fail.

A runner that plays given outcomes stands for conformance.py, so that a test can fail once.
"""

import json
import pathlib
import subprocess
import sys

import pytest

CONFORMANCE = pathlib.Path(__file__).resolve().parents[1] / "conformance"

# Each run takes the next outcome of the tests that it is asked for; the last one stays.
RUNNER = """
import argparse, collections, json, pathlib, sys

HERE = pathlib.Path(__file__).parent
COLUMNS = {"pass": "passed", "skip": "skipped", "listed": "", "fail": "failed", "error": "errored", "crash": "crashed",
           "hang": "hung", "off-target": "off-target"}
parser = argparse.ArgumentParser()
for name in ("target", "jobs", "json", "modules", "match"):
    parser.add_argument("--" + name)
parser.add_argument("--list", action="store_true")
options = parser.parse_args()
with open(HERE / "runs", "a") as file:
    file.write(f"{options.target} {options.modules} {options.match} {'list' if options.list else options.jobs}\\n")
plan = json.loads((HERE / "plan.json").read_text())
target = options.target.partition(":")[0]
tests = {}
for name, outcomes in plan[target].items():
    if options.list:
        tests[name] = {"outcome": "listed"}
    elif options.match in (None, name):
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if outcome != "missing":
            tests[name] = {"outcome": outcome}
(HERE / "plan.json").write_text(json.dumps(plan))
total = collections.Counter(COLUMNS[test["outcome"]] for test in tests.values())
total = {name: total[name] for name in COLUMNS.values()}
total["ran"] = len(tests) - total["off-target"] - total["skipped"]
pathlib.Path(options.json).write_text(json.dumps({"tests": tests, "total": total}))
print("output of the runner")
sys.exit(1 if any(test["outcome"] not in ("pass", "off-target") for test in tests.values()) else 0)
"""

# check.py with the other runner, on a Python that need not have asyncio's tests.
DRIVER = """
import pathlib, sys
sys.path.insert(0, sys.argv.pop(1))
import check
check.RUNNER = pathlib.Path(sys.argv.pop(1))
check.has_suite = lambda: True
sys.exit(check.main())
"""

FLAKY = "test_tasks.Tests.test_flaky"
SOUND = "test_tasks.Tests.test_sound"


@pytest.fixture
def check(tmp_path):
    """check(asyncio, aioxide): its exit status, verdict, output and the runs that it made. Both
    are {test: its outcomes in the order of the runs}."""

    def check(**plan):
        (tmp_path / "runner.py").write_text(RUNNER)
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        command = [sys.executable, "-c", DRIVER, CONFORMANCE, tmp_path / "runner.py"]
        command += ["--level", "loop", "--jobs", "2", "--json", tmp_path / "verdict.json"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr == ""
        verdict = json.loads((tmp_path / "verdict.json").read_text())["loop"]
        runs = (tmp_path / "runs").read_text().splitlines()
        return done.returncode, verdict, done.stdout, runs

    return check


FIRST = ["asyncio:loop None None list", "aioxide:loop None None 2"]
AGAIN = [
    f"asyncio:loop test_tasks {FLAKY} 1",
    f"aioxide:loop test_tasks {FLAKY} 1",
]


def test_nothing_runs_on_asyncio_where_all_is_well(check):
    status, verdict, output, runs = check(
        asyncio={SOUND: ["pass"], FLAKY: ["fail"]}, aioxide={SOUND: ["pass"], FLAKY: ["skip"]}
    )
    assert (status, verdict["repeated"], verdict["native"]) == (0, [], [])
    assert runs == FIRST
    assert "repeated" not in output


@pytest.mark.parametrize(
    ("first", "column"),
    [("fail", "failed"), ("error", "errored"), ("crash", "crashed"), ("hang", "hung"), ("missing", None)],
)
def test_a_test_that_fails_once(check, first, column):
    status, verdict, output, runs = check(
        asyncio={SOUND: ["pass"], FLAKY: ["pass"]},
        aioxide={SOUND: ["pass"], FLAKY: [first, "pass"]},
    )
    assert runs == [*FIRST, *AGAIN]
    assert status == 0
    assert verdict["unexpected"] == []
    assert verdict["repeated"] == [
        {"test": FLAKY, "first": first, "asyncio": "pass", "aioxide": "pass"}
    ]
    assert (verdict["counts"]["ran"], verdict["counts"]["passed"]) == (2, 2)
    assert column is None or verdict["counts"][column] == 0
    assert f"{FLAKY}: {first} at first, then pass (asyncio: pass)" in output
    assert output.endswith("2 passed, 0 failed; 1 repeated by themselves\n")


@pytest.mark.parametrize("second", ["fail", "hang", "missing"])
def test_a_test_that_does_worse_again(check, second):
    status, verdict, output, runs = check(
        asyncio={SOUND: ["pass"], FLAKY: ["pass"]},
        aioxide={SOUND: ["pass"], FLAKY: ["fail", second]},
    )
    assert runs == [*FIRST, *AGAIN]
    assert (status, verdict["unexpected"]) == (1, [FLAKY])
    assert verdict["repeated"] == [
        {"test": FLAKY, "first": "fail", "asyncio": "pass", "aioxide": second}
    ]
    assert "FAILS, though it passes with asyncio: 1" in output


def test_a_test_that_fails_on_asyncio_too(check):
    status, verdict, output, runs = check(asyncio={FLAKY: ["fail"]}, aioxide={FLAKY: ["fail"]})
    assert runs == [*FIRST, *AGAIN]
    assert (status, verdict["unexpected"], verdict["native"]) == (0, [], [FLAKY])
    assert f"{FLAKY}: fail at first, then fail (asyncio: fail)" in output


def test_a_test_that_asyncio_skips_may_be_missing(check):
    status, verdict, _, _ = check(asyncio={FLAKY: ["skip"]}, aioxide={FLAKY: ["missing"]})
    assert (status, verdict["unexpected"], verdict["native"]) == (0, [], [])


def test_each_is_repeated_by_itself(check):
    names = [f"test_tasks.Tests.test_{number}" for number in range(20)]
    status, verdict, _, runs = check(
        asyncio=dict.fromkeys(names, ["pass"]), aioxide=dict.fromkeys(names, ["fail", "pass"])
    )
    assert (status, verdict["unexpected"]) == (0, [])
    assert [test["test"] for test in verdict["repeated"]] == names
    assert len(runs) == 2 + 2 * len(names)


def test_many_are_no_accident(check):
    names = [f"test_tasks.Tests.test_{number}" for number in range(21)]
    native = {**dict.fromkeys(names, ["pass"]), names[0]: ["fail"]}
    status, verdict, output, runs = check(
        asyncio=native, aioxide=dict.fromkeys(names, ["fail", "pass"])
    )
    assert (status, verdict["unexpected"], verdict["repeated"]) == (1, names[1:], [])
    assert verdict["native"] == names[:1]
    assert runs == [*FIRST, "asyncio:loop None None 2"]
    assert "21 tests fail: too many" in output
