"""One token budget for a whole page: values at different budgets must not share an axis. Knows records only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ouroscope.records.analysis import Report
from services.coordinator.report.view import Point


def common_budget(points: Iterable[Point]) -> int | None:
    """Return the largest budget that every report with text reaches; None if there is none."""
    reports = (report for point in points for report in (point.report, point.human))
    reached = [{rung.budget for rung in report.rungs} for report in reports if report is not None and report.rungs]
    return max(set.intersection(*reached), default=None) if reached else None


def at_budget(points: tuple[Point, ...], budget: int | None) -> tuple[Point, ...]:
    """Return the points with text and network values at one budget only.

    Without a budget (a run of tiny corpora) the points stay as they are.
    """
    if budget is None:
        return points
    return tuple(replace(p, report=_at(p.report, budget), human=_at(p.human, budget)) for p in points)


def _at(report: Report | None, budget: int) -> Report | None:
    if report is None:
        return None
    return replace(report, rungs=tuple(rung for rung in report.rungs if rung.budget == budget))
