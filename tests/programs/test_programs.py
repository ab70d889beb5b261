"""Random programs see the same on asyncio's loop, on aioxide's, and after install().

AIOXIDE_SOAK=1 plays a million operations of each kind (a hundred thousand with a Runner);
AIOXIDE_SEED=N begins with another program than the first.
"""

import os
import subprocess
import sys

import pytest
from catalogue import PROGRAMS, digest
from playing import Place
from waiting import KINDS

FAMILY = (*KINDS, "everything")
SOAK = os.environ.get("AIOXIDE_SOAK", "") not in ("", "0")
START = int(os.environ.get("AIOXIDE_SEED", "0"))
HERE = os.path.dirname(os.path.abspath(__file__))
# Programs that are played in one process after install(), at a time.
BATCH = 500 if SOAK else 20

pytestmark = pytest.mark.hung_after(7200 if SOAK else 120)


def operations(name):
    if name == "runner":
        return 100_000 if SOAK else 400
    if SOAK:
        return 1_000_000
    return 4_000 // len(FAMILY) if name in FAMILY else 1_000


def installed(name, start, count):
    """Digests of programs played in a process where everything is installed."""
    command = [sys.executable, os.path.join(HERE, "installed.py"), name, str(start), str(count)]
    path = os.pathsep.join([HERE, *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, agree):
    places = {place: Place(place) for place in ("asyncio", "aioxide", "loop alone", "asyncio's loop")}
    seed, done, digests = START, 0, []
    while done < operations(name):
        model, count = places["asyncio"].play(PROGRAMS[name], seed)
        for place in places:
            # of many programs, each eighth goes round everywhere
            if place != "asyncio" and (place == "aioxide" or not SOAK or seed % 8 == 0):
                trace, _ = places[place].play(PROGRAMS[name], seed)
                assert trace == model, f"seed {seed}: {place} and asyncio differ"
        digests.append(digest(model))
        done += count
        seed += 1
    for place in places.values():
        place.close()
    for batch in range(0, len(digests), BATCH * (8 if SOAK else len(digests))):
        expected = digests[batch : batch + BATCH]
        found = installed(name, START + batch, len(expected))
        assert found == expected, f"after install(), from seed {START + batch} on"
    print(f"{name}: {done} operations in {seed - START} programs")
