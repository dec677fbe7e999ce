"""Parses for tests: random trees, and a parser that makes trees of its own from words alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from services.analyzer import tokens
from services.analyzer.parsing.parsed import PARSED, PARTS_OF_SPEECH, Need, Parsed
from services.analyzer.rungs import RungSample


@dataclass(frozen=True)
class Token:
    lemma: str
    part: str
    head: int
    """Place in the sentence; a root has its own."""
    word: int = 0


Sentence = Sequence[Token]


def parsed_of(documents: Iterable[tuple[int, Sequence[Sentence]]]) -> Parsed:
    """Return the arrays of sentences, given with the place in the sample of their document."""
    lemmas: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, int, int]] = []
    number = 0
    for document, sentences in documents:
        for sentence in sentences:
            start = len(rows)
            for token in sentence:
                lemma = lemmas.setdefault(token.lemma, len(lemmas))
                part = PARTS_OF_SPEECH.index(token.part)
                rows.append((lemma, part, start + token.head, number, document, token.word))
            number += bool(sentence)
    columns = np.array(rows, dtype=np.int32).reshape(-1, 6).T
    return Parsed(tuple(lemmas), columns[0], columns[1].astype(np.uint8), *columns[2:])


def random_tree(size: int, rng: random.Random) -> list[int]:
    """Return the head of each token of one or two trees, deep ones and flat ones."""
    order = rng.sample(range(size), size)
    reach = rng.choice([1, 3, size])
    heads = [0] * size
    for place, token in enumerate(order):
        heads[token] = (
            token if place == 0 or rng.random() < 0.05 else order[rng.randrange(max(0, place - reach), place)]
        )
    return heads


@st.composite
def sentences(draw: st.DrawFn, longest: int = 12, most: int = 8) -> list[Sentence]:
    """Sentences of random trees over few lemmas, of which some are stop words or symbols."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    names = ["cat", "dog", "mouse", "run", "big", "the", "x", "--", "1914"]
    sizes = draw(st.lists(st.integers(1, longest), min_size=1, max_size=most))
    return [
        [Token(rng.choice(names), rng.choice(PARTS_OF_SPEECH), head) for head in random_tree(size, rng)]
        for size in sizes
    ]


def graph_of(sentence: Sentence) -> nx.Graph:
    """Return the tree (or trees) of a sentence, with the part of speech as label."""
    graph = nx.Graph()
    graph.add_nodes_from((place, {"part": token.part}) for place, token in enumerate(sentence))
    graph.add_edges_from((place, token.head) for place, token in enumerate(sentence) if token.head != place)
    return graph


def sentences_of(text: str, used: int) -> list[Sentence]:
    """Return the sentences that `FakeParser` sees: they depend on the words alone, and on nothing else in a corpus."""
    words = list(enumerate(tokens.words(text)))
    found, start = [], 0
    while start < min(used, len(words)):
        rng = random.Random(words[start][1])
        piece = words[start : start + rng.randint(2, 9)]
        heads = random_tree(len(piece), random.Random(" ".join(word for _, word in piece)))
        found.append([Token(word, _part(word), head, place) for (place, word), head in zip(piece, heads, strict=True)])
        start += len(piece)
    return found


def _part(word: str) -> str:
    return random.Random(word).choice(["NOUN", "VERB", "ADJ", "PROPN", "DET", "PUNCT"])


@dataclass
class FakeParser:
    """Obeys the contract of `Parser`, and remembers what it was asked for."""

    identity: str = "en_fake 1 abc"
    able: frozenset[Need] = PARSED
    asked: list[frozenset[Need]] = field(default_factory=list)

    def parse(
        self,
        rung: RungSample,
        needs: frozenset[Need],
        on_progress: Callable[..., None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
    ) -> Parsed:
        self.asked.append(needs)
        used = zip(rung.places_D.tolist(), rung.texts, rung.used_D.tolist(), strict=True)
        return parsed_of(
            (place, [[_without(token, at, needs) for at, token in enumerate(sentence)] for sentence in found])
            for place, text, count in used
            for found in [sentences_of(text, count)]
        )


def _without(token: Token, place: int, needs: frozenset[Need]) -> Token:
    """Leave out what nobody needs: a metric that uses it nevertheless is found out."""
    return Token(
        lemma=token.lemma if Need.LEMMA in needs else "unasked",
        part=token.part if Need.POS in needs else "X",
        head=token.head if Need.TREE in needs else place,
        word=token.word,
    )
