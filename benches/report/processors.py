"""Which processors the measured process and its load run on, and at which priority."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass

# Linux's lowest real-time priority, which is before every process without one.
PRIORITY = 1


@dataclass(frozen=True)
class Processors:
    """The processor of the measured process and that of the load, None for any, and whether both
    have FIFO priority."""

    measured: int | None = None
    load: int | None = None
    fifo: bool = False

    def enter_measured(self) -> None:
        """What the measured process does first."""
        self._enter(self.measured)

    def enter_load(self) -> None:
        """What the process of the load does first."""
        self._enter(self.load)

    def _enter(self, processor: int | None) -> None:
        if processor is not None:
            os.sched_setaffinity(0, {processor})
        if self.fifo:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))

    def text(self) -> str:
        """For the head of a report."""
        if self.measured is None:
            return "any"
        if self.measured != self.load:
            return f"measured process on {self.measured}, load on {self.load}"
        return f"both on {self.measured}, FIFO priority {PRIORITY if self.fifo else 'refused'}"


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add --processors."""
    parser.add_argument(
        "--processors",
        choices=("two", "one", "any"),
        default="two" if len(os.sched_getaffinity(0)) > 1 else "any",
        help="two: the measured process on the first, the load on the second (default where there "
        "are two); one: both on the first, at FIFO priority; any: where the kernel puts them",
    )


def chosen(way: str) -> Processors:
    """The processors of an option's value; ValueError where there are too few."""
    there = sorted(os.sched_getaffinity(0))
    if way == "any":
        return Processors()
    if way == "two":
        if len(there) < 2:
            raise ValueError("--processors two needs two processors")
        return Processors(there[0], there[1])
    fifo = _fifo_allowed()
    if not fifo:
        print(
            "FIFO priority is refused (it needs root, CAP_SYS_NICE or `ulimit -r 1`): whatever "
            "else runs on the processor disturbs the figures",
            file=sys.stderr,
        )
    return Processors(there[0], there[0], fifo)


def _fifo_allowed() -> bool:
    """Whether this process may have FIFO priority, and so its children."""
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        return False
    os.sched_setscheduler(0, policy, parameter)
    return True
