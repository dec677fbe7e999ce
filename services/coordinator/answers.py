"""What is taken from the reports that the analyzer answers with."""

from __future__ import annotations

from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import Report
from ouroscope.records.artifacts import ArtifactRef
from services.coordinator.rows import Measured


def published(report: Report) -> ArtifactRef:
    """Return where a report lies."""
    if report.report is None:
        raise InvalidRequest("the analyzer did not publish the report of a stored corpus; is it another version?")
    return report.report


def measured(report: Report) -> tuple[Measured, ...]:
    """Return the values of a report without their intervals, for the exporter.

    Text and network at the smallest budget, which all generations reach: a series must not jump with the budget.
    """
    text = report.rungs[0].metrics if report.rungs else ()
    return (
        *(Measured(id=value.id, value=value.value) for value in text),
        *(Measured(id=value.id, value=value.value, model=True) for value in report.model_metrics),
    )
