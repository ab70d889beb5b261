"""Random programs as scenarios: each round plays the next seed."""

import itertools
import pathlib
import sys

from scenarios import ALL

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "programs")]

from catalogue import PROGRAMS  # noqa: E402
from playing import Place  # noqa: E402


def add(name):
    seeds = itertools.count()
    places = {}

    def play(aio):
        place = places.get(aio)
        if place is None:
            place = places[aio] = Place(aio.__name__)
        # checks by itself that none of the program's objects is alive
        place.play(PROGRAMS[name], next(seeds))

    ALL[f"programs_{name}"] = play


for name in ("everything", "futures", "reading"):
    add(name)
