"""Writes a report's files and prints its text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from report import table, targets
from report.spread import Spread, advantage, best

FOLDER = Path(__file__).resolve().parent.parent / "results"


def write(
    folder: Path,
    name: str,
    head: Mapping[str, str],
    text: str,
    data: object,
    pictures: Mapping[str, str],
) -> None:
    """Print the report and leave NAME.md, NAME.json and the pictures in `folder`."""
    page = f"# {name}\n\n{table.facts(head)}\n\n{text}\n"
    print(page)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        f"{name}.md": page,
        f"{name}.json": json.dumps({"head": dict(head), "results": data}, indent=1) + "\n",
        **{f"{picture}.svg": drawn for picture, drawn in pictures.items()},
    }
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
        print(f"wrote {folder / file}")


def ratios(
    results: Mapping[str, Mapping[str, Spread]],
    *,
    greatest: bool = False,
    bases: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, float]]:
    """Each target's advantage over the best peer of its row, for a picture."""
    drawn: dict[str, dict[str, float]] = {}
    for row, spreads in results.items():
        base = best(spreads, (bases or {}).get(row, targets.PEERS), greatest=greatest)
        if base is not None:
            drawn[row] = {
                name: advantage(spreads, name, base, greatest=greatest) for name in spreads
            }
    return drawn
