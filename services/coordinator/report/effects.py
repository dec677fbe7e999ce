"""How far arms moved from their baseline, in human spreads: families over the generations, metrics at the end."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from markupsafe import Markup

from ouroscope.records.analysis import Comparison, Family, MetricEffect, Policy
from services.coordinator.report.lines import Bounded, Series, arm_series, arm_style, extent, line_chart
from services.coordinator.report.svg import Scale, element, figure, mark, path, picture
from services.coordinator.report.view import RunView
from services.coordinator.report.words import FAMILIES, metric_name

_TICKS = (-1000, -300, -100, -30, -10, -4, -1, 0, 1, 4, 10, 30, 100, 300, 1000)
_TOP, _BOTTOM = 12, 172
_ROW, _NAMES, _WIDTH = 22, 184, 430


def families(view: RunView) -> list[Family]:
    """Return the families that voted anywhere, in the order of the table of names."""
    voted = {
        effect.family
        for point in view.points
        if (c := point.generation.comparison) is not None
        for effect in c.families
    }
    return [family for family in Family if family in voted]


def family_chart(view: RunView, family: Family, key: str) -> Markup | None:
    """Draw the effect of one family over the generations, with the margin and the far bound of the policy."""
    series = family_series(view, family)
    return effect_chart(view.numbers, series, view.run.spec.policy, FAMILIES[family], key) if series else None


def family_series(view: RunView, family: Family) -> list[Series]:
    """Return the effect of one family over the generations, a line for each arm."""
    return arm_series(view, lambda point: bounded(point.generation.comparison, family))


def bounded(comparison: Comparison | None, family: Family) -> Bounded | None:
    """Return the effect of a family with its bounds, if it was compared."""
    effects = comparison.families if comparison else ()
    found = next((effect for effect in effects if effect.family is family), None)
    return (found.effect, found.lower, found.upper) if found else None


def effect_chart(numbers: Sequence[int], series: Sequence[Series], policy: Policy, name: str, key: str) -> Markup:
    """Draw effects over the generations, with what the policy says of them."""
    y = _bent(extent(series), policy.far_bound, _BOTTOM, _TOP)
    levels = [(policy.margin, "margin"), (policy.far_bound, "far bound")]
    marked = [value for value, _ in levels]
    shown = [tick for tick in _TICKS if y.low <= tick <= y.high and not (tick in (1, 4) and tick not in marked)]
    return line_chart(numbers, series, [], y, f"{name}: effect", key, lines=levels, y_ticks=shown)


def _bent(values: Sequence[float], far_bound: float, start: float, end: float) -> Scale:
    """Return a scale on which 0, the margin and effects of 100 can all be told apart."""
    return Scale(min([-1.0, *values]) * 1.1, max([far_bound, *values]) * 1.1, start, end, bend=True)


def movers_chart(view: RunView, arm: str, key: str, most: int = 14) -> Markup | None:
    """Draw the metrics of the last compared generation of an arm, those with the most evidence first."""
    number, effects = last_effects(view, arm)
    title = f"Metrics of arm {arm} at generation {number}"
    return metric_effects_chart(effects[:most], view.run.spec.policy, arm_style(view, arm), title, key)


def metric_effects_chart(
    effects: Sequence[MetricEffect], policy: Policy, look: tuple[str, str], title: str, key: str
) -> Markup | None:
    """Draw one row per metric, all of which have an effect; `look` is (CSS class, shape of the marks)."""
    if not effects:
        return None
    bounds = [value for e in effects for value in (e.lower, e.effect, e.upper) if value is not None]
    height = 34 + _ROW * len(effects)
    x = _bent(bounds, policy.far_bound, _NAMES + 10, _WIDTH - 10)
    rows = [_row(look, effect, x, 14 + _ROW * (place + 0.5)) for place, effect in enumerate(effects)]
    described = "; ".join(f"{metric_name(e.id)}: {_spoken(e)}" for e in effects)
    return picture(_WIDTH, height, title, described, *_axis(x, policy, height), *rows, key=key)


def last_effects(view: RunView, arm: str) -> tuple[int, list[MetricEffect]]:
    """Return the effects at the last compared generation, in the analyzer's order; with seeds, their means."""
    compared = [p for p in view.of(arm) if p.generation.comparison and p.generation.comparison.metrics]
    number = max((point.number for point in compared), default=0)
    last = [c for p in compared if p.number == number and (c := p.generation.comparison) is not None]
    order = [effect.id for effect in last[0].metrics] if last else []
    by_metric = {metric: [e for c in last for e in c.metrics if e.id == metric] for metric in order}
    return number, [_mean(found) for found in by_metric.values() if all(e.effect is not None for e in found)]


def _mean(effects: Sequence[MetricEffect]) -> MetricEffect:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == len(values) else None

    return MetricEffect(
        id=effects[0].id,
        effect=mean([e.effect for e in effects]),
        lower=mean([e.lower for e in effects]),
        upper=mean([e.upper for e in effects]),
    )


def _axis(x: Scale, policy: Policy, height: int) -> list[Markup]:
    bottom = height - 20
    drawn = []
    for tick in _TICKS:
        if x.low <= tick <= x.high and (tick not in (1, 4) or tick in (policy.margin, policy.far_bound)):
            drawn.append(
                element("line", x1=x(tick), x2=x(tick), y1=8, y2=bottom, class_="zero" if tick == 0 else "gridline")
            )
            drawn.append(element("text", f"{tick}", x=x(tick), y=height - 5, class_="tick middle"))
    for level in (policy.margin, policy.far_bound):
        drawn.append(element("line", x1=x(level), x2=x(level), y1=8, y2=bottom, class_="level"))
    return drawn


def _row(look: tuple[str, str], effect: MetricEffect, x: Scale, y: float) -> Markup:
    style, shape = look
    name = element("text", metric_name(effect.id), x=_NAMES, y=y + 4, class_="label end")
    whisker = Markup("")
    if effect.lower is not None and effect.upper is not None:
        whisker = element("path", d=path([(x(effect.lower), y), (x(effect.upper), y)]), class_=f"whisker {style}")
    value = effect.effect or 0.0
    tip = f"{metric_name(effect.id)}: {_spoken(effect)}"
    return name + whisker + mark(shape, x(value), y, 4.2, tip, class_=f"mark {style}")


def _spoken(effect: MetricEffect) -> str:
    assert effect.effect is not None
    if effect.lower is None or effect.upper is None:
        return figure(effect.effect)
    return f"{figure(effect.effect)} ({figure(effect.lower)} to {figure(effect.upper)})"
