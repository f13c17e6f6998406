"""A line chart as SVG: both axes logarithmic, each line named at its end. Nothing but text is needed to draw one."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Line = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 60, 250, 40, 50
LABEL_PX = 15
"""The least distance between the names of two lines."""
COLORS = (
    "#1b6ca8",
    "#c23b22",
    "#2e7d32",
    "#7b4ea3",
    "#b8860b",
    "#00838f",
    "#ad1457",
    "#5d4037",
    "#616161",
    "#e07b00",
)


def line_chart(
    title: str,
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    tick: Callable[[float], str],
) -> str:
    """Return a chart of lines of (x, y), y above 0.

    Args:
        title: stands above it.
        lines: by name. An x of 0, which has no logarithm, stands left of the others behind dashes.
        x_label: what x is.
        y_label: what y is.
        tick: how an x is written.
    """
    xs = sorted({x for line in lines.values() for x, _ in line})
    ys = [y for line in lines.values() for _, y in line]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    above = [math.log10(x) for x in xs if x] or [0.0]
    begin = LEFT + (90 if xs[0] == 0 else 0)

    def across(x: float) -> float:
        if x == 0:
            return LEFT
        share = (math.log10(x) - above[0]) / ((above[-1] - above[0]) or 1)
        return begin + share * (WIDTH - RIGHT - begin)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(y) - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 20, title, size=15),
        _text(LEFT, HEIGHT - 8, x_label),
        _text(8, TOP - 8, y_label),
    ]
    for power in range(low, high + 1):
        y = down(10.0**power)
        parts += [
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>',
            _text(LEFT - 8, y + 4, f"{10.0**power:g}", anchor="end"),
        ]
    parts += [_text(across(x), HEIGHT - BOTTOM + 18, tick(x), anchor="middle") for x in xs]
    ends = _apart({name: down(line[-1][1]) for name, line in lines.items()})
    for number, (name, line) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        points = [(across(x), down(y)) for x, y in line]
        cut = 1 if line[0][0] == 0 else 0
        for part, dashes in ((points[: cut + 1], ' stroke-dasharray="3 4"'), (points[cut:], "")):
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in part)
            parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
        parts.append(_text(points[-1][0] + 10, ends[name] + 4, f"{name}: {line[-1][1]:.3g}", color=color))
    return "\n".join([*parts, "</svg>\n"])


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """Return places that are moved down as far as names must not overlap, then up from the bottom edge."""
    ordered = sorted(places, key=places.__getitem__)
    moved: list[float] = []
    for name in ordered:
        moved.append(max(places[name], moved[-1] + LABEL_PX) if moved else places[name])
    lowest = float(HEIGHT - BOTTOM)
    for at in range(len(moved) - 1, -1, -1):
        moved[at] = min(moved[at], lowest)
        lowest = moved[at] - LABEL_PX
    return dict(zip(ordered, moved, strict=True))


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, color: str = "#222222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">'
        f"{escape(text)}</text>"
    )
