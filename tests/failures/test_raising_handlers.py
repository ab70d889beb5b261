"""Signal handlers that raise at random moments: nothing that the loop had fetched is lost.

AIOXIDE_SOAK=1 plays thousands of programs; AIOXIDE_SEED=N begins with another than the first.
"""

import os

import pytest
import storming
from actors import ACTORS

SOAK = os.environ.get("AIOXIDE_SOAK", "") not in ("", "0")
START = int(os.environ.get("AIOXIDE_SEED", "0"))
PROGRAMS = 2_000 if SOAK else 15

pytestmark = [pytest.mark.hung_after(3_600 if SOAK else 120), pytest.mark.leftovers]


def test_programs(aio):
    raised = 0
    for seed in range(START, START + PROGRAMS):
        raised += storming.play(aio, seed, rounds=10 if SOAK else 5)[1]
    assert raised > PROGRAMS, "the handlers have hardly raised"


@pytest.mark.parametrize("actor", [actor.__name__ for actor in ACTORS])
def test_actor(aio, actor):
    for seed in range(START, START + (PROGRAMS // 10 if SOAK else 2)):
        storming.play(aio, seed, [actor], rounds=20 if SOAK else 10)
