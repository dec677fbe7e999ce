"""What the page of a run shows, as plain data. Knows neither where it comes from nor how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ouroscope.records.analysis import Direction, Family, MetricInfo, Report
from ouroscope.records.runs import ArmSpec, Generation, Run
from services.coordinator.dataset.texts import Dealt


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One generation of one arm under one seed, with what was measured of it; None where nothing was (yet)."""

    arm: str
    seed: int
    generation: Generation
    report: Report | None = None
    human: Report | None = None
    """Of the real continuation of the same prompts."""

    @property
    def number(self) -> int:
        """Return the number of the generation; 0 is the base model."""
        return self.generation.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one generation made of a fixed prompt."""

    prompt: str
    """Id of the prompt."""
    arm: str
    number: int
    prefix: str
    """Real."""
    continuation: str
    """Written by the model."""


Measure = Callable[[Point], float | None]


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as a reader wants it."""

    run: Run
    points: tuple[Point, ...]
    """By arm, seed and number, in rising order of each."""
    metrics: tuple[MetricInfo, ...]
    """Catalogue of the analyzer that measured."""
    samples: tuple[Sample, ...] = ()
    budget: int | None = None
    """Words at which text and networks are measured, the same in all points; None if they reach none in common."""
    dealt: tuple[Dealt, ...] = ()
    """What each domain gave; empty before the text was read, and for runs of earlier versions."""
    specification: str
    """The specification as YAML."""
    versions: Mapping[str, str]

    @property
    def arms(self) -> tuple[ArmSpec, ...]:
        """Return the arms in the order of the specification."""
        return self.run.spec.arms

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of all generations that anything is known of."""
        return tuple(sorted({point.number for point in self.points}))

    def of(self, arm: str, number: int | None = None) -> tuple[Point, ...]:
        """Return the points of an arm, or of one of its generations."""
        return tuple(p for p in self.points if p.arm == arm and (number is None or p.number == number))

    def seeds(self, arm: str) -> tuple[int, ...]:
        """Return the seeds of which anything is known."""
        return tuple(sorted({point.seed for point in self.of(arm)}))

    def measured(self, arm: str) -> tuple[int, ...]:
        """Return the generations of an arm that have a report, in rising order."""
        return tuple(sorted({point.number for point in self.of(arm) if point.report is not None}))

    def info(self, metric: str) -> MetricInfo:
        """Return the catalogue's entry, or a bare one for a metric that it does not know."""
        unknown = MetricInfo(id=metric, family=Family.TEXT, unit="", direction=Direction.NONE)
        return next((info for info in self.metrics if info.id == metric), unknown)

    @property
    def complete(self) -> bool:
        """Return whether all generations are there."""
        expected = len(self.arms) * self.run.spec.seeds * (self.run.spec.generations + 1)
        return sum(point.report is not None for point in self.points) >= expected


def value_of(report: Report | None, metric: str) -> tuple[float, float | None, float | None] | None:
    """Return (value, lower, upper) of a metric, or None where it was not measured or is undefined."""
    found = next((value for value in report.metrics if value.id == metric), None) if report else None
    return None if found is None or found.value is None else (found.value, found.lower, found.upper)
