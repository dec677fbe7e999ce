"""How sure the model is of its first choice: one histogram per arm at the first, the middle and the last generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ouroscope.records.analysis import Histogram
from services.coordinator.report.lines import arm_style
from services.coordinator.report.svg import Scale, element, path, picture
from services.coordinator.report.view import RunView
from services.coordinator.report.words import percent

WIDTH, HEIGHT = 240, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 232, 8, 106


@dataclass(frozen=True, slots=True)
class Panel:
    """One histogram of the row of an arm."""

    number: int
    drawing: Markup


def milestones(numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the first, the middle and the last of some numbers, without repetition.

    >>> milestones([0, 1, 2, 3, 4, 5]), milestones([0, 1]), milestones([])
    ((0, 3, 5), (0, 1), ())
    """
    if not numbers:
        return ()
    return tuple(dict.fromkeys((numbers[0], numbers[len(numbers) // 2], numbers[-1])))


def panels(view: RunView, arm: str, tallest: float, key: str) -> list[Panel]:
    """Return the histograms of an arm; `tallest` is the largest share of all arms, so that heights can be compared."""
    style, _ = arm_style(view, arm)
    found = []
    for number in milestones(_known(view, arm)):
        shares, edges = _shares(view, arm, number)
        drawing = _drawn(shares, edges, tallest, style, f"Arm {arm}, generation {number}", f"{key}-{number}")
        found.append(Panel(number, drawing))
    return found


def tallest_share(view: RunView) -> float:
    """Return the height of the tallest bar that any arm has at its milestones."""
    shown = [
        share
        for arm in view.arms
        for number in milestones(_known(view, arm.name))
        for share in _shares(view, arm.name, number)[0]
    ]
    return max(shown, default=1.0)


def _known(view: RunView, arm: str) -> list[int]:
    return sorted({p.number for p in view.of(arm) if p.report and p.report.top1_histogram})


def _shares(view: RunView, arm: str, number: int) -> tuple[list[float], tuple[float, ...]]:
    """Return the share of prompts in each bin, all seeds together, and the edges of the bins."""
    reports = [point.report for point in view.of(arm, number) if point.report]
    found: list[Histogram] = [report.top1_histogram for report in reports if report.top1_histogram]
    edges = found[0].edges
    same = [one.counts for one in found if one.edges == edges]
    counts = [sum(column) for column in zip(*same, strict=True)]
    return [count / (sum(counts) or 1) for count in counts], edges


def _drawn(shares: Sequence[float], edges: Sequence[float], tallest: float, style: str, title: str, key: str) -> Markup:
    x, y = Scale(edges[0], edges[-1], _LEFT, _RIGHT), Scale(0.0, tallest or 1.0, _BOTTOM, _TOP)
    bars = [
        _bar(x(left), x(right), y(share), style) for left, right, share in zip(edges, edges[1:], shares, strict=False)
    ]
    axis = [element("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM, class_="zero")]
    for tick in (edges[0], (edges[0] + edges[-1]) / 2, edges[-1]):
        axis.append(element("text", f"{tick:g}", x=x(tick), y=_BOTTOM + 16, class_="tick middle"))
    for share in (0.0, tallest):
        axis.append(element("text", percent(share), x=_LEFT - 4, y=y(share) + 4 + 4 * (share > 0), class_="tick end"))
    return picture(WIDTH, HEIGHT, title, _described(shares, edges), *bars, *axis, key=key)


def _bar(left: float, right: float, top: float, style: str) -> Markup:
    outline = [(left + 0.6, _BOTTOM), (left + 0.6, top), (right - 0.6, top), (right - 0.6, _BOTTOM)]
    return element("path", d=path(outline, closed=True), class_=f"bar {style}")


def _described(shares: Sequence[float], edges: Sequence[float]) -> str:
    middle = (edges[0] + edges[-1]) / 2
    above = sum(share for share, left in zip(shares, edges, strict=False) if left >= middle)
    return f"{percent(above)} of the prompts have a first choice with a probability above {middle:g}."
