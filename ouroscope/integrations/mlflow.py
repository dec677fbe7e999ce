"""Generations and reports in MLflow: numbers as metrics, what was said as tags, the whole as artifacts.

Writes into the active run of MLflow. What is undefined has no metric; the tag `ouroscope.undefined` names it, and the
artifact says why.

>>> from ouroscope.integrations.mlflow import log_generation
>>> from ouroscope.integrations.pipeline import record_generation
>>> def after_training(number, answers):
...     log_generation(record_generation("news", number, answers))
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from ouroscope.canonical import to_plain
from ouroscope.errors import CapabilityMissing
from ouroscope.records.analysis import Comparison, FamilyEffect, MetricEffect, MetricValue, Report
from ouroscope.records.monitors import MonitorGeneration

_LONGEST_TAG = 500
"""Characters; servers before MLflow 3 take no more."""

Numbers = Iterator[tuple[str, float | None]]


def log_generation(generation: MonitorGeneration, report: Report | None = None) -> None:
    """Log what a monitor says of a generation, at the step of its number.

    Without a report the values are those of the comparison, which have no bounds.

    Raises:
        CapabilityMissing: MLflow is not installed.
    """
    numbers = dict(generation_numbers(generation))
    if report is not None:
        numbers.update(report_numbers(report))
    mlflow = _mlflow()
    _log_numbers(mlflow, numbers, generation.number)
    mlflow.set_tags(_tags(generation))
    mlflow.log_dict(to_plain(generation), f"ouroscope/generation-{generation.number}.json")
    mlflow.log_text(f"{generation.sentence}\n", f"ouroscope/generation-{generation.number}.txt")
    if report is not None:
        mlflow.log_dict(to_plain(report), f"ouroscope/report-{generation.number}.json")


def log_report(report: Report, step: int = 0) -> None:
    """Log what was measured of one corpus, one model, or both.

    Raises:
        CapabilityMissing: MLflow is not installed.
    """
    mlflow = _mlflow()
    _log_numbers(mlflow, dict(report_numbers(report)), step)
    mlflow.log_dict(to_plain(report), f"ouroscope/report-{step}.json")


def generation_numbers(generation: MonitorGeneration) -> Numbers:
    """Yield the numbers of a generation under their names in MLflow, None where one is undefined."""
    if generation.synthetic_share is not None:
        yield "ouroscope/synthetic_share", generation.synthetic_share
    if generation.comparison is not None:
        yield from _comparison_numbers("ouroscope", generation.comparison)
    for one in generation.domains:
        yield from _comparison_numbers(f"ouroscope/domain/{_safe(one.domain)}", one.comparison)


def report_numbers(report: Report) -> Numbers:
    """Yield the numbers of a report under their names in MLflow, None where one is undefined."""
    for metric in report.metrics:
        yield from _value_numbers(metric)


def _comparison_numbers(place: str, comparison: Comparison) -> Numbers:
    for metric in comparison.metrics:
        yield f"{place}/metric/{metric.id}", metric.candidate
        yield from _bounded(f"{place}/effect/{metric.id}", metric, metric.effect)
    for family in comparison.families:
        yield from _bounded(f"{place}/family_effect/{family.family.value.lower()}", family, family.effect)


def _value_numbers(metric: MetricValue) -> Numbers:
    yield from _bounded(f"ouroscope/metric/{metric.id}", metric, metric.value)


def _bounded(name: str, bounds: MetricValue | MetricEffect | FamilyEffect, value: float | None) -> Numbers:
    yield name, value
    if value is not None and bounds.lower is not None and bounds.upper is not None:
        yield f"{name}_lower", bounds.lower
        yield f"{name}_upper", bounds.upper


def _tags(generation: MonitorGeneration) -> dict[str, str]:
    monitor = generation.name.rpartition("/generations/")[0]
    return {
        "ouroscope.monitor": monitor,
        "ouroscope.generation": str(generation.number),
        # The first generation of a monitor is what the others are compared with.
        "ouroscope.verdict": generation.verdict.value if generation.verdict else "BASELINE",
        "ouroscope.reason": generation.reason.value if generation.reason else "BASELINE",
    }


def _log_numbers(mlflow: Any, numbers: dict[str, float | None], step: int) -> None:
    mlflow.log_metrics({name: value for name, value in numbers.items() if value is not None}, step=step)
    undefined = _listed(name for name, value in numbers.items() if value is None)
    mlflow.set_tag("ouroscope.undefined", undefined or "none")


def _listed(names: Iterable[str]) -> str:
    told = ", ".join(sorted(name.removeprefix("ouroscope/") for name in names))
    return told if len(told) <= _LONGEST_TAG else f"{told[: _LONGEST_TAG - 4]} ..."


def _safe(domain: str) -> str:
    """Return a domain as MLflow lets it stand in a name; a slash would open a folder."""
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in domain)


def _mlflow() -> Any:
    try:
        return importlib.import_module("mlflow")
    except ImportError as error:
        raise CapabilityMissing("MLflow is not installed; install the extra `mlflow`, or mlflow itself") from error
