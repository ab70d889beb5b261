"""Tests of CPython that aioxide is known not to pass.

The one place for them: `check.py` reads it, docs/compatibility.md explains it.
A test that fails, is not listed here and passes with asyncio itself on the
same machine fails the run. A listed test that passes is reported, so that its
line can go.
"""

import dataclasses
import fnmatch

EVERY = ("3.11", "3.12", "3.13", "3.14", "3.15")

# The levels. Each runs every module of test_asyncio.
LEVELS = ("loop", "full")

@dataclasses.dataclass(frozen=True)
class Expected:
    """A pattern of test ids ("module.class.method") that fail, and why."""

    pattern: str
    reason: str
    levels: tuple = ("loop", "full")
    pythons: tuple = EVERY

    def matches(self, test_id, level, python):
        """Whether it speaks of this test at this level on "3.X"."""
        return (level in self.levels and python in self.pythons
                and fnmatch.fnmatchcase(test_id, self.pattern))


# Keep patterns narrow: one test, or one test in several classes.
EXPECTED = ()
