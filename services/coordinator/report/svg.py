"""Small tools to draw with: elements, scales, ticks, figures. Knows nothing of runs or metrics.

Every text that enters an element is escaped; an element is therefore markup that may stand in a page as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

Child = Markup | str


def element(name: str, *children: Child, **attributes: object) -> Markup:
    """Return an SVG element; `class_` stands for class, `_` for `-`, None leaves an attribute out.

    >>> str(element("text", "a < b", x=1.25, class_="tick"))
    '<text x="1.2" class="tick">a &lt; b</text>'
    """
    written = [f' {_name(key)}="{escape(_value(value))}"' for key, value in attributes.items() if value is not None]
    inner = Markup("").join(children)
    # Only escaped values were put together.
    return Markup(f"<{name}{''.join(written)}>{inner}</{name}>")


def _name(key: str) -> str:
    return {"viewBox": "viewBox"}.get(key, key.rstrip("_").replace("_", "-"))


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def picture(width: int, height: int, title: str, description: str, *children: Child, key: str) -> Markup:
    """Return a whole drawing that scales with its column and speaks to a screen reader.

    Args:
        width: In its own units.
        height: In its own units.
        title: What it is.
        description: What it says, in words.
        children: What is drawn.
        key: Unique in the page.
    """
    named = [element("title", title, id=f"{key}-t"), element("desc", description, id=f"{key}-d")]
    return element(
        "svg",
        *named,
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
        class_="chart",
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to positions. With `bend`, equal steps far from 0 count for less (asinh), and 0 stays in place."""

    low: float
    high: float
    start: float
    end: float
    bend: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of `value`; what lies outside is put at the edge."""
        low, high, inside = (self._bent(v) for v in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.start + (inside - low) / (high - low) * (self.end - self.start)

    def _bent(self, value: float) -> float:
        return math.asinh(value) if self.bend else value


def covering(values: Iterable[float], start: float, end: float, margin: float = 0.06) -> Scale:
    """Return a scale that shows all values with a little room; equal values get a unit of room."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = (high - low) * margin or abs(high) * 0.1 or 1.0
    # What cannot be negative is not shown on an axis that says it could be.
    return Scale(max(0.0, low - room) if low >= 0 else low - room, high + room, start, end)


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Return round values inside [low, high], at most `most` of them, in equal steps.

    >>> ticks(0.31, 0.52)
    [0.35, 0.4, 0.45, 0.5]
    """
    span = high - low
    for exponent in range(math.floor(math.log10(span)) - 2, math.floor(math.log10(span)) + 2):
        for mantissa in (1, 2, 5):
            step = mantissa * 10.0**exponent
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= most:
                return [round(number * step, 12) for number in range(first, last + 1)]
    return []


def figure(value: float) -> str:
    """Return a number as a person wants to read it: three significant digits, thousands set apart.

    >>> [figure(v) for v in (0.12345, 12.345, 262.4, 45678.9, 0, -0.00001, 3.0)]
    ['0.123', '12.3', '262', '45,679', '0', '-1e-05', '3.00']
    """
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.001 else f"{value:.1g}"


def tick_label(value: float, others: Sequence[float]) -> str:
    """Return `value` with as many decimals as tell it from the other ticks."""
    steps = [abs(a - b) for a, b in pairwise(others)] or [abs(value) or 1.0]
    decimals = max(0, -math.floor(math.log10(min(steps)) + 1e-9))
    return f"{value:,.{decimals}f}"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near the wanted ones, at least `gap` apart and in their order, between low and high if they fit.

    >>> spread([10.0, 11.0, 50.0], gap=8, low=0, high=100)
    [10.0, 18.0, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed: list[float] = [0.0] * len(wanted)
    before = low - gap
    for index in order:
        before = placed[index] = max(wanted[index], before + gap)
    after = high + gap
    for index in reversed(order):
        after = placed[index] = min(placed[index], after - gap)
    return placed


def path(points: Sequence[tuple[float, float]], closed: bool = False) -> str:
    """Return the data of a path through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("Z" if closed else "")


_SHAPES = {
    "circle": [(math.cos(math.pi * n / 8), math.sin(math.pi * n / 8)) for n in range(16)],
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1.15), (1.1, 0.8), (-1.1, 0.8)],
    "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
    "wedge": [(0, 1.15), (1.1, -0.8), (-1.1, -0.8)],
}
SHAPES = tuple(_SHAPES)
"""Marks that tell arms apart without colour."""
_COLOURS = 6


def look(place: int) -> tuple[str, str]:
    """Return (CSS class that gives the colour, shape of the marks) of the line at a place."""
    return f"arm{place % _COLOURS}", SHAPES[place % len(SHAPES)]


def mark(shape: str, x: float, y: float, size: float, tip: str | None = None, **attributes: object) -> Markup:
    """Return a mark at a point; `tip` shows where a mouse rests on it."""
    outline = path([(x + dx * size, y + dy * size) for dx, dy in _SHAPES[shape]], closed=True)
    return element("path", *([element("title", tip)] if tip else []), d=outline, **attributes)
