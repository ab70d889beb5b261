"""Statistics of rounds: medians with their spread, and the best target."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some rounds with their least and greatest value."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The spread of at least one sample."""
        return cls(statistics.median(samples), min(samples), max(samples), len(samples))

    def text(self) -> str:
        """Median and range, for a table cell; one round has no range."""
        if self.rounds == 1:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


def spreads(
    samples: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]], figure: str
) -> dict[str, dict[str, Spread]]:
    """The spread of one figure of the samples, by row and target; rows without any are left out."""
    return {
        row: {name: Spread.of([one[figure] for one in them]) for name, them in named.items()}
        for row, named in samples.items()
        if named
    }


def number(value: float) -> str:
    """Three significant digits, or a whole number with thousands marked."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def best(
    spreads: Mapping[str, Spread], candidates: Iterable[str], *, greatest: bool = False
) -> str | None:
    """The candidate with the least (or greatest) median; asyncio where none is there."""
    there = [name for name in candidates if name in spreads]
    if not there:
        return "asyncio" if "asyncio" in spreads else None
    choose = max if greatest else min
    return choose(there, key=lambda name: spreads[name].median)


def advantage(
    spreads: Mapping[str, Spread], name: str, base: str, *, greatest: bool = False
) -> float:
    """How many times better `name` is than `base`, above 1 being better, from their medians."""
    own, other = spreads[name].median, spreads[base].median
    return own / other if greatest else other / own
