"""Reads what a study shows from the artifact store. The only file here that opens anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ouroscope.records.analysis import MetricInfo
from ouroscope.records.runs import Generation, Run
from services.coordinator.report.budgets import at_budget, common_budget
from services.coordinator.report.loading import Artifacts, load_view
from services.coordinator.report.view import Point
from services.coordinator.study.view import Across, Part, Study


def load_study(
    artifacts: Artifacts, runs: Sequence[tuple[Run, Sequence[Generation]]], metrics: Iterable[MetricInfo]
) -> Study:
    """Read what is known of several runs, be they over or not, and bring all text to one budget of words.

    Runs that reach no budget in common are brought to one each: then arms of one run can be compared.
    """
    catalogue = tuple(metrics)
    parts = [_part(artifacts, run, generations, catalogue) for run, generations in runs]
    shown = [part for part in parts if any(point.report for point in part.view.points)]
    budget = common_budget(point for part in shown for point in part.view.points)
    return Study(
        parts=tuple(_at(part, budget or common_budget(part.view.points)) for part in shown),
        metrics=catalogue,
        budget=budget,
        left_out=tuple(part.name for part in parts if part not in shown),
    )


def _part(artifacts: Artifacts, run: Run, generations: Sequence[Generation], metrics: tuple[MetricInfo, ...]) -> Part:
    view = load_view(artifacts, run, generations, metrics, common=False)
    return Part(view=view, across=tuple(one for point in view.points for one in _across(artifacts, point)))


def _across(artifacts: Artifacts, point: Point) -> list[Across]:
    found = []
    for one in point.generation.across:
        report = artifacts.report(one.report)
        if report is not None:
            found.append(Across(arm=point.arm, seed=point.seed, number=point.number, domain=one.domain, report=report))
    return found


def _at(part: Part, budget: int | None) -> Part:
    return replace(part, view=replace(part.view, points=at_budget(part.view.points, budget), budget=budget))
