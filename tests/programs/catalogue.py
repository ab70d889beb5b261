"""All kinds of programs, by name."""

import functools
import hashlib

from futures import Futures
from reading import Reading
from running import Running
from waiting import KINDS, Waiting

PROGRAMS = {kind: functools.partial(Waiting, kind=kind) for kind in KINDS}
PROGRAMS |= {"everything": Waiting, "futures": Futures, "reading": Reading, "runner": Running}


def digest(trace):
    """A short text for a trace."""
    return hashlib.sha256(repr(trace).encode()).hexdigest()[:16]
