"""Random draws from a world of human text or records, each measured like any corpus: the material of `coverage`."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ouroscope.records.analysis import MetricValue
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import NextToken
from services.analyzer.analysis import Options, measure
from services.analyzer.jackknife import GROUPS
from services.analyzer.modelled import ModelSample
from services.analyzer.sample import LADDER, Accumulator, words_per_group
from services.analyzer.tools import Tools

BUDGET = LADDER[0]
SHARE = words_per_group(BUDGET)
PROMPTS = 200
"""Prompts of a draw, as the quickstart has them."""

Values = Mapping[str, MetricValue]


class Unfilled(Exception):
    """A draw was too small for its rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What one draw measured, and the share of all clusters that it used."""

    values: Values
    fraction: float


Sampler = Callable[[random.Random, int], Draw]
"""Makes a draw of so many times the words that the rung uses."""


def of_text(documents: Sequence[Document], ids: tuple[str, ...], tools: Tools) -> Sampler:
    """Return what draws clusters of documents and measures the metrics `ids` at the smallest rung."""
    world = clusters(documents)

    def draw(rng: random.Random, given: int) -> Draw:
        # The second rung is never reached: it makes the accumulator keep all that it is given.
        accumulator = Accumulator(View.WHOLE, (BUDGET, LADDER[-1])).fold_all(_taken(world, rng, given))
        (report, _) = measure(accumulator.finalise(), ModelSample(), Options(metrics=ids), tools)
        (rung,) = report.rungs
        if rung.budget != BUDGET:
            raise Unfilled
        return Draw(values=_by_id(rung.metrics), fraction=rung.clusters / len(world))

    return draw


def clusters(documents: Iterable[Document]) -> list[list[str]]:
    """Return the texts of each cluster; long documents without a group are cut into pieces of a group's share."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        for piece, text in enumerate([document.text] if document.group else _pieces(document.text)):
            by_name[document.group or f"{document.id}/{piece}"].append(text)
    return list(by_name.values())


def _pieces(text: str) -> Iterator[str]:
    """Cut into equal pieces of about a group's share."""
    words = text.split(" ")
    count = max(1, round(len(words) / SHARE))
    for piece in range(count):
        yield " ".join(words[piece * len(words) // count : (piece + 1) * len(words) // count])


def _taken(world: Sequence[Sequence[str]], rng: random.Random, given: int) -> Iterator[Document]:
    words = 0
    for texts in rng.sample(world, len(world)):
        # A new name each time: the order of sampling follows from the names.
        name = f"{rng.getrandbits(64):x}"
        yield from (Document(id=f"{name}/{number}", text=text, group=name) for number, text in enumerate(texts))
        words += min(SHARE, sum(len(text.split()) for text in texts))
        if words >= given * GROUPS * SHARE:
            return


def of_model(records: Iterable[NextToken], ids: tuple[str, ...]) -> Sampler:
    """Return what draws clusters of next-token records, about `PROMPTS` of them."""
    by_name: dict[str, list[NextToken]] = defaultdict(list)
    for record in records:
        by_name[record.cluster or record.prompt_id].append(record)
    # As with text, what is larger than a group's share is cut.
    world = [
        found[at : at + PROMPTS // GROUPS]
        for found in by_name.values()
        for at in range(0, len(found), PROMPTS // GROUPS)
    ]

    def draw(rng: random.Random, given: int) -> Draw:
        known = ModelSample()
        clusters = _prompts(world, rng)
        for number, cluster in enumerate(clusters):
            name = f"{number}/{rng.getrandbits(64):x}"
            known.fold_next_tokens(replace(record, cluster=name) for record in cluster)
        report, _ = measure(Accumulator().finalise(), known, Options(metrics=ids))
        return Draw(values=_by_id(report.model_metrics), fraction=len(clusters) / len(world))

    return draw


def _prompts(world: Sequence[Sequence[NextToken]], rng: random.Random) -> list[Sequence[NextToken]]:
    """Return random clusters that have `PROMPTS` prompts between them, or a few more."""
    taken: list[Sequence[NextToken]] = []
    for cluster in rng.sample(world, len(world)):
        if sum(map(len, taken)) >= PROMPTS:
            break
        taken.append(cluster)
    return taken


def of_share(share: float) -> Sampler:
    """Return what makes up `PROMPTS` prompts, each collapsed with the probability `share`."""

    def draw(rng: random.Random, given: int) -> Draw:
        known = ModelSample()
        tops = [0.995 if rng.random() < share else 0.5 for _ in range(PROMPTS)]
        names = (f"{rng.getrandbits(64):x}" for _ in tops)
        known.fold_next_tokens(
            NextToken(prompt_id=name, cluster=name, top_probabilities=(top,), entropy=1.0)
            for name, top in zip(names, tops, strict=True)
        )
        report, _ = measure(Accumulator().finalise(), known, Options(metrics=("collapsed_99",)))
        return Draw(values=_by_id(report.model_metrics), fraction=0.0)

    return draw


def _by_id(values: Iterable[MetricValue]) -> Values:
    return {value.id: value for value in values if value.value is not None}
