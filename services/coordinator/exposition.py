"""From what is known of runs to families of metrics: labels, means over seeds, units in names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from prometheus_client.core import GaugeMetricFamily, Metric

from ouroscope.records.analysis import Verdict
from ouroscope.records.runs import Generation, Run, RunState
from services.coordinator.plan import arm_named, synthetic_ratio
from services.coordinator.rows import Kept, Measured

UNITLESS = frozenset({"", "1"})

Labels = tuple[str, ...]
BOUNDS = {"": "Effect", "_lower": "Lower end of the effect", "_upper": "Upper end of the effect"}

Bounds = tuple[float, float, float]


@dataclass(slots=True)
class Exported:
    """One run as it is shown."""

    run: Run
    ended_at: float | None = None
    newest: dict[tuple[str, int], Kept] = field(default_factory=dict)
    """Newest examined generation of each arm and seed."""
    last_success: float | None = None
    """Unix time at which a generation was last finished, or the run."""


def unit_suffix(metric: str, unit: str) -> str:
    """Return what a unit adds to the name of a metric.

    >>> unit_suffix("token_entropy", "nats"), unit_suffix("yule_k", "1"), unit_suffix("effective_tokens", "tokens")
    ('_nats', '', '')
    """
    return "" if unit in UNITLESS or metric.endswith(f"_{unit}") or metric == unit else f"_{unit}"


NOT_EXPORTED = frozenset({"bits_per_byte"})
"""Ids that promtool refuses, since bits are no base unit; the held-out perplexity says the same of one tokenizer."""


def prompts_label(run: Run) -> str:
    """Return the name of the text that models are examined on: `embedded`, or the name of the file without folders."""
    return PurePath(run.spec.dataset.source).name or run.spec.dataset.source


def run_id(run: Run) -> str:
    """Return the label of a run."""
    return run.name.removeprefix("runs/")


def newest_by_arm(one: Exported) -> dict[str, list[Kept]]:
    """Return the seeds of each arm that are at its newest generation; a mean over several generations says nothing."""
    by_arm: dict[str, list[Kept]] = {}
    for (arm, _), kept in one.newest.items():
        by_arm.setdefault(arm, []).append(kept)
    newest = {arm: max(kept.generation.number for kept in seeds) for arm, seeds in by_arm.items()}
    return {arm: [k for k in seeds if k.generation.number == newest[arm]] for arm, seeds in by_arm.items()}


def means(seeds: Sequence[Kept]) -> Iterator[tuple[Measured, float]]:
    """Yield every value that is defined in a seed at least, with its mean over those seeds."""
    values: dict[tuple[str, bool], list[Measured]] = {}
    for kept in seeds:
        for value in kept.values:
            values.setdefault((value.id, value.model), []).append(value)
    for same in values.values():
        known = [value.value for value in same if value.value is not None]
        if known:
            yield same[0], sum(known) / len(known)


def value_families(shown: Sequence[Exported], units: Mapping[str, str]) -> list[Metric]:
    """Return the mean over seeds of every value of the newest generation of each arm; `units` by metric id."""
    families: dict[str, GaugeMetricFamily] = {}
    for one in shown:
        for arm, seeds in newest_by_arm(one).items():
            for value, mean in means(seeds):
                if value.id in units and value.id not in NOT_EXPORTED:
                    _add_value(families, one.run, arm, value, mean, units[value.id])
    return list(families.values())


def _add_value(
    families: dict[str, GaugeMetricFamily], run: Run, arm: str, value: Measured, mean: float, unit: str
) -> None:
    prefix, names = ("model", ["run", "arm", "prompts"]) if value.model else ("corpus", ["run", "arm"])
    name = f"ouroscope_{prefix}_{value.id}{unit_suffix(value.id, unit)}"
    told = f"{value.id.replace('_', ' ')} of the {'model' if value.model else 'text'} of the newest generation."
    labels = [run_id(run), arm, *([prompts_label(run)] if value.model else [])]
    families.setdefault(name, GaugeMetricFamily(name, told, labels=names)).add_metric(labels, mean)


def run_families(shown: Sequence[Exported]) -> list[Metric]:
    """Return what is said of runs and arms themselves."""
    info = GaugeMetricFamily("ouroscope_run_info", "What a run is about; always 1.", labels=["run", "model", "dataset"])
    state = GaugeMetricFamily("ouroscope_run_state", "1 for the state that a run is in.", labels=["run", "state"])
    success = GaugeMetricFamily(
        "ouroscope_last_success_timestamp_seconds", "When a run last finished a generation.", labels=["run"]
    )
    generation = GaugeMetricFamily("ouroscope_generation", "Newest examined generation.", labels=["run", "arm"])
    ratio = GaugeMetricFamily(
        "ouroscope_synthetic_ratio", "Share of synthetic tokens in what the model learnt from.", labels=["run", "arm"]
    )
    verdict = GaugeMetricFamily(
        "ouroscope_collapse_verdict", "1 for the verdict of an arm over its seeds.", labels=["run", "arm", "verdict"]
    )
    for one in shown:
        run = run_id(one.run)
        info.add_metric([run, one.run.spec.model, prompts_label(one.run)], 1)
        for each in RunState:
            state.add_metric([run, each.value], float(each is one.run.state))
        if one.last_success is not None:
            success.add_metric([run], one.last_success)
        for arm, seeds in newest_by_arm(one).items():
            number = seeds[0].generation.number
            generation.add_metric([run, arm], number)
            ratio.add_metric([run, arm], synthetic_ratio(one.run.spec, arm_named(one.run.spec, arm), number))
        for found in one.run.verdicts:
            for level in Verdict:
                verdict.add_metric([run, found.arm, level.value], float(level is found.verdict))
    return [info, state, success, generation, ratio, verdict]


def effect_families(shown: Sequence[Exported]) -> list[Metric]:
    """Return effects and their bounds, in units of human spread; means over the seeds that were compared."""
    told = "in units of the spread between human sources; positive is towards collapse."
    metrics = {
        suffix: GaugeMetricFamily(
            f"ouroscope_collapse_effect{suffix}", f"{name} of one metric, {told}", labels=["run", "arm", "metric"]
        )
        for suffix, name in BOUNDS.items()
    }
    families = {
        suffix: GaugeMetricFamily(
            f"ouroscope_collapse_family_effect{suffix}", f"{name} of a family, {told}", labels=["run", "arm", "family"]
        )
        for suffix, name in BOUNDS.items()
    }
    for one in shown:
        for arm, seeds in newest_by_arm(one).items():
            for name, bounds in _mean_bounds(_metric_bounds(kept.generation) for kept in seeds).items():
                _add_bounds(metrics, (run_id(one.run), arm, name), bounds)
            for name, bounds in _mean_bounds(_family_bounds(kept.generation) for kept in seeds).items():
                _add_bounds(families, (run_id(one.run), arm, name), bounds)
    return [*metrics.values(), *families.values()]


def _add_bounds(families: Mapping[str, GaugeMetricFamily], labels: Labels, bounds: Bounds) -> None:
    for suffix, value in zip(BOUNDS, bounds, strict=True):
        families[suffix].add_metric(labels, value)


def _metric_bounds(generation: Generation) -> dict[str, Bounds]:
    effects = generation.comparison.metrics if generation.comparison else ()
    return {
        e.id: (e.effect, e.lower, e.upper)
        for e in effects
        if e.effect is not None and e.lower is not None and e.upper is not None
    }


def _family_bounds(generation: Generation) -> dict[str, Bounds]:
    effects = generation.comparison.families if generation.comparison else ()
    return {effect.family.value.lower(): (effect.effect, effect.lower, effect.upper) for effect in effects}


def _mean_bounds(seeds: Iterable[Mapping[str, Bounds]]) -> dict[str, Bounds]:
    gathered: dict[str, list[Bounds]] = {}
    for one in seeds:
        for name, bounds in one.items():
            gathered.setdefault(name, []).append(bounds)
    return {
        name: (_mean([b[0] for b in same]), _mean([b[1] for b in same]), _mean([b[2] for b in same]))
        for name, same in gathered.items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
