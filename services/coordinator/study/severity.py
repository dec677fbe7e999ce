"""The headline figure of a study: how much worse a model ends, against the share of synthetic tokens it learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ouroscope.records.analysis import Direction, Family
from ouroscope.records.runs import ArmSpec, HumanText
from services.coordinator.report import words
from services.coordinator.report.arms import RANKED
from services.coordinator.report.svg import Scale, covering, element, figure, look, mark, path, picture, tick_label
from services.coordinator.report.svg import ticks as round_ticks
from services.coordinator.study.view import Mean, Part, Study, change, family_effects, label, mean_of, trained_share

METRICS = ("heldout_perplexity", "gini_top100", "top1_probability", "next_token_entropy", "token_entropy", "types")
"""Severity is shown of: one metric of how well a model predicts, three of how narrow, two of its text."""
WIDTH, HEIGHT = 330, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 12, 178


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One arm in the figure."""

    name: str
    group: str
    """Arms that differ only in their share of real text; they share colour and mark, and a line joins them."""
    share: float
    """Mean share of synthetic tokens in what it was trained on, in [0, 1]."""
    severity: Mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Severity by one measure."""

    name: str
    note: str
    drawing: Markup
    spots: tuple[Spot, ...]


def metric_spots(study: Study, metric: str) -> tuple[Spot, ...]:
    """Return how far each arm ends from its control (or its own beginning) in one metric, over the seeds."""
    return _spots(study, lambda part, arm: change(part, arm, metric))


def family_spots(study: Study, family: Family) -> tuple[Spot, ...]:
    """Return the effect of one family at the end of each arm that was compared, in human spreads."""
    return _spots(study, lambda part, arm: family_effects(part, arm.name, family))


def _spots(study: Study, values: Callable[[Part, ArmSpec], list[float]]) -> tuple[Spot, ...]:
    found = []
    for (part, arm), group in zip(study.arms, _groups(study), strict=True):
        severity = mean_of(values(part, arm))
        if severity is not None:
            name = label(study, part, arm.name)
            found.append(Spot(name=name, group=group, share=trained_share(part, arm), severity=severity))
    return tuple(found)


def family_panels(study: Study) -> list[Panel]:
    """Return one panel for each family that voted."""
    note = "effect beside the control, in human spreads; up is towards collapse"
    found = ((family, family_spots(study, family)) for family in Family)
    return [
        _panel(study, words.FAMILIES[family], note, spots, f"severity-{family.value}")
        for family, spots in found
        if spots
    ]


def metric_panels(study: Study) -> list[Panel]:
    """Return one panel for each headline metric that was measured."""
    found = ((metric, metric_spots(study, metric)) for metric in METRICS)
    return [
        _panel(study, words.metric_name(metric), _note(study.info(metric).direction), spots, f"severity-{metric}")
        for metric, spots in found
        if spots
    ]


def _note(direction: Direction) -> str:
    towards = {Direction.RISING: "; up is towards collapse", Direction.FALLING: "; down is towards collapse"}
    return "difference from the control at the last generation" + towards.get(direction, "")


def groups_of(study: Study) -> list[str]:
    """Return the groups in the order in which they first appear."""
    return list(dict.fromkeys(_groups(study)))


def _groups(study: Study) -> list[str]:
    """Return the group of every arm: its domains, and its way of learning where synthetic arms have several."""
    ways = [_way(arm) for _, arm in study.arms]
    synthetic = {way for way, (part, arm) in zip(ways, study.arms, strict=True) if trained_share(part, arm)}
    domains = [", ".join(arm.domains) for _, arm in study.arms]
    if len(synthetic) < 2:
        return [of or "all text" for of in domains]
    return [f"{of}: {way}" if of else way for of, way in zip(domains, ways, strict=True)]


def _way(arm: ArmSpec) -> str:
    """Return how an arm learns, whatever its shares are."""
    told = [arm.protocol]
    if arm.human_text is HumanText.REPLAYED:
        told.append("replayed")
    if arm.selection:
        order = f" {arm.selection.order.value}" if arm.selection.rule in RANKED else ""
        told.append(f"{arm.selection.rule.value}{order}".lower().replace("_", " "))
    return ", ".join(told)


def _panel(study: Study, name: str, note: str, spots: tuple[Spot, ...], key: str) -> Panel:
    groups = groups_of(study)
    x = Scale(0.0, 1.0, _LEFT + 6, WIDTH - _RIGHT)
    y = covering([0.0, *[v for s in spots for v in _reach(s.severity)]], _BOTTOM, _TOP)
    description = "; ".join(f"{s.name}: {figure(s.severity.value)} at a share of {s.share:.2f}" for s in spots) + "."
    drawn = [_lines(groups, group, spots, x, y) for group in groups]
    marks = [_mark(groups, spot, x, y) for spot in spots]
    drawing = picture(WIDTH, HEIGHT, f"Severity: {name}", description, *_axes(x, y), *drawn, *marks, key=key)
    return Panel(name=name, note=note, drawing=drawing, spots=spots)


def _reach(mean: Mean) -> tuple[float, float]:
    error = mean.error or 0.0
    return mean.value - error, mean.value + error


def _axes(x: Scale, y: Scale) -> list[Markup]:
    levels = round_ticks(y.low, y.high)
    drawn = []
    for level in levels:
        zero = "zero" if level == 0 else "gridline"
        drawn.append(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y(level), y2=y(level), class_=zero))
        drawn.append(element("text", tick_label(level, levels), x=_LEFT - 6, y=y(level) + 4, class_="tick end"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawn.append(element("text", f"{share:.0%}", x=x(share), y=_BOTTOM + 18, class_="tick middle"))
    told = "synthetic share of the training tokens"
    drawn.append(element("text", told, x=(_LEFT + WIDTH - _RIGHT) / 2, y=_BOTTOM + 34, class_="tick middle"))
    return drawn


def _lines(groups: Sequence[str], group: str, spots: Sequence[Spot], x: Scale, y: Scale) -> Markup:
    """Join the arms of a group by the mean at each share, so that the trend is seen."""
    shares = sorted({spot.share for spot in spots if spot.group == group})
    means = []
    for share in shares:
        at = [spot.severity.value for spot in spots if spot.group == group and spot.share == share]
        means.append((x(share), y(sum(at) / len(at))))
    style, _ = look(groups.index(group))
    return element("path", d=path(means), class_=f"seed {style}") if len(means) > 1 else Markup("")


def _mark(groups: Sequence[str], spot: Spot, x: Scale, y: Scale) -> Markup:
    style, shape = look(groups.index(spot.group))
    low, high = _reach(spot.severity)
    at = x(spot.share)
    whisker = element("path", d=path([(at, y(low)), (at, y(high))]), class_=f"whisker {style}")
    return whisker + mark(shape, at, y(spot.severity.value), 4.2, _spoken(spot), class_=f"mark {style}")


def _spoken(spot: Spot) -> str:
    error = "" if spot.severity.error is None else f" ± {figure(spot.severity.error)}"
    return f"{spot.name}: {figure(spot.severity.value)}{error}, {spot.share:.0%} synthetic"
