"""From what is known of a monitor to families of metrics, with the one label `monitor`. Pure.

Names are those of runs with the prefix `ouroscope_monitor_` (names.md of the design); what is undefined has no sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from ouroscope.records.analysis import Verdict
from ouroscope.records.monitors import Monitor, MonitorGeneration
from services.coordinator.families import (
    WARNED_TOLD,
    Bounds,
    EffectGauges,
    add_verdict,
    family_bounds,
    is_exported,
    metric_bounds,
    value_gauge,
)
from services.coordinator.rows import Measured

STEM = "ouroscope_monitor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What is shown of the newest generation of any monitor; small, since there may be a thousand."""

    number: int
    recorded: float
    """Unix time at which the pipeline was last heard of."""
    verdict: Verdict | None = None
    """None for the generation that is the baseline."""
    warned: int = 0
    """Generations in a row, up to this one, that were warned of."""
    synthetic_share: float | None = None
    families: Mapping[str, Bounds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is shown besides of a monitor that was heard of lately."""

    recorded: float
    values: tuple[Measured, ...]
    effects: Mapping[str, Bounds]
    domains: tuple[tuple[str, Verdict], ...]


def newest_of(generation: MonitorGeneration, warned: int) -> Newest:
    """Return the little that is shown of every monitor."""
    return Newest(
        number=generation.number,
        recorded=recorded(generation),
        verdict=generation.verdict,
        warned=warned,
        synthetic_share=generation.synthetic_share,
        families=family_bounds(generation.comparison),
    )


def details_of(generation: MonitorGeneration, values: tuple[Measured, ...]) -> Details:
    """Return the rest."""
    return Details(
        recorded=recorded(generation),
        values=values,
        effects=metric_bounds(generation.comparison),
        domains=tuple((one.domain, one.comparison.verdict) for one in generation.domains),
    )


def recorded(generation: MonitorGeneration) -> float:
    """Return when the pipeline was last heard of: a late generation is news too, and judges the newest again."""
    return max(map(seconds_of, (generation.create_time, generation.judge_time)))


def seconds_of(time: datetime | None) -> float:
    """Return a Unix time; 0 for one that is not known."""
    return time.timestamp() if time else 0.0


def monitor_id(name: str) -> str:
    """Return the label of a monitor."""
    return name.removeprefix("monitors/")


def monitor_families(monitor: Monitor, newest: Newest | None) -> Iterator[Metric]:
    """Yield what is said of every monitor."""
    label = [monitor_id(monitor.name)]
    yield _info(monitor)
    yield _gauge("paused", "1 for a monitor that takes no generation for now.", label, float(monitor.paused))
    made = seconds_of(monitor.create_time)
    yield _gauge("create_timestamp_seconds", "When a monitor was made.", label, made)
    yield _gauge("generations", "Generations that were recorded.", label, monitor.generations)
    if newest is not None:
        yield from _newest_families(label, newest)
        if monitor.generations > 1:
            usual = max(0.0, newest.recorded - made) / monitor.generations
            yield _gauge("usual_interval_seconds", "Mean time from one recorded generation to the next.", label, usual)


def _info(monitor: Monitor) -> Metric:
    info = GaugeMetricFamily(
        f"{STEM}_info", "What a monitor is about; always 1.", labels=["monitor", "description", "baseline"]
    )
    info.add_metric([monitor_id(monitor.name), monitor.description, str(monitor.baseline or "")], 1)
    return info


def _newest_families(label: Sequence[str], newest: Newest) -> Iterator[Metric]:
    yield _gauge("generation", "Newest recorded generation: the one with the largest number.", label, newest.number)
    told = "When a generation was last recorded."
    yield _gauge("last_success_timestamp_seconds", told, label, newest.recorded)
    if newest.synthetic_share is not None:
        told = "Share of synthetic tokens in the newest generation."
        yield _gauge("synthetic_ratio", told, label, newest.synthetic_share)
    if newest.verdict is not None:
        verdict = GaugeMetricFamily(
            f"{STEM}_collapse_verdict", "1 for the verdict of a monitor.", labels=["monitor", "verdict"]
        )
        add_verdict(verdict, label, newest.verdict)
        yield verdict
        yield _gauge("warned_generations", WARNED_TOLD, label, newest.warned)
    effects = EffectGauges(f"{STEM}_collapse_family_effect", "a family", ("monitor", "family"))
    for family, bounds in newest.families.items():
        effects.add((*label, family), bounds)
    yield from effects.families


def detail_families(name: str, details: Details, units: Mapping[str, str]) -> Iterator[Metric]:
    """Yield every value, the effect of every metric and the verdict of every domain; `units` by metric id."""
    label = [monitor_id(name)]
    for value in details.values:
        if value.value is not None and is_exported(value, units):
            family = value_gauge(STEM, value, units[value.id], ("monitor",))
            family.add_metric(label, value.value)
            yield family
    effects = EffectGauges(f"{STEM}_collapse_effect", "one metric", ("monitor", "metric"))
    for metric, bounds in details.effects.items():
        effects.add((*label, metric), bounds)
    yield from effects.families
    verdicts = GaugeMetricFamily(
        f"{STEM}_domain_collapse_verdict",
        "1 for the verdict on the documents of one domain.",
        labels=["monitor", "domain", "verdict"],
    )
    for domain, verdict in details.domains:
        add_verdict(verdicts, (*label, domain), verdict)
    yield verdicts


def suppressed_family(count: int) -> Metric:
    """Return how many monitors are shown without details."""
    family = GaugeMetricFamily(
        f"{STEM}s_suppressed", "Monitors of which only the verdict is shown, since others were heard of later."
    )
    family.add_metric([], count)
    return family


def _gauge(name: str, told: str, label: Sequence[str], value: float) -> Metric:
    family = GaugeMetricFamily(f"{STEM}_{name}", told, labels=["monitor"])
    family.add_metric(label, value)
    return family
