"""What was measured, with where each figure is from: the only numbers of the cost model that are not inputs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ouroscope.canonical import from_plain

WORDS, PROMPTS = "words", "prompts"
"""What the size of a sample is counted in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """One figure."""

    id: str
    value: float
    unit: str
    source: str
    """What was run, or which page has it, and on how many words at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusWidth:
    """How wide the interval of one metric is on one corpus, as a power of the size."""

    corpus: str
    half_width: float
    """Half of the 95 % interval as a share of the value, at the size of the `Width` that this is part of."""
    exponent: float
    """It falls with this power of the size; 1/2 is what theory says of means of independent documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """How wide the interval of one metric is, and how that and the value itself change with the size of the sample.

    Where corpora differ, a plan is made for the one that knows the metric worst at that size.
    """

    metric: str
    unit: str
    """`words` or `prompts`."""
    size: int
    """Words or prompts that `half_width` of the corpora is told for."""
    corpora: tuple[CorpusWidth, ...]
    growth: float
    """The value itself grows with about this power of the size; 0 where it does not change."""
    note: str = ""

    def half_width(self, size: float) -> float:
        """Return the half width at a size, as a share of the value."""
        return max(one.half_width * math.pow(self.size / size, one.exponent) for one in self.corpora)

    def size_for(self, wanted: float) -> tuple[int, str]:
        """Return the least size, 1 or more, at which every corpus has the wanted half width, and the one that needs it.

        >>> a = CorpusWidth(corpus="a", half_width=0.06, exponent=0.5)
        >>> b = CorpusWidth(corpus="b", half_width=0.04, exponent=0.25)
        >>> law = Width(metric="types", unit=WORDS, size=10_000, corpora=(a, b), growth=0.6)
        >>> law.size_for(0.05), law.size_for(0.02)
        ((14400, 'a'), (160000, 'b'))
        """
        sizes = [(self.size * (one.half_width / wanted) ** (1 / one.exponent), one.corpus) for one in self.corpora]
        size, corpus = max(sizes)
        # Powers of decimal fractions miss whole numbers by little, and nobody wants one word more for that.
        return max(1, math.ceil(round(size, 6))), corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that was measured."""

    date: str
    """Day of the last measurement, ISO 8601."""
    machine: str
    coefficients: tuple[Coefficient, ...]
    widths: tuple[Width, ...]

    def __getitem__(self, id: str) -> float:
        """Return the value of a coefficient."""
        return next(one.value for one in self.coefficients if one.id == id)

    def width(self, metric: str) -> Width | None:
        """Return what is known of the interval of a metric."""
        return next((one for one in self.widths if one.metric == metric), None)


@cache
def shipped() -> Measured:
    """Return what the project measured."""
    text = resources.files("ouroscope_app.planning").joinpath("measured.json").read_text(encoding="utf-8")
    return from_plain(Measured, json.loads(text))
