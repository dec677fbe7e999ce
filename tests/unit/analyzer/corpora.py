"""Small corpora for the tests of the analyzer."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st

from ouroscope.records.documents import Document
from services.analyzer.rungs import RungSample, ladder
from services.analyzer.sample import LADDER, Accumulator, Sample

SMALL = (19, 38, 95)
"""A ladder that a few dozen words fill: 1, 2 and 5 words of every group."""


def document(text: str, number: int = 0, group: str | None = None, prompt: str | None = None) -> Document:
    return Document(id=f"d{number}", text=text, group=group, prompt_id=prompt)


def sample_of(documents: Sequence[Document], budgets: tuple[int, ...] = SMALL) -> Sample:
    return Accumulator(budgets=budgets).fold_all(documents).finalise()


def rung_of(texts: Sequence[str], budgets: tuple[int, ...] = LADDER) -> RungSample:
    """Return the largest rung of a corpus, or all of it where there are fewer than 20 different texts."""
    return ladder(sample_of([document(text, number) for number, text in enumerate(texts)], budgets))[-1]


@st.composite
def corpora(draw: st.DrawFn, most: int = 120) -> list[Document]:
    """Documents of a few words from a small vocabulary: some without words, some copies, some of one source."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    size = draw(st.integers(1, most))
    sources = draw(st.integers(1, most))
    longest = draw(st.integers(1, 12))
    return [_draw_document(rng, number, sources, longest) for number in range(size)]


def _draw_document(rng: random.Random, number: int, sources: int, longest: int) -> Document:
    text = " ".join(rng.choice("abcdefghij") * rng.randint(1, 2) for _ in range(rng.randint(0, longest)))
    source = f"source {rng.randrange(sources)}"
    kind = rng.randrange(3)
    return document(text, number, group=source if kind == 0 else None, prompt=source if kind == 1 else None)


def prose(documents: int, words: int, seed: int, vocabulary: int = 2_000) -> list[str]:
    """Texts whose words are drawn from Zipf's law, all of one length."""
    rng = random.Random(seed)
    ranks = range(1, vocabulary + 1)
    weights = [1 / rank for rank in ranks]
    return [" ".join(_word(rank) for rank in rng.choices(ranks, weights, k=words)) for _ in range(documents)]


def _word(rank: int) -> str:
    return "z" + "".join(chr(ord("a") + int(digit)) for digit in str(rank))
