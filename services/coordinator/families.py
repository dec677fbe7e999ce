"""What families of metrics are called and what they say, for runs and monitors alike. Pure.

The one home of names of values, their units, and of effects with their bounds. Names: names.md of the design.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily

from ouroscope.records.analysis import Comparison, Verdict
from services.coordinator.rows import Measured

UNITLESS = frozenset({"", "1"})
NOT_EXPORTED = frozenset({"bits_per_byte"})
"""Ids that promtool refuses, since bits are no base unit; the held-out perplexity says the same of one tokenizer."""

Labels = Sequence[str]
Bounds = tuple[float, float, float]
"""Of an effect: itself, its lower end, its upper end."""
BOUNDS = {"": "Effect", "_lower": "Lower end of the effect", "_upper": "Upper end of the effect"}
SPREAD = "in units of the spread between human sources; positive is towards collapse."

WARNED_TOLD = "Generations in a row, up to the newest, that were called WARNING or COLLAPSE."


def unit_suffix(metric: str, unit: str) -> str:
    """Return what a unit adds to the name of a metric.

    >>> unit_suffix("token_entropy", "nats"), unit_suffix("yule_k", "1"), unit_suffix("effective_tokens", "tokens")
    ('_nats', '', '')
    """
    said = unit in UNITLESS or metric.endswith(f"_{unit}") or metric == unit
    return "" if said else f"_{re.sub(r'[^a-z0-9]', '_', unit)}"


def is_exported(value: Measured, units: Mapping[str, str]) -> bool:
    """Return whether a value can be shown; one whose unit is not known has no name yet."""
    return value.id in units and value.id not in NOT_EXPORTED


def value_gauge(stem: str, value: Measured, unit: str, labels: Labels) -> GaugeMetricFamily:
    """Return the empty family of a value, for example `ouroscope_corpus_token_entropy_nats`."""
    side, what = ("model", "model") if value.model else ("corpus", "text")
    told = f"{value.id.replace('_', ' ')} of the {what} of the newest generation."
    return GaugeMetricFamily(f"{stem}_{side}_{value.id}{unit_suffix(value.id, unit)}", told, labels=labels)


class EffectGauges:
    """The three families of an effect and its bounds."""

    def __init__(self, stem: str, what: str, labels: Labels) -> None:
        self.families = tuple(
            GaugeMetricFamily(f"{stem}{suffix}", f"{told} of {what}, {SPREAD}", labels=labels)
            for suffix, told in BOUNDS.items()
        )

    def add(self, labels: Labels, bounds: Bounds) -> None:
        """Add one effect."""
        for family, value in zip(self.families, bounds, strict=True):
            family.add_metric(labels, value)


def add_verdict(family: GaugeMetricFamily, labels: Labels, found: Verdict) -> None:
    """Add a verdict as one sample a level: 1 for the one that was found, 0 for the others."""
    for level in Verdict:
        family.add_metric([*labels, level.value], float(level is found))


def metric_bounds(comparison: Comparison | None) -> dict[str, Bounds]:
    """Return the effects of single metrics that are defined, with both bounds."""
    return {
        e.id: (e.effect, e.lower, e.upper)
        for e in (comparison.metrics if comparison else ())
        if e.effect is not None and e.lower is not None and e.upper is not None
    }


def family_bounds(comparison: Comparison | None) -> dict[str, Bounds]:
    """Return the effects of families, with both bounds."""
    effects = comparison.families if comparison else ()
    return {effect.family.value.lower(): (effect.effect, effect.lower, effect.upper) for effect in effects}
