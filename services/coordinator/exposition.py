"""From what is known of runs to families of metrics: labels, means over seeds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from prometheus_client.core import GaugeMetricFamily, Metric

from ouroscope.records.analysis import Verdict
from ouroscope.records.runs import Run, RunState
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
from services.coordinator.plan import arm_named, synthetic_ratio
from services.coordinator.rows import Kept, Measured
from services.coordinator.verdicts import warned_in_a_row

Place = tuple[str, int]
"""An arm and a seed."""


@dataclass(slots=True)
class Exported:
    """One run as it is shown."""

    run: Run
    ended_at: float | None = None
    newest: dict[Place, Kept] = field(default_factory=dict)
    """Newest examined generation of each arm and seed."""
    verdicts: dict[Place, dict[int, Verdict]] = field(default_factory=dict)
    """Of every generation that was compared."""
    last_success: float | None = None
    """Unix time at which a generation was last finished, or the run."""
    announced: bool = False
    """Whether this process was told of the run itself; generations that come before are those of earlier processes."""


def prompts_label(run: Run, arm: str | None = None) -> str:
    """Return the name of the text that models of an arm, or of any, are examined on.

    It is `embedded`, the name of the file without folders, or the domains, joined by `+`.
    """
    dataset = run.spec.dataset
    if not dataset.domains:
        return PurePath(dataset.source).name or dataset.source
    own = next((one.domains for one in run.spec.arms if one.name == arm), ())
    return "+".join(sorted(own or (domain.name for domain in dataset.domains)))


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
    families: dict[tuple[str, bool], GaugeMetricFamily] = {}
    for one in shown:
        for arm, seeds in newest_by_arm(one).items():
            for value, mean in means(seeds):
                if is_exported(value, units):
                    _add_value(families, one.run, arm, value, mean, units[value.id])
    return list(families.values())


def _add_value(
    families: dict[tuple[str, bool], GaugeMetricFamily], run: Run, arm: str, value: Measured, mean: float, unit: str
) -> None:
    names = ("run", "arm", "prompts") if value.model else ("run", "arm")
    family = families.setdefault((value.id, value.model), value_gauge("ouroscope", value, unit, names))
    family.add_metric([run_id(run), arm, *([prompts_label(run, arm)] if value.model else [])], mean)


def run_families(shown: Sequence[Exported]) -> list[Metric]:
    """Return what is said of runs themselves."""
    info = GaugeMetricFamily("ouroscope_run_info", "What a run is about; always 1.", labels=["run", "model", "dataset"])
    state = GaugeMetricFamily("ouroscope_run_state", "1 for the state that a run is in.", labels=["run", "state"])
    success = GaugeMetricFamily(
        "ouroscope_last_success_timestamp_seconds", "When a run last finished a generation.", labels=["run"]
    )
    for one in shown:
        run = run_id(one.run)
        info.add_metric([run, one.run.spec.model, prompts_label(one.run)], 1)
        for each in RunState:
            state.add_metric([run, each.value], float(each is one.run.state))
        if one.last_success is not None:
            success.add_metric([run], one.last_success)
    return [info, state, success]


def arm_families(shown: Sequence[Exported]) -> list[Metric]:
    """Return what is said of arms themselves."""
    generation = GaugeMetricFamily("ouroscope_generation", "Newest examined generation.", labels=["run", "arm"])
    ratio = GaugeMetricFamily(
        "ouroscope_synthetic_ratio", "Share of synthetic tokens in what the model learnt from.", labels=["run", "arm"]
    )
    verdict = GaugeMetricFamily(
        "ouroscope_collapse_verdict", "1 for the verdict of an arm over its seeds.", labels=["run", "arm", "verdict"]
    )
    warned = GaugeMetricFamily("ouroscope_warned_generations", WARNED_TOLD, labels=["run", "arm"])
    for one in shown:
        run = run_id(one.run)
        for arm, seeds in newest_by_arm(one).items():
            number = seeds[0].generation.number
            generation.add_metric([run, arm], number)
            ratio.add_metric([run, arm], synthetic_ratio(one.run.spec, arm_named(one.run.spec, arm), number))
        for found in one.run.verdicts:
            add_verdict(verdict, [run, found.arm], found.verdict)
            warned.add_metric([run, found.arm], _warned(one, found.arm))
    return [generation, ratio, verdict, warned]


def _warned(one: Exported, arm: str) -> int:
    """Return the number that at least half of the seeds reach, as verdicts over seeds are given."""
    by_seed = sorted((warned_in_a_row(v) for (name, _), v in one.verdicts.items() if name == arm), reverse=True)
    return by_seed[(len(by_seed) + 1) // 2 - 1] if by_seed else 0


def effect_families(shown: Sequence[Exported]) -> list[Metric]:
    """Return effects and their bounds, in units of human spread; means over the seeds that were compared."""
    metrics = EffectGauges("ouroscope_collapse_effect", "one metric", ("run", "arm", "metric"))
    families = EffectGauges("ouroscope_collapse_family_effect", "a family", ("run", "arm", "family"))
    for one in shown:
        for arm, seeds in newest_by_arm(one).items():
            for name, bounds in _mean_bounds(metric_bounds(kept.generation.comparison) for kept in seeds).items():
                metrics.add((run_id(one.run), arm, name), bounds)
            for name, bounds in _mean_bounds(family_bounds(kept.generation.comparison) for kept in seeds).items():
                families.add((run_id(one.run), arm, name), bounds)
    return [*metrics.families, *families.families]


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
