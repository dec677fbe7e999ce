"""A parser that parses each document once, for simulations that measure samples of one corpus hundreds of times.

A document is parsed whole and remembered; `Parser` would stop a little behind its last word that a sample uses. Metrics
look only at the words that belong to their rung, as they do at all rungs but the largest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ouroscope.records.progress import Progress
from services.analyzer import tokens
from services.analyzer.parsing.parsed import Need, Parsed, join
from services.analyzer.parsing.parser import Parser
from services.analyzer.rungs import RungSample


class ParsedOnce:
    """Stands where a `Parser` is expected."""

    def __init__(self, parser: Parser) -> None:
        self.identity = parser.identity
        self.able = parser.able
        self._parser = parser
        self._known: dict[tuple[frozenset[Need], str], Parsed] = {}

    def parse(
        self,
        rung: RungSample,
        needs: frozenset[Need],
        on_progress: Callable[[Progress], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
    ) -> Parsed:
        """Return the tokens of all documents of `rung`, from memory where they were seen before."""
        new = list(dict.fromkeys(text for text in rung.texts if (needs, text) not in self._known))
        if new:
            whole = np.array([len(tokens.words(text)) for text in new], dtype=np.int32)
            corpus = replace(rung, texts=tuple(new), used_D=whole, places_D=np.arange(len(new), dtype=np.int32))
            parsed = self._parser.parse(corpus, needs, on_progress, check)
            self._known |= {(needs, text): one for text, one in zip(new, _documents(parsed, len(new)), strict=True)}
        return join(_placed([self._known[needs, text] for text in rung.texts], rung.places_D.tolist()))


def _documents(parsed: Parsed, count: int) -> Iterator[Parsed]:
    """Yield the documents 0 to `count` - 1 of `parsed`, each for itself under the number 0."""
    begins = np.searchsorted(parsed.document_T, np.arange(count + 1))
    for begin, end in itertools.pairwise(begins):
        here = slice(begin, end)
        used, lemmas = np.unique(parsed.lemma_T[here], return_inverse=True)
        yield Parsed(
            lemmas=tuple(parsed.lemmas[lemma] for lemma in used),
            lemma_T=lemmas.astype(np.int32),
            pos_T=parsed.pos_T[here],
            head_T=(parsed.head_T[here] - begin).astype(np.int32),
            sentence_T=parsed.sentence_T[here] - parsed.sentence_T[here][:1],
            document_T=np.zeros(end - begin, dtype=np.int32),
            word_T=parsed.word_T[here],
        )


def _placed(documents: Sequence[Parsed], places: Sequence[int]) -> Iterator[Parsed]:
    for one, place in zip(documents, places, strict=True):
        yield one.at(np.array([place], dtype=np.int32))
