"""Threads misuse everything that two loops work on: nothing crashes or hangs, nothing is lost.

AIOXIDE_SEEDS=N plays N programs, AIOXIDE_SEED=N begins with another than the first.
"""

import os

import pytest

import trying

SOAK = os.environ.get("AIOXIDE_SOAK", "") not in ("", "0")
FIRST = int(os.environ.get("AIOXIDE_SEED", "0"))
SEEDS = int(os.environ.get("AIOXIDE_SEEDS", "3000" if SOAK else "2"))

# Where asyncio itself is not safe: see README.md.
pytestmark = [pytest.mark.aioxide_alone, pytest.mark.hung_after(10_000 if SOAK else 300)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return trying.write_certificate(tmp_path_factory.mktemp("certificate"))


def play(aio, tmp_path, certificate, *options):
    for seed in range(FIRST, FIRST + SEEDS):
        played = trying.play(
            aio.__name__, seed, *options, folder=tmp_path, certificate=certificate
        )
        assert not played.wrong, str(played)
        assert played.result["unknown"] == [], "parameters that calling.py knows no argument for"
        assert played.result["counts"]["calls"] > 100


def test_everything_at_once(aio, tmp_path, certificate):
    play(aio, tmp_path, certificate, "--seconds", 1)


# What has the most ways in from other threads, each with all calls on it alone.
@pytest.mark.parametrize(
    "kinds",
    [
        ["loop", "handle", "timer handle"],
        ["future", "task", "gathering future", "shielding future"],
        ["lock", "event", "condition", "semaphore", "barrier"],
        ["queue", "ordered queue"],
        ["reader", "writer", "stream protocol", "stream transport"],
        ["coroutine", "iterator", "completed iterator"],
        ["spare loop", "executor", "default executor"],
    ],
    ids=lambda kinds: kinds[0].replace(" ", "_"),
)
def test_some_kinds(aio, tmp_path, certificate, kinds):
    play(aio, tmp_path, certificate, "--seconds", 0.4, *(f"--kind={kind}" for kind in kinds))
