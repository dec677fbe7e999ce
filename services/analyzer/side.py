"""One side of a comparison: a report and what of its vocabulary, networks and prompts can be compared. No text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ouroscope.records.analysis import MetricValue, Report, Rung
from services.analyzer.answers import Answer
from services.analyzer.fingerprint import Fingerprint
from services.analyzer.jackknife import GROUPS
from services.analyzer.sample import LADDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A report with its fingerprints."""

    report: Report
    fingerprints: Mapping[int, Fingerprint] = field(default_factory=dict)
    """By token budget, in rising order."""
    answers: tuple[Answer, ...] = ()
    """What the model expected after single prompts, in order of their keys."""

    @property
    def budgets(self) -> frozenset[int]:
        """Return the rungs of the ladder at which it can be compared: full, with an interval and a fingerprint."""
        replicated = {budget for budget, one in self.fingerprints.items() if one.groups == GROUPS}
        return frozenset(replicated & {rung.budget for rung in self.report.rungs} & set(LADDER))

    def rung(self, budget: int) -> Rung | None:
        """Return the rung of that budget, or None if it was not reached."""
        return next((rung for rung in self.report.rungs if rung.budget == budget), None)

    def text_values(self, budget: int) -> Mapping[str, MetricValue]:
        """Return the defined text and network values at a rung, by id."""
        rung = self.rung(budget)
        return _defined(rung.metrics if rung else ())

    @property
    def model_values(self) -> Mapping[str, MetricValue]:
        """Return the defined model values, by id."""
        return _defined(self.report.model_metrics)


def side_of(report: Report, fingerprints: Iterable[Fingerprint], answers: tuple[Answer, ...] = ()) -> Side:
    """Join a report with the fingerprints of its rungs and the answers to its prompts."""
    return Side(report=report, fingerprints={one.budget: one for one in fingerprints}, answers=answers)


def _defined(values: tuple[MetricValue, ...]) -> Mapping[str, MetricValue]:
    return {value.id: value for value in values if value.value is not None}
