"""Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from report import targets
from report.spread import Spread, advantage, best


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that it also reads well in a terminal."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def comparison(
    results: Mapping[str, Mapping[str, Spread]],
    names: Sequence[str],
    *,
    greatest: bool = False,
    bases: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """One line per row, one column per target, then the ratio of each of ours to the best peer.

    `bases` names other candidates than the peers for single rows.
    """
    own = [name for name in names if name in targets.OWN]
    rows = []
    for row, spreads in results.items():
        base = best(spreads, (bases or {}).get(row, targets.PEERS), greatest=greatest)
        cells = [spreads[name].text() if name in spreads else "–" for name in names]
        for name in own:
            if base is None or name not in spreads:
                cells.append("–")
            else:
                cells.append(f"{advantage(spreads, name, base, greatest=greatest):.2f}× {base}")
        rows.append([row, *cells])
    return markdown(["", *names, *(f"{name} to best peer" for name in own)], rows)


def facts(head: Mapping[str, str]) -> str:
    """The head of a report as a Markdown list."""
    return "\n".join(f"- {name}: {value}" for name, value in head.items())
