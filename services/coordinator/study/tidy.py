"""Tidy tables: one row per observation, for whoever wants to draw or test something else. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ouroscope.records.analysis import Report
from ouroscope.records.selection import Composition
from services.coordinator.plan import arm_named, synthetic_ratio
from services.coordinator.study.view import Part, Study, mean_of, values_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRow:
    """One metric of one generation under one seed."""

    run: str
    arm: str
    protocol: str
    real_share: float
    seed: int
    generation: int
    domain: str
    """Domain of the held-out text of a row of the cross-dataset matrix; empty for the arm's own evaluation."""
    synthetic_share: float
    """Share of synthetic tokens in what this generation was last trained on, in [0, 1]."""
    text: str
    """`model` for what the generation wrote, `human` for the real continuation of the same prompts."""
    family: str
    metric: str
    direction: str
    budget: int | None
    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRow:
    """One metric of one generation over the seeds."""

    run: str
    arm: str
    generation: int
    synthetic_share: float
    family: str
    metric: str
    direction: str
    mean: float
    standard_error: float | None
    lower: float | None
    upper: float | None
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRow:
    """The effect of one family at one generation under one seed, with the verdict that was given."""

    run: str
    arm: str
    control: str
    seed: int
    generation: int
    family: str
    effect: float
    lower: float | None
    upper: float | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRow:
    """What was chosen of a pool for the model after one generation."""

    run: str
    arm: str
    seed: int
    generation: int
    side: str
    """`pool` or `chosen`."""
    documents: int
    human_share: float | None
    domains: str
    """As `news 0.25, wiki 0.75`."""
    mean_words: float | None
    surplexity_median: float | None


def value_rows(study: Study) -> Iterator[ValueRow]:
    """Yield every defined value, first of what models wrote and expect, then of people, then across domains."""
    for part in study.parts:
        for point in part.view.points:
            for text, report in (("model", point.report), ("human", point.human)):
                if report is not None:
                    yield from _values(study, part, (point.arm, point.seed, point.number), "", text, report)
        for one in part.across:
            yield from _values(study, part, (one.arm, one.seed, one.number), one.domain, "model", one.report)


def _values(
    study: Study, part: Part, place: tuple[str, int, int], domain: str, text: str, report: Report
) -> Iterator[ValueRow]:
    arm_name, seed, number = place
    arm = arm_named(part.spec, arm_name)
    share = synthetic_ratio(part.spec, arm, number)
    budget = report.rungs[0].budget if report.rungs else None
    for value in report.metrics:
        if value.value is not None:
            info = study.info(value.id)
            yield ValueRow(
                run=part.name,
                arm=arm_name,
                protocol=arm.protocol,
                real_share=arm.real_share,
                seed=seed,
                generation=number,
                domain=domain,
                synthetic_share=share,
                text=text,
                family=info.family.value,
                metric=value.id,
                direction=info.direction.value,
                budget=budget,
                value=value.value,
                lower=value.lower,
                upper=value.upper,
            )


def mean_rows(study: Study) -> Iterator[MeanRow]:
    """Yield mean and standard error over seeds of every metric at every generation."""
    for part in study.parts:
        for arm in part.spec.arms:
            for number in part.view.measured(arm.name):
                share = synthetic_ratio(part.spec, arm, number)
                for info in study.metrics:
                    mean = mean_of(list(values_at(part.view, arm.name, number, info.id).values()))
                    if mean is not None:
                        yield MeanRow(
                            run=part.name,
                            arm=arm.name,
                            generation=number,
                            synthetic_share=share,
                            family=info.family.value,
                            metric=info.id,
                            direction=info.direction.value,
                            mean=mean.value,
                            standard_error=mean.error,
                            lower=mean.lower,
                            upper=mean.upper,
                            seeds=mean.seeds,
                        )


def effect_rows(study: Study) -> Iterator[EffectRow]:
    """Yield every effect that voted."""
    for part in study.parts:
        for point in part.view.points:
            comparison = point.generation.comparison
            control = part.spec.control_of(arm_named(part.spec, point.arm))
            for effect in comparison.families if comparison else ():
                assert comparison is not None
                yield EffectRow(
                    run=part.name,
                    arm=point.arm,
                    control=control.name if control else "generation 0",
                    seed=point.seed,
                    generation=point.number,
                    family=effect.family.value,
                    effect=effect.effect,
                    lower=effect.lower,
                    upper=effect.upper,
                    verdict=comparison.verdict.value,
                )


def selection_rows(study: Study) -> Iterator[SelectionRow]:
    """Yield what pools and choices were made of."""
    for part in study.parts:
        for point in part.view.points:
            for selected in point.generation.selections:
                for side, made_of in (("pool", selected.pool), ("chosen", selected.chosen)):
                    yield _selection(part, (point.arm, point.seed, point.number), side, made_of)


def _selection(part: Part, place: tuple[str, int, int], side: str, made_of: Composition) -> SelectionRow:
    middle = made_of.surplexity[len(made_of.surplexity) // 2] if made_of.surplexity else None
    return SelectionRow(
        run=part.name,
        arm=place[0],
        seed=place[1],
        generation=place[2],
        side=side,
        documents=made_of.documents,
        human_share=made_of.human_share,
        domains=", ".join(f"{share.label} {share.value:.2f}" for share in made_of.domains),
        mean_words=made_of.mean_words,
        surplexity_median=middle,
    )
