"""A made-up run for looking at the report page: `python tests/report_example.py page.html`.

Figures are invented but shaped like those of a real run; some texts are hostile on purpose.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from ouroscope.canonical import to_plain
from ouroscope.records.analysis import (
    Comparison,
    Concept,
    Direction,
    Family,
    FamilyEffect,
    Histogram,
    LeftOut,
    MetricEffect,
    MetricInfo,
    MetricValue,
    NetworkDrawing,
    Relation,
    Report,
    Rung,
    Verdict,
    VerdictReason,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.runs import ArmSpec, ArmVerdict, Generation, Run, RunSpec, RunState, StageTime
from services.coordinator.report.view import Point, RunView, Sample

HOSTILE = "</p></article><script>document.title='owned'</script><img src=x onerror=alert(1)> & \"quoted\" 'text'"

METRICS = tuple(
    MetricInfo(id=id, family=family, unit=unit, direction=direction, headline=headline, summary="")
    for id, family, unit, direction, headline in [
        ("types", Family.TEXT, "words", Direction.FALLING, True),
        ("mattr", Family.TEXT, "ratio", Direction.FALLING, True),
        ("token_entropy", Family.TEXT, "nats", Direction.FALLING, True),
        ("normalized_entropy_by_tokens", Family.TEXT, "ratio", Direction.FALLING, True),
        ("distinct_3", Family.TEXT, "ratio", Direction.FALLING, True),
        ("yule_k", Family.TEXT, "1", Direction.RISING, False),
        ("repetition_4", Family.TEXT, "ratio", Direction.RISING, False),
        ("sentence_length", Family.TEXT, "words", Direction.NONE, False),
        ("cooccurrence_nodes", Family.NETWORK, "concepts", Direction.FALLING, True),
        ("cooccurrence_edges", Family.NETWORK, "relations", Direction.FALLING, True),
        ("cooccurrence_hub_share", Family.NETWORK, "ratio", Direction.RISING, True),
        ("cooccurrence_density", Family.NETWORK, "ratio", Direction.NONE, False),
        ("top1_probability", Family.MODEL, "ratio", Direction.RISING, True),
        ("gini_top100", Family.MODEL, "ratio", Direction.RISING, True),
        ("next_token_entropy", Family.MODEL, "nats", Direction.FALLING, True),
        ("heldout_perplexity", Family.MODEL, "tokens", Direction.RISING, False),
        ("surplexity", Family.MODEL, "tokens", Direction.FALLING, False),
    ]
)
START = {
    "types": 2210,
    "mattr": 0.78,
    "token_entropy": 6.1,
    "normalized_entropy_by_tokens": 0.662,
    "distinct_3": 0.93,
    "yule_k": 96,
    "repetition_4": 0.012,
    "sentence_length": 17,
    "cooccurrence_nodes": 1480,
    "cooccurrence_edges": 9300,
    "cooccurrence_hub_share": 0.21,
    "cooccurrence_density": 0.0085,
    "top1_probability": 0.31,
    "gini_top100": 0.68,
    "next_token_entropy": 4.1,
    "heldout_perplexity": 262,
    "surplexity": 140,
}
# fmt: off
WORDS = [
    "function", "array", "value", "tensor", "return", "object", "class", "method", "index", "key", "file", "module",
    "list", "string", "error", "model", "graph", "node", "edge", "type", "data", "parameter", "default", "option",
    "input", "output", "shape", "axis", "dimension", "matrix", "vector", "token", "text", "layer", "weight",
    "gradient", "device", "memory", "thread", "process", "stream", "buffer", "cache", "table", "row", "column",
    "query", "field", "record", "format", "path", "name", "system", "user",
]
# fmt: on


def example_view(
    *, seeds: int = 3, generations: int = 5, arms: tuple[str, ...] = ("human", "replace", "accumulate")
) -> RunView:
    """Return a finished run in which `replace` collapses and the others do not."""
    spec = RunSpec(
        name="three-arms", arms=tuple(ArmSpec(name=n, protocol=n) for n in arms), generations=generations, seeds=seeds
    )
    points = tuple(
        _point(spec, arm, seed, number) for arm in arms for seed in range(seeds) for number in range(generations + 1)
    )
    run = Run(
        name="runs/three-arms-1",
        spec=spec,
        state=RunState.SUCCEEDED,
        create_time=datetime(2026, 11, 22, 10, 30, tzinfo=UTC),
        update_time=datetime(2026, 11, 22, 10, 36, tzinfo=UTC),
        verdicts=tuple(_verdict(arm) for arm in arms),
        generations_done=len(points),
        generations_total=len(points),
        base_perplexity=262.4,
        unigram_perplexity=871.0,
        uniform_perplexity=4096.0,
    )
    return RunView(
        run=run,
        points=points,
        metrics=METRICS,
        samples=tuple(_samples(arms, generations)),
        specification=yaml.safe_dump(to_plain(spec), sort_keys=False),
        versions={"python": "3.11.7", "ouroscope": "0.1.0", "torch": "2.13.0"},
    )


def one_seed() -> RunView:
    """Return a run as `make run` makes it: two arms, one seed."""
    return example_view(seeds=1, arms=("human", "replace"))


def unfinished() -> RunView:
    """Return a run that failed after the first generation, without verdicts."""
    view = one_seed()
    run = replace(view.run, state=RunState.FAILED, error="the disk is full; free some space, then resume", verdicts=())
    return replace(view, run=run, points=tuple(point for point in view.points if point.number == 0))


def _drift(arm: str, number: int) -> float:
    """Return how far an arm has moved, in [0, 1)."""
    rate = {"replace": 0.35, "accumulate": 0.006}.get(arm, 0.004)
    return 1 - math.exp(-rate * number)


def _point(spec: RunSpec, arm: str, seed: int, number: int) -> Point:
    rng = random.Random(f"{arm}/{seed}/{number}" if number else f"base/{seed}")
    ref = ArtifactRef(ArtifactKind.MODEL, f"{rng.getrandbits(256):064x}")
    families = tuple(_family(family, _drift(arm, number), rng) for family in list(Family)[:3])
    compared = arm != "human" or number > 0
    generation = Generation(
        name=f"runs/three-arms-1/arms/{arm}/seeds/{seed}/generations/{number}",
        number=number,
        state=RunState.SUCCEEDED,
        model=ref,
        corpus=ArtifactRef(ArtifactKind.CORPUS, ref.digest),
        report=ArtifactRef(ArtifactKind.REPORT, ref.digest),
        comparison=_comparison(arm, number, families, rng) if compared else None,
        human_gap=_comparison(arm, number, families, rng),
        stages=(StageTime(stage="generate", seconds=12.5), StageTime(stage="fine_tune", seconds=20.1)),
    )
    rng = random.Random(f"{arm}/{seed}/{number}/measured" if number else f"base/{seed}/measured")
    human = _report("people", 0, random.Random(f"people/{seed}/{number}"), model=False)
    return Point(arm=arm, seed=seed, generation=generation, report=_report(arm, number, rng), human=human)


def _report(arm: str, number: int, rng: random.Random, *, model: bool = True) -> Report:
    values = [_value(info, _drift(arm, number) if arm != "people" else -0.12, rng) for info in METRICS]
    split = [
        [v for v, i in zip(values, METRICS, strict=True) if (i.family is Family.MODEL) is side]
        for side in (False, True)
    ]
    return Report(
        analyzer_version="1",
        documents=800,
        tokens=41_000,
        clusters=300,
        rungs=(Rung(budget=20_000, clusters=200, metrics=tuple(split[0])),),
        model_metrics=tuple(split[1]) if model else (),
        top1_histogram=_histogram(_drift(arm, number), rng) if model else None,
        drawing=_drawing(_drift(arm, number), rng) if model else None,
        left_out=(LeftOut(id="pos_divergence", reason="no parser is installed"),),
    )


def _value(info: MetricInfo, drift: float, rng: random.Random) -> MetricValue:
    if info.id == "surplexity" and drift > 0.8:
        return MetricValue(id=info.id, undefined_because="no text was scored")
    sign = {Direction.FALLING: -1, Direction.RISING: 1, Direction.NONE: 0}[info.direction]
    value = START[info.id] * (1 + sign * 0.4 * drift + rng.gauss(0, 0.008))
    return MetricValue(id=info.id, value=value, lower=value * 0.98, upper=value * 1.02)


def _histogram(drift: float, rng: random.Random) -> Histogram:
    draws = [rng.betavariate(1.2 + 5 * drift, 2.6 - 1.6 * drift) for _ in range(300)]
    counts = [sum(place / 20 <= draw < (place + 1) / 20 for draw in draws) for place in range(20)]
    return Histogram(edges=tuple(place / 20 for place in range(21)), counts=tuple(counts))


def _drawing(drift: float, rng: random.Random) -> NetworkDrawing:
    kept = sorted(rng.sample(WORDS, max(14, round(40 * (1 - 0.6 * drift)))), key=WORDS.index)
    concepts = tuple(Concept(label=word, strength=60 / (place + 2), degree=4) for place, word in enumerate(kept))
    pairs = {tuple(sorted(rng.sample(range(len(kept)), 2), key=int)) for _ in range(3 * len(kept))}
    relations = tuple(Relation(source=a, target=b, weight=1 + 30 / (a + b + 1)) for a, b in sorted(pairs))
    return NetworkDrawing(construction="cooccurrence", concepts=concepts, relations=relations)


def _family(family: Family, drift: float, rng: random.Random) -> FamilyEffect:
    effect = 40 * drift**1.3 * {Family.TEXT: 0.6, Family.NETWORK: 0.3, Family.MODEL: 1.0}[family] + rng.gauss(0, 0.15)
    half = 0.4 + 0.05 * effect
    return FamilyEffect(
        family=family, effect=effect, lower=effect - half, upper=effect + half, p_value=0.01, metrics=("types",)
    )


def _comparison(arm: str, number: int, families: tuple[FamilyEffect, ...], rng: random.Random) -> Comparison:
    worst = max(family.lower for family in families)
    verdict = Verdict.COLLAPSE if worst > 4 else Verdict.WARNING if worst > 1 else Verdict.STABLE
    effects = [rng.gauss(14, 9) * _drift(arm, number) for _ in METRICS]
    metrics = tuple(
        MetricEffect(id=info.id, baseline=1.0, candidate=1.0, effect=effect, lower=effect - 0.8, upper=effect + 0.8)
        for info, effect in zip(METRICS, effects, strict=True)
    )
    sentence = "the diversity of the text is 3.21 human spreads (95 % interval 2.60 to 3.82) worse than the baseline."
    return Comparison(
        verdict=verdict,
        reason=VerdictReason.WITHIN_MARGIN,
        sentence=f"{verdict.value.capitalize()}: {sentence}",
        families=families,
        metrics=tuple(sorted(metrics, key=lambda one: -abs(one.effect or 0))),
    )


def _verdict(arm: str) -> ArmVerdict:
    if arm == "replace":
        sentence = (
            "COLLAPSE in 3 of 3 seeds, beside arm human at the same generation (generation 2, seed 0): Collapse: the "
            "openness of the model's predictions is 14.2 human spreads (95 % interval 13.0 to 15.4) worse than the "
            "baseline, wholly beyond the far bound of 4 that no human control reached."
        )
        return ArmVerdict(arm=arm, verdict=Verdict.COLLAPSE, sentence=sentence)
    sentence = (
        "STABLE in 3 of 3 seeds, beside its own generation 0 (generation 5, seed 0): Stable: no family is worse than "
        "the baseline by the margin of 1; closest to it is the diversity of the text, worse by 0.21 human spreads "
        "(95 % interval -0.20 to 0.62)."
    )
    return ArmVerdict(arm=arm, verdict=Verdict.STABLE, sentence=sentence)


def _samples(arms: tuple[str, ...], generations: int) -> list[Sample]:
    prefixes = ["Return a new array of the given shape and type,", "The iterator yields", HOSTILE]
    found = []
    for place, prefix in enumerate(prefixes):
        for arm in arms:
            for number in range(generations + 1):
                rng = random.Random(f"{place}/{arm}/{number}")
                few = WORDS[: max(4, round(40 * (1 - _drift(arm, number))))]
                text = " " + " ".join(rng.choice(few) for _ in range(40)) + ("." if place else HOSTILE)
                found.append(Sample(prompt=f"p{place}", arm=arm, number=number, prefix=prefix, continuation=text))
    return found


if __name__ == "__main__":
    from services.coordinator.report.page import render_report

    kinds = {"three": example_view, "one": one_seed, "unfinished": unfinished}
    Path(sys.argv[1]).write_text(render_report(kinds[sys.argv[2] if len(sys.argv) > 2 else "three"]()), "utf-8")
