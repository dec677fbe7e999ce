"""What a study shows, as plain data. Knows neither where it comes from nor how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from ouroscope.records.analysis import Direction, Family, MetricInfo, Report
from ouroscope.records.runs import ArmSpec, RunSpec
from services.coordinator.plan import synthetic_ratio
from services.coordinator.report.differences import interval
from services.coordinator.report.view import Point, RunView, value_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """What one generation does on one domain."""

    arm: str
    seed: int
    number: int
    domain: str
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One run of a study."""

    view: RunView
    across: tuple[Across, ...] = ()

    @property
    def name(self) -> str:
        """Return the id of the run."""
        return self.view.run.name.removeprefix("runs/")

    @property
    def spec(self) -> RunSpec:
        """Return what it was told to do."""
        return self.view.run.spec


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs that are looked at together, measured at one budget."""

    parts: tuple[Part, ...]
    metrics: tuple[MetricInfo, ...]
    budget: int | None = None
    """Words at which text and networks are measured in all runs; None if they reach none in common: then each run has
    a budget of its own (`part.view.budget`), or none."""
    left_out: tuple[str, ...] = field(default=())
    """Runs that were asked for and have nothing to show."""

    @property
    def arms(self) -> list[tuple[Part, ArmSpec]]:
        """Return every arm with the run that it is of."""
        return [(part, arm) for part in self.parts for arm in part.spec.arms]

    def info(self, metric: str) -> MetricInfo:
        """Return the catalogue's entry, or a bare one for a metric that it does not know."""
        unknown = MetricInfo(id=metric, family=Family.TEXT, unit="", direction=Direction.NONE)
        return next((info for info in self.metrics if info.id == metric), unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A figure over independent repetitions."""

    value: float
    error: float | None = None
    """Standard error of the mean over seeds; None with one seed."""
    lower: float | None = None
    """95 % t-interval of the mean; None with one seed."""
    upper: float | None = None
    seeds: int = 1


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return the mean over seeds with its standard error (not the variance over documents), or None of nothing.

    >>> mean_of([1.0, 3.0]).error
    1.0
    """
    if not values:
        return None
    lower, upper = interval(values)
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return Mean(value=fmean(values), error=error, lower=lower, upper=upper, seeds=len(values))


def label(study: Study, part: Part, arm: str) -> str:
    """Return the name of an arm in a study: with its run only where there are several."""
    return arm if len(study.parts) == 1 else f"{part.name}: {arm}"


def trained_share(part: Part, arm: ArmSpec) -> float:
    """Return the mean share of synthetic tokens, in [0, 1], in what the models of an arm were trained on.

    What was really chosen where documents were selected; else what the protocol says.
    """
    chosen = [share for point in part.view.of(arm.name) if (share := _chosen_share(part, arm, point)) is not None]
    return fmean(chosen or [synthetic_ratio(part.spec, arm, j) for j in range(1, part.spec.generations + 1)])


def _chosen_share(part: Part, arm: ArmSpec, point: Point) -> float | None:
    made_of = [selected.chosen for selected in point.generation.selections]
    if not made_of or len(made_of) != len(point.generation.training):
        return None
    documents = sum(one.documents for one in made_of)
    human = sum(one.documents * (one.human_share or 0.0) for one in made_of) / max(1, documents)
    return (1 - human) * (1 - part.spec.prefix_tokens(arm) / part.spec.document_tokens)


def values_at(view: RunView, arm: str, number: int, metric: str) -> dict[int, float]:
    """Return a metric by seed at one generation, where it was measured."""
    found = {point.seed: value_of(point.report, metric) for point in view.of(arm, number)}
    return {seed: bounded[0] for seed, bounded in found.items() if bounded is not None}


def paired(mine: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """Return mine minus theirs of every seed that both have: they saw the same prompts and the same noise."""
    return [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]


def change(part: Part, arm: ArmSpec, metric: str) -> list[float]:
    """Return by how much an arm differs at its end from its control, else from its own generation 0, seed by seed."""
    view = part.view
    measured = view.measured(arm.name)
    if not measured:
        return []
    last = measured[-1]
    control = part.spec.control_of(arm)
    baseline = values_at(view, control.name, last, metric) if control else values_at(view, arm.name, 0, metric)
    return paired(values_at(view, arm.name, last, metric), baseline)


def family_effects(part: Part, arm: str, family: Family) -> list[float]:
    """Return the effect of a family at the last compared generation, seed by seed, in human spreads."""
    last: dict[int, tuple[int, float]] = {}
    for point in part.view.of(arm):
        for effect in point.generation.comparison.families if point.generation.comparison else ():
            if effect.family is family and point.number >= last.get(point.seed, (-1, 0.0))[0]:
                last[point.seed] = (point.number, effect.effect)
    newest = max((number for number, _ in last.values()), default=0)
    return [effect for number, effect in last.values() if number == newest]
