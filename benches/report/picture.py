"""Grouped bars as SVG, written by hand so that nothing needs installing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

COLOURS = {
    "asyncio": "#9aa0a6",
    "uvloop": "#4e79a7",
    "zuvloop": "#76b7b2",
    "rsloop": "#8c6bb1",
    "rloop": "#b8a13c",
    "aiofastnet": "#17becf",
    "aioxide": "#f28e2b",
    "aioxide+install": "#d1383d",
    "floor": "#3c4043",
}
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
WIDTH, LEFT, RIGHT, TOP = 920, 250, 70, 112
BAR, BETWEEN = 13, 16


def bars(
    title: str,
    subtitle: str,
    groups: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
    line: tuple[float, str] = (1, "best peer"),
) -> str:
    """An SVG picture: one group per row, one bar per target, a line where the best peer stands.

    Values are times better than the best peer, so longer is better and 1 is that peer. Another line
    may mark another value, with a word for it.
    """
    greatest = max((value for group in groups.values() for value in group.values()), default=1.0)
    greatest = max(greatest, line[0])
    step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 1e9) if greatest / step <= 8)
    scale = (WIDTH - LEFT - RIGHT) / greatest
    body, y = [], TOP
    for row, group in groups.items():
        there = [name for name in names if name in group]
        middle = y + len(there) * BAR / 2
        body.append(_text(LEFT - 12, middle + 4, row, size=13, anchor="end"))
        for name in there:
            length = max(group[name] * scale, 1)
            body.append(
                f"<rect x='{LEFT}' y='{y + 1}' width='{length:.1f}' height='{BAR - 2}' "
                f"fill='{COLOURS[name]}'/>"
            )
            body.append(_text(LEFT + length + 4, y + BAR - 3, f"{group[name]:.2f}", size=10.5))
            y += BAR
        y += BETWEEN
    height = y + 12
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
            f"width='{WIDTH}' height='{height}' {FONT}>",
            f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
            _text(24, 32, title, size=18, weight=600),
            _text(24, 52, subtitle, size=12, colour="#5f6368"),
            *_legend(names),
            *_grid(step, greatest, scale, y - BETWEEN + 4, line),
            *body,
            "</svg>\n",
        ]
    )


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], 24.0
    for name in names:
        parts.append(f"<rect x='{x}' y='66' width='12' height='12' fill='{COLOURS[name]}'/>")
        parts.append(_text(x + 17, 76.5, name, size=12.5))
        x += 40 + 7 * len(name)
    return parts


def _grid(
    step: float, greatest: float, scale: float, bottom: float, line: tuple[float, str]
) -> list[str]:
    parts = []
    special, word = line
    marks = [mark * step for mark in range(int(greatest / step) + 1)]
    for mark in marks if special in marks else [*marks, special]:
        x = LEFT + mark * scale
        colour = "#5f6368" if mark == special else "#e3e5e8"
        dash = " stroke-dasharray='4 3'" if mark == special else ""
        parts.append(
            f"<line x1='{x:.1f}' y1='{TOP - 6}' x2='{x:.1f}' y2='{bottom}' "
            f"stroke='{colour}'{dash}/>"
        )
        label = word if mark == special and scale > 60 else f"{mark:g}"
        parts.append(_text(x, TOP - 11, label, size=11, anchor="middle", colour="#5f6368"))
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    anchor: str = "start",
    weight: int = 400,
    colour: str = "#202124",
) -> str:
    """Text with a white edge, so that a line behind it does not cross it."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' "
        f"text-anchor='{anchor}' fill='{colour}' stroke='#ffffff' stroke-width='3' "
        f"paint-order='stroke'>{escape(text)}</text>"
    )
