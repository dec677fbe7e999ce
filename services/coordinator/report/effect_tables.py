"""The figures behind the charts of effects as tables, for those who cannot see the charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ouroscope.records.analysis import MetricEffect
from services.coordinator.report.effects import families, family_series, last_effects
from services.coordinator.report.lines import Series
from services.coordinator.report.svg import figure
from services.coordinator.report.tables import Table, written
from services.coordinator.report.view import RunView
from services.coordinator.report.words import FAMILIES, metric_name


def effect_tables(view: RunView) -> list[Table]:
    """Return the effects of families over the generations, and of metrics at the last one."""
    series = [(FAMILIES[family], one) for family in families(view) for one in family_series(view, family)]
    shown = [family_effects(series, view.numbers)] if series else []
    for arm in view.arms:
        number, effects = last_effects(view, arm.name)
        if effects:
            shown.append(metric_effects(effects, f"of “{arm.name}” at generation {number}"))
    return shown


def family_effects(series: Iterable[tuple[str, Series]], numbers: Sequence[int]) -> Table:
    """Return the effects of families, each with the line that shows it."""
    title = "Effect of each family and its 95 % interval, in human spreads, by generation"
    return by_generation("Effects of the families", series, numbers, title)


def by_generation(
    name: str, series: Iterable[tuple[str, Series]], numbers: Sequence[int], title: str | None = None
) -> Table:
    """Return the figures of lines, each with the name of what it shows."""
    rows = []
    for what, one in series:
        spots = {spot.number: spot for spot in one.spots}
        rows.append((f"{what}, {one.name}", *(written(spots.get(number)) for number in numbers)))
    return Table(
        title=title or f"{name}, by generation",
        summary=f"{name}: all figures as a table",
        head=("", *map(str, numbers)),
        rows=tuple(rows),
    )


def metric_effects(effects: Iterable[MetricEffect], where: str) -> Table:
    """Return the effects of metrics at one generation."""
    rows = [(metric_name(e.id), _figure(e.effect), _figure(e.lower), _figure(e.upper)) for e in effects]
    return Table(
        title=f"Effect of each metric {where}, in human spreads",
        summary=f"Effects of the metrics {where}: all figures as a table",
        head=("Metric", "effect", "lower end", "upper end"),
        rows=tuple(rows),
    )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else figure(value)
