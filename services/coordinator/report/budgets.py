"""One token budget for a whole page: values at different budgets must not share an axis. Knows records only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ouroscope.records.analysis import Report
from services.coordinator.report.view import Point


def common_budget(reports: Iterable[Report]) -> int | None:
    """Return the largest budget that every report with text reaches; None if there is none."""
    reached = [{rung.budget for rung in report.rungs} for report in reports if report.rungs]
    return max(set.intersection(*reached), default=None) if reached else None


def at_common_budget(points: tuple[Point, ...]) -> tuple[tuple[Point, ...], int | None]:
    """Return the points with text and network values at the one budget that all of them reach, and that budget.

    Without such a budget (a run of tiny corpora) the points stay as they are.
    """
    budget = common_budget(report for point in points for report in (point.report, point.human) if report is not None)
    if budget is None:
        return points, None
    return tuple(
        replace(p, report=at_budget(p.report, budget), human=at_budget(p.human, budget)) for p in points
    ), budget


def at_budget(report: Report | None, budget: int) -> Report | None:
    """Return a report with text and network values at one budget only."""
    if report is None:
        return None
    return replace(report, rungs=tuple(rung for rung in report.rungs if rung.budget == budget))
