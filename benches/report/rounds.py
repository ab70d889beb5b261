"""Rounds, in each of which every measurement has its turn."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from .progress import progress

Row = TypeVar("Row", bound=Hashable)
Sample = TypeVar("Sample")


def collect(
    rounds: int,
    turns: Sequence[tuple[Row, str]],
    title: Callable[[Row], str],
    measure: Callable[[Row, str], Sample],
) -> tuple[dict[Row, dict[str, list[Sample]]], dict[str, str]]:
    """All samples by row and target, and the failures with their reasons. `turns` are the pairs of
    a row and a target. A pair that has failed gets no further turn; Ctrl-C ends the rounds
    early."""
    samples: dict[Row, dict[str, list[Sample]]] = {row: {} for row, _ in turns}
    failed: dict[str, str] = {}
    try:
        for turn in range(rounds):
            for row, target in turns:
                what = f"{title(row)} on {target}"
                if what in failed:
                    continue
                progress(f"round {turn + 1} of {rounds}: {what}")
                try:
                    sample = measure(row, target)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    failed[what] = str(error)
                    continue
                samples[row].setdefault(target, []).append(sample)
    except KeyboardInterrupt:
        failed["the run"] = "ended early by Ctrl-C"
    progress("")
    return samples, failed
