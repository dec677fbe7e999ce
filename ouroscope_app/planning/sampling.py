"""How many words or prompts are enough for a wanted interval. Pure; costs nothing and knows no prices.

Every value is one of a budget, the largest of them 500,000 words. Where that is not enough for the wanted interval,
independent samples of 500,000 words are measured one by one and their values averaged: the half width falls with the
square root of their number, and the value stays one of 500,000 words, which a larger budget would change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope_app.planning.coefficients import PROMPTS, Measured, Width
from ouroscope_app.planning.inputs import Inputs
from services.analyzer.catalogue import METRICS
from services.analyzer.jackknife import GROUPS
from services.analyzer.sample import LADDER

LONG = 500.0
"""Words of a document above which it tells no more of the whole: widths fall with independent documents, and were
measured on pieces of up to 527 words."""
SPARE, SPARE_OF_LONG = 1.5, 2.5
"""Words to read for each that a rung takes, since its groups of whole documents are not even: 800 documents of one
length fill a rung from 1.1 times its words, 90 articles from 2.4 times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What one metric needs."""

    metric: str
    family: str
    unit: str
    """`words` or `prompts`."""
    needed: int
    """Words in all samples together that the wanted interval takes, at least the smallest budget; or the prompts."""
    rung: int
    """Budget to measure at; 0 for prompts, which have no budgets."""
    samples: int
    """Independent samples of that budget whose values are averaged."""
    read: int
    """Words to read, at random, so that each sample fills its rung; 0 for prompts."""
    documents: int
    """That many documents; or the prompts."""
    one_report: float | None
    """Half width of one report at the largest budget, as a share of the value; None for prompts, which have none."""
    corpus: str
    """The text on which the metric was known worst; the plan is made for one like it."""
    growth: float
    """The value itself grows with about this power of the budget."""
    note: str = ""


def headlines(measured: Measured) -> tuple[str, ...]:
    """Return the metrics that a plan can be made for: those that vote, and whose intervals were measured."""
    return tuple(metric.id for metric in METRICS if metric.headline and measured.width(metric.id))


def sampled(inputs: Inputs, measured: Measured) -> tuple[Sampled, ...]:
    """Return what each metric that was asked for needs, in the order of the catalogue.

    Raises:
        InvalidRequest: a metric is unknown, or its interval was not measured.
    """
    known = headlines(measured)
    _check(inputs.metrics, known)
    families = {metric.id: metric.family.value for metric in METRICS}
    wanted = [measured.width(id) for id in known if not inputs.metrics or id in inputs.metrics]
    return tuple(_of(width, families[width.metric], inputs) for width in wanted if width is not None)


def fill(budget: int) -> int:
    """Return the words of a rung: all groups, of which a replicate leaves out one.

    >>> fill(500_000)
    526320
    """
    return -(-budget // (GROUPS - 1)) * GROUPS


def to_read(budget: int, document_words: float) -> int:
    """Return the words to read so that every group fills its share of a rung.

    >>> to_read(500_000, 200), to_read(500_000, 2000)
    (789480, 1315800)
    """
    return math.ceil(fill(budget) * (SPARE if document_words <= LONG else SPARE_OF_LONG))


def largest_rung(words: float, document_words: float) -> int:
    """Return the budget of the largest rung that a corpus of so many words fills with room to spare; 0 for none."""
    return max((budget for budget in LADDER if to_read(budget, document_words) <= words), default=0)


def worth(document_words: float) -> float:
    """Return how many words of a long document tell as much as one of short ones.

    >>> worth(200), worth(2000)
    (1.0, 4.0)
    """
    return max(1.0, document_words / LONG)


def _check(metrics: Iterable[str], known: tuple[str, ...]) -> None:
    unknown = [id for id in metrics if id not in known]
    if unknown:
        told = f"no plan can be made for {', '.join(id[:60] for id in unknown)}; choose from {', '.join(known)}"
        raise InvalidRequest(told, [FieldProblem("metrics", told)])


def _of(width: Width, family: str, inputs: Inputs) -> Sampled:
    of_text = width.unit != PROMPTS
    return (_of_text if of_text else _of_prompts)(width, family, inputs)


def _of_prompts(width: Width, family: str, inputs: Inputs) -> Sampled:
    needed, corpus = width.size_for(inputs.interval)
    return Sampled(
        metric=width.metric,
        family=family,
        unit=width.unit,
        needed=needed,
        rung=0,
        samples=1,
        read=0,
        documents=needed,
        one_report=None,
        corpus=corpus,
        growth=width.growth,
        note=width.note,
    )


def _of_text(width: Width, family: str, inputs: Inputs) -> Sampled:
    longer = worth(inputs.document_words)
    words, corpus = width.size_for(inputs.interval)
    needed, one_report = max(LADDER[0], math.ceil(words * longer)), width.half_width(LADDER[-1] / longer)
    rung = next((budget for budget in LADDER if needed <= budget), LADDER[-1])
    # The sixth digit: a plan for exactly what one report reaches asks for one.
    samples = 1 if needed <= rung else math.ceil(round((one_report / inputs.interval) ** 2, 6))
    read = samples * to_read(rung, inputs.document_words)
    return Sampled(
        metric=width.metric,
        family=family,
        unit=width.unit,
        needed=needed if samples == 1 else samples * rung,
        rung=rung,
        samples=samples,
        read=read,
        documents=math.ceil(read / inputs.document_words),
        one_report=one_report,
        corpus=corpus,
        growth=width.growth,
        note=width.note,
    )
