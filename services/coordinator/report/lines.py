"""A metric over the generations: one line for each arm with its interval, and the human reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from services.coordinator.report.svg import (
    Scale,
    covering,
    element,
    figure,
    look,
    mark,
    path,
    picture,
    spread,
    tick_label,
    ticks,
)
from services.coordinator.report.view import Point, RunView, value_of

WIDTH, HEIGHT = 330, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 48, 12, 172

Bounded = tuple[float, float | None, float | None]
Read = Callable[[Point], Bounded | None]


@dataclass(frozen=True, slots=True)
class Spot:
    """One generation in one line."""

    number: int
    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: the mean over the seeds, and each seed."""

    name: str
    style: str
    """CSS class that gives the colour."""
    shape: str
    spots: tuple[Spot, ...]
    seeds: tuple[tuple[Spot, ...], ...] = ()


def arm_style(view: RunView, arm: str) -> tuple[str, str]:
    """Return (CSS class, shape of the marks) of an arm; a human arm is always the first kind."""
    others = [one.name for one in view.arms if one.protocol != "human"]
    humans = [one.name for one in view.arms if one.protocol == "human"]
    position = [*humans, *others].index(arm) + (0 if humans else 1)
    return look(position)


def arm_series(view: RunView, read: Read) -> list[Series]:
    """Return the line of every arm in which `read` finds anything."""
    found = []
    for arm in view.arms:
        spots = [spot for number in view.numbers if (spot := _mean(number, view.of(arm.name, number), read))]
        style, shape = arm_style(view, arm.name)
        seeds = tuple(_one_seed(view, arm.name, seed, read) for seed in view.seeds(arm.name))
        series = Series(name=arm.name, style=style, shape=shape, spots=tuple(spots), seeds=seeds)
        found += [series] if spots else []
    return found


def metric_series(view: RunView, metric: str) -> list[Series]:
    """Return the lines of a metric."""
    return arm_series(view, lambda point: value_of(point.report, metric))


def reference_series(view: RunView, metric: str) -> list[Series]:
    """Return the lines of the human reference: one for each share of real prefix, since that decides its prompts."""
    found = []
    for share in sorted({arm.real_share for arm in view.arms}):
        arms = [arm.name for arm in view.arms if arm.real_share == share]
        points = {number: [p for arm in arms for p in view.of(arm, number)] for number in view.numbers}
        spots = [_mean(number, at, lambda point: value_of(point.human, metric)) for number, at in points.items()]
        known = tuple(spot for spot in spots if spot)
        found += [Series(name="people", style="people", shape="", spots=known)] if known else []
    return found


def _mean(number: int, points: Sequence[Point], read: Read) -> Spot | None:
    """Return the mean over seeds of value and bounds; no bounds unless all have them."""
    values = [value for point in points if (value := read(point)) is not None]
    if not values:
        return None
    lower, upper = ([value[side] for value in values] for side in (1, 2))
    return Spot(number, fmean(value[0] for value in values), _all_mean(lower), _all_mean(upper))


def _all_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _one_seed(view: RunView, arm: str, seed: int, read: Read) -> tuple[Spot, ...]:
    points = [point for point in view.of(arm) if point.seed == seed]
    return tuple(Spot(point.number, value[0]) for point in points if (value := read(point)) is not None)


def metric_chart(view: RunView, metric: str, title: str, key: str) -> Markup | None:
    """Draw a metric over the generations, or return None where it was never measured."""
    series, people = metric_series(view, metric), reference_series(view, metric)
    if not series and not people:
        return None
    return chart_of_lines(view.numbers, series, people, title, key)


def chart_of_lines(
    numbers: Sequence[int], series: Sequence[Series], dashed: Sequence[Series], title: str, key: str
) -> Markup:
    """Draw lines on an axis that shows all of their values."""
    return line_chart(numbers, series, dashed, covering(extent([*series, *dashed]), _BOTTOM, _TOP), title, key)


def extent(series: Sequence[Series]) -> list[float]:
    """Return every value and bound that lines reach."""
    spots = [spot for one in series for spot in (*one.spots, *(s for seed in one.seeds for s in seed))]
    return [value for spot in spots for value in (spot.value, spot.lower, spot.upper) if value is not None]


