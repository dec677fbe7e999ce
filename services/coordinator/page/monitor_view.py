"""A monitor as its page draws it: lines for the whole and for each domain, over the newest generations. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ouroscope.records.analysis import Comparison, Family, MetricEffect, Verdict
from ouroscope.records.monitors import Monitor, MonitorGeneration
from services.coordinator.page.bounds import MOST_DOMAINS
from services.coordinator.report.effects import bounded
from services.coordinator.report.lines import Series, Spot
from services.coordinator.report.svg import look
from services.coordinator.report.words import SEVERITY

WHOLE = ""
"""Stands for the whole where a domain could stand; no domain is empty."""


@dataclass(frozen=True, kw_only=True)
class MonitorView:
    """A monitor as a reader wants it."""

    monitor: Monitor
    generations: tuple[MonitorGeneration, ...]
    """The newest, in rising order of number."""

    @property
    def name(self) -> str:
        """Return the id."""
        return self.monitor.name.partition("/")[2]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the generations that are shown."""
        return tuple(one.number for one in self.generations)

    @property
    def newest(self) -> MonitorGeneration | None:
        """Return the newest generation."""
        return self.generations[-1] if self.generations else None

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Return the domains to draw: those with the gravest verdicts in the newest generation that has any."""
        newest = next((one for one in reversed(self.generations) if one.domains), None)
        found = sorted(newest.domains if newest else (), key=lambda one: SEVERITY.index(one.comparison.verdict))
        return tuple(one.domain for one in found[:MOST_DOMAINS])

    @property
    def parts(self) -> tuple[str, ...]:
        """Return what has a line of its own: the whole, then the domains."""
        return (WHOLE, *self.domains)

    def label(self, part: str) -> str:
        """Return what a line is called."""
        return part or ("all domains together" if self.domains else self.name)

    def look(self, part: str) -> tuple[str, str]:
        """Return (CSS class, shape of the marks) of a line."""
        return look(self.parts.index(part))

    def comparison(self, generation: MonitorGeneration, part: str) -> Comparison | None:
        """Return the comparison of the whole, or of a domain."""
        if part == WHOLE:
            return generation.comparison
        return next((one.comparison for one in generation.domains if one.domain == part), None)

    def families(self) -> list[Family]:
        """Return the families that voted anywhere."""
        compared = [self.comparison(one, part) for one in self.generations for part in self.parts]
        voted = {effect.family for comparison in compared if comparison for effect in comparison.families}
        return [family for family in Family if family in voted]

    def family_series(self, family: Family) -> list[Series]:
        """Return the effect of a family, a line for the whole and each domain."""

        def read(comparison: Comparison) -> Spot | None:
            found = bounded(comparison, family)
            return Spot(0, *found) if found else None

        return [series for part in self.parts if (series := self._series(part, read))]

    def metric_series(self, metric: str) -> list[Series]:
        """Return a metric of the whole."""
        series = self._series(WHOLE, lambda one: _value(one, metric, lambda effect: effect.candidate))
        return [series] if series else []

    def baseline_series(self, metric: str) -> list[Series]:
        """Return the same metric of the baseline, at the sizes at which the generations were compared."""
        series = self._series(WHOLE, lambda one: _value(one, metric, lambda effect: effect.baseline))
        return [Series(name="baseline", style="people", shape="", spots=series.spots)] if series else []

    def headline(self, family: Family) -> tuple[str, ...]:
        """Return the metrics that voted for a family in the newest comparison of the whole."""
        for generation in reversed(self.generations):
            for effect in generation.comparison.families if generation.comparison else ():
                if effect.family is family:
                    return effect.metrics
        return ()

    def _series(self, part: str, read: Callable[[Comparison], Spot | None]) -> Series | None:
        compared = [(one.number, self.comparison(one, part)) for one in self.generations]
        found = [(number, spot) for number, one in compared if one and (spot := read(one))]
        spots = tuple(Spot(number, spot.value, spot.lower, spot.upper) for number, spot in found)
        style, shape = self.look(part)
        return Series(name=self.label(part), style=style, shape=shape, spots=spots) if spots else None

    @property
    def verdict(self) -> Verdict | None:
        """Return the verdict of the newest generation."""
        return self.newest.verdict if self.newest else None


def _value(comparison: Comparison, metric: str, read: Callable[[MetricEffect], float | None]) -> Spot | None:
    found = next((effect for effect in comparison.metrics if effect.id == metric), None)
    value = read(found) if found else None
    return None if value is None else Spot(0, value)
