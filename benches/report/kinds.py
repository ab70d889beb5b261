"""The kinds of the programs of micro/: how one is measured, and what its figure is."""

from __future__ import annotations

import enum
from types import ModuleType


class Kind(enum.Enum):
    """The value names the figure."""

    REPEATED = "nanoseconds per operation"
    ONCE = "nanoseconds per operation of a single pass in a fresh process"
    BYTES = "resident bytes"


def kind_of(program: ModuleType) -> Kind:
    """The kind that a program says it is, by its constants."""
    if getattr(program, "BYTES", False):
        return Kind.BYTES
    return Kind.ONCE if getattr(program, "ONCE", False) else Kind.REPEATED