def line_chart(
    numbers: Sequence[int],
    series: Sequence[Series],
    people: Sequence[Series],
    y: Scale,
    title: str,
    key: str,
    *,
    lines: Sequence[tuple[float, str]] = (),
    y_ticks: Sequence[float] | None = None,
) -> Markup:
    """Draw lines over the generations.

    Args:
        numbers: Generations of the axis, in rising order.
        series: Lines with marks.
        people: Dashed lines without marks.
        y: Scale of the values.
        title: Name of the chart.
        key: Unique in the page.
        lines: Levels that mean something, with their names.
        y_ticks: Where values are written; round ones by default.
    """
    x = Scale(numbers[0], max(numbers[-1], numbers[0] + 1), _LEFT + 6, WIDTH - _RIGHT)
    shown = ticks(y.low, y.high) if y_ticks is None else list(y_ticks)
    return picture(
        WIDTH,
        HEIGHT,
        title,
        described([*series, *people]),
        *_grid(x, y, shown, numbers),
        *[_band(one, x, y) for one in series],
        *[_line(one.spots, x, y, f"line {one.style}") for one in people],
        *[_line(seed, x, y, f"seed {one.style}") for one in series if len(one.seeds) > 1 for seed in one.seeds],
        *[_line(one.spots, x, y, f"line {one.style}") for one in series],
        *[_marks(one, x, y) for one in series],
        *_ends(series, x, y),
        *[_level(y, value, name) for value, name in lines],
        key=key,
    )


def described(series: Sequence[Series]) -> str:
    """Return in words what lines say, for those who cannot see them."""
    told = []
    for one in series:
        first, last = one.spots[0], one.spots[-1]
        told.append(
            f"{one.name}: {figure(first.value)} at generation {first.number}, "
            f"{figure(last.value)} at generation {last.number}"
        )
    return "; ".join(told) + "."


def _grid(x: Scale, y: Scale, levels: Sequence[float], numbers: Sequence[int]) -> list[Markup]:
    right = WIDTH - _RIGHT
    drawn = []
    for level in levels:
        at = y(level)
        drawn.append(element("line", x1=_LEFT, x2=right + 6, y1=at, y2=at, class_="gridline"))
        label = tick_label(level, levels)
        drawn.append(element("text", label, x=_LEFT - 6, y=at + 4, class_="tick end"))
    drawn.append(element("text", "gen.", x=_LEFT - 6, y=_BOTTOM + 18, class_="tick end"))
    step = -(-len(numbers) // 11)
    for number in numbers[::step]:
        drawn.append(element("text", str(number), x=x(number), y=_BOTTOM + 18, class_="tick middle"))
    return drawn


def _level(y: Scale, value: float, name: str) -> Markup:
    at = y(value)
    line = element("line", x1=_LEFT, x2=WIDTH - _RIGHT + 6, y1=at, y2=at, class_="level")
    return line + element("text", name, x=_LEFT + 3, y=at - 4, class_="tick halo")


def _band(series: Series, x: Scale, y: Scale) -> Markup:
    bounded = [
        (x(s.number), y(s.lower), y(s.upper)) for s in series.spots if s.lower is not None and s.upper is not None
    ]
    outline = [(at, low) for at, low, _ in bounded] + [(at, high) for at, _, high in reversed(bounded)]
    if len(bounded) == 1:
        # One generation has no area: a bar shows its interval.
        return element("path", d=path(outline), class_=f"line {series.style}")
    return element("path", d=path(outline, closed=True), class_=f"band {series.style}") if bounded else Markup("")


def _line(spots: Sequence[Spot], x: Scale, y: Scale, style: str) -> Markup:
    if not spots:
        return Markup("")
    return element("path", d=path([(x(spot.number), y(spot.value)) for spot in spots]), class_=style)


def _marks(series: Series, x: Scale, y: Scale) -> Markup:
    return Markup("").join(
        mark(series.shape, x(s.number), y(s.value), 3.2, f"{series.name}, {_spoken(s)}", class_=f"mark {series.style}")
        for s in series.spots
    )


def _spoken(spot: Spot) -> str:
    bounds = (
        f" ({figure(spot.lower)} to {figure(spot.upper)})" if spot.lower is not None and spot.upper is not None else ""
    )
    return f"generation {spot.number}: {figure(spot.value)}{bounds}"


def _ends(series: Sequence[Series], x: Scale, y: Scale) -> list[Markup]:
    """Write the last value of each line at its end."""
    lasts = [one.spots[-1] for one in series]
    heights = spread([y(spot.value) for spot in lasts], 13, _TOP, _BOTTOM)
    return [
        element("text", figure(spot.value), x=x(spot.number) + 8, y=height + 4, class_=f"value {one.style}")
        for one, spot, height in zip(series, lasts, heights, strict=True)
    ]
