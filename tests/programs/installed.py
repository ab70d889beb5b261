"""Plays programs after install(), and prints what became of each: NAME START COUNT.

A process of its own, as what is installed stays with what has been imported.
"""

import logging
import sys

from catalogue import PROGRAMS, digest
from playing import Place

import aioxide


def main():
    name, start, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    logging.disable(logging.CRITICAL)
    aioxide.install()
    place = Place("installed")
    for seed in range(start, start + count):
        print(digest(place.play(PROGRAMS[name], seed)[0]), flush=True)


if __name__ == "__main__":
    main()
