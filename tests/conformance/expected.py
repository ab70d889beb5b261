"""Tests of CPython that aioxide is known not to pass, and what is run.

The one place for both: `check.py` reads it, docs/compatibility.md explains it.
A test that fails, is not listed here and passes with asyncio itself on the
same machine fails the run. A listed test that passes is reported, so that its
line can go.
"""

import dataclasses
import fnmatch

EVERY = ("3.11", "3.12", "3.13", "3.14", "3.15")

# What each level runs.
MODULES = {
    "loop": (
        "test_base_events", "test_buffered_proto", "test_context",
        "test_eager_task_factory", "test_events", "test_futures",
        "test_futures2", "test_locks", "test_pep492", "test_queues",
        "test_runners", "test_selector_events", "test_sendfile", "test_server",
        "test_sock_lowlevel", "test_streams", "test_subprocess",
        "test_taskgroups", "test_tasks", "test_threads", "test_timeouts",
        "test_transports", "test_unix_events", "test_waitfor",
    ),
    "full": (
        "test_context", "test_eager_task_factory", "test_futures",
        "test_futures2", "test_tasks",
    ),
}


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
