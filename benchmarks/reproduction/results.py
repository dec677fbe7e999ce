"""What is kept of the runs of an experiment: figures by arm, seed and generation, small enough to be committed.

`python -m benchmarks.reproduction collect EXPERIMENT RUN...` makes a file of them from the runs of a home.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroscope.canonical import from_plain, to_plain
from ouroscope.records.analysis import Direction, Family
from services.analyzer.catalogue import CATALOGUE
from services.coordinator.report.view import Point, RunView, value_of
from services.coordinator.study.view import Across, Part, Study, trained_share

FOLDER = Path(__file__).parent / "kept"
DIRECTIONS = {info.id: info.direction for info in CATALOGUE}
METRICS = (
    *("heldout_perplexity", "gini_top100", "top1_probability", "collapsed_90", "collapsed_99", "next_token_entropy"),
    *("surplexity", "base_perplexity_of_synthetic", "last_n_accuracy", "types", "mattr", "token_entropy"),
    *("normalized_entropy_by_tokens", "distinct_3", "repetition_4", "hapax_share", "vocabulary_coverage"),
    *("cooccurrence_nodes", "cooccurrence_edges", "cooccurrence_hub_share", "syntactic_nodes", "syntactic_edges"),
)
"""Kept of every generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric of one arm under one seed, in the order of the generations; where it was measured."""

    metric: str
    generations: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One arm under one seed."""

    run: str
    arm: str
    seed: int
    lines: tuple[Line, ...]
    effects: tuple[Line, ...]
    """Of each family beside the control, in human spreads; the metric is the name of the family."""
    verdicts: tuple[str, ...]
    """By generation; empty where it was not compared."""
    human_share: tuple[float, ...] = ()
    """Of the documents that were selected, by generation; empty where nothing was selected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """What one arm was."""

    run: str
    arm: str
    protocol: str
    domains: tuple[str, ...]
    synthetic_share: float
    control: str
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A metric on the held-out text of one domain, first and last time it was looked at."""

    run: str
    arm: str
    seed: int
    domain: str
    metric: str
    first: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came of one experiment."""

    experiment: str
    command: str
    machine: str
    settings: str
    """Amounts in words."""
    arms: tuple[ArmFacts, ...]
    lanes: tuple[Lane, ...]
    across: tuple[Seen, ...] = ()


def read_results(experiment: str, folder: Path = FOLDER) -> Results | None:
    """Read what was kept of an experiment; None if it was never run."""
    path = folder / f"{experiment}.json"
    return from_plain(Results, json.loads(path.read_text("utf-8"))) if path.is_file() else None


def experiments(folder: Path = FOLDER) -> list[str]:
    """Return the names of the experiments of which results are kept."""
    return sorted(path.stem for path in folder.glob("*.json"))


def write_results(results: Results, folder: Path = FOLDER) -> Path:
    """Keep the results of an experiment."""
    path = folder / f"{results.experiment}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_plain(results), indent=1) + "\n", encoding="utf-8")
    return path


def results_of(study: Study, *, experiment: str, command: str, machine: str, settings: str) -> Results:
    """Take what is kept from the runs of a study; words and networks only of runs with one budget for all arms."""
    return Results(
        experiment=experiment,
        command=command,
        machine=machine,
        settings=settings,
        arms=tuple(fact for part in study.parts for fact in _arms(part)),
        lanes=tuple(lane for part in study.parts for lane in _lanes(part, _metrics(study, part.view.budget))),
        across=tuple(seen for part in study.parts for seen in _across(part, _metrics(study, study.budget))),
    )


def _metrics(study: Study, budget: int | None) -> list[str]:
    return [metric for metric in METRICS if budget is not None or study.info(metric).family is Family.MODEL]


def _arms(part: Part) -> Iterable[ArmFacts]:
    verdicts = {verdict.arm: verdict.verdict.value for verdict in part.view.run.verdicts}
    for arm in part.spec.arms:
        control = part.spec.control_of(arm)
        yield ArmFacts(
            run=part.name,
            arm=arm.name,
            protocol=arm.protocol,
            domains=arm.domains,
            synthetic_share=round(trained_share(part, arm), 4),
            control=control.name if control else "",
            verdict=verdicts.get(arm.name, ""),
        )


def _lanes(part: Part, metrics: Sequence[str]) -> Iterable[Lane]:
    for arm in part.spec.arms:
        for seed in part.view.seeds(arm.name):
            yield _lane(part.name, part.view, arm.name, seed, metrics)


def _lane(run: str, view: RunView, arm: str, seed: int, metrics: Sequence[str]) -> Lane:
    points = [point for point in view.of(arm) if point.seed == seed]
    lines = (_line(metric, {point.number: _value(point, metric) for point in points}) for metric in metrics)
    effects = (_line(f.value, {point.number: _effect(point, f) for point in points}) for f in Family)
    compared = (point.generation.comparison for point in points)
    return Lane(
        run=run,
        arm=arm,
        seed=seed,
        lines=tuple(line for line in lines if line.values),
        effects=tuple(line for line in effects if line.values),
        verdicts=tuple(comparison.verdict.value if comparison else "" for comparison in compared),
        human_share=tuple(share for point in points if (share := _human_share(point)) is not None),
    )


def _line(metric: str, found: Mapping[int, float | None]) -> Line:
    known = {number: value for number, value in found.items() if value is not None}
    return Line(metric=metric, generations=tuple(known), values=tuple(known.values()))


def _value(point: Point, metric: str) -> float | None:
    found = value_of(point.report, metric)
    return None if found is None else float(f"{found[0]:.6g}")


def _effect(point: Point, family: Family) -> float | None:
    comparison = point.generation.comparison
    found = next((e.effect for e in comparison.families if e.family is family), None) if comparison else None
    return None if found is None else float(f"{found:.4g}")


def _human_share(point: Point) -> float | None:
    made_of = [selected.chosen for selected in point.generation.selections]
    documents = sum(one.documents for one in made_of)
    return round(sum(o.documents * (o.human_share or 0) for o in made_of) / documents, 4) if documents else None


def _across(part: Part, metrics: Sequence[str]) -> Iterable[Seen]:
    places = dict.fromkeys((one.arm, one.seed, one.domain) for one in part.across)
    for arm, seed, domain in places:
        looks = [one for one in part.across if (one.arm, one.seed, one.domain) == (arm, seed, domain)]
        for metric in metrics:
            found = [_seen(look, metric) for look in sorted(looks, key=lambda one: one.number)]
            known = [value for value in found if value is not None]
            if len(known) > 1:
                place = {"run": part.name, "arm": arm, "seed": seed, "domain": domain, "metric": metric}
                yield from_plain(Seen, {**place, "first": known[0], "last": known[-1]})


def _seen(look: Across, metric: str) -> float | None:
    found = value_of(look.report, metric)
    return None if found is None else float(f"{found[0]:.6g}")


def rising(metric: str) -> int:
    """Return 1 if the metric rises under collapse, -1 if it falls; effects of families rise."""
    return -1 if DIRECTIONS.get(metric) is Direction.FALLING else 1


def lanes_of(results: Results, arm: str) -> Sequence[Lane]:
    """Return the lanes of an arm, given as `arm`, or as `run/arm` where `run` is how the name of its run ends."""
    run, _, name = arm.rpartition("/")
    return [lane for lane in results.lanes if lane.arm == name and lane.run.endswith(run)]
