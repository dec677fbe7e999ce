"""The kinds of human sequences: what changes in them that is not collapse, and how many there are of each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.detection.worlds import FEW, Half, Source
from services.analyzer.sample import LADDER, words_per_group

GENERATIONS = 10
CHANGE = 5
"""Generation from which a new topic or another domain is there."""
SMALL, LARGE = 12_000, 60_000
"""Words of the two baselines; more where twenty groups do not fill with them."""
WORDS = 12_000
"""Words of a generation, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What sequences of one kind are like."""

    name: str
    changes: str = ""
    """What comes in: a `topic` of the same domain, another `domain`, or nothing."""
    share: float = 0.0
    """Share of words that are of it."""
    since: int = CHANGE
    """Generation from which it is there."""
    shorter: bool = False
    """Whether the generations have documents a third as long."""
    words: int = WORDS
    filled: bool = True
    """Whether words are added until the rung is reached."""
    rung: int = LADDER[0]
    baselines: tuple[int, ...] = (SMALL, LARGE)
    sequences: Mapping[Half, int]
    """How many of each half, all domains together."""


_SOME = {Half.REPORTING: 52, Half.CALIBRATION: 0}
_BOTH = {Half.REPORTING: 52, Half.CALIBRATION: 52}
# Also for calibration: what guards persistence (narrowing, length of documents) was chosen on these.
KINDS = (
    Kind(name="plain", sequences={Half.REPORTING: 300, Half.CALIBRATION: 80}),
    Kind(name="topic-enters", changes="topic", share=0.5, sequences=_SOME),
    Kind(name="topic-changes", changes="topic", share=1.0, sequences=_BOTH),
    Kind(name="domain-enters", changes="domain", share=0.2, since=1, sequences=_SOME),
    Kind(name="domain-changes", changes="domain", share=1.0, sequences=_SOME),
    Kind(name="shorter-documents", shorter=True, sequences=_BOTH),
    Kind(name="half-the-words", words=WORDS // 2, filled=False, sequences=_SOME),
    Kind(name="twice-the-words", words=2 * WORDS, rung=LADDER[1], baselines=(LARGE,), sequences=_SOME),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Ten generations that are to be drawn, with the baselines that they are judged beside."""

    kind: Kind
    half: Half
    domain: str
    number: int

    @property
    def name(self) -> str:
        """Return its name, which is also what its randomness hangs on."""
        return f"{self.kind.name}/{self.half.value}/{self.domain}/{self.number}"


def plans(domains: Sequence[str], worlds: Mapping[tuple[str, Half], tuple[Source, ...]]) -> list[Plan]:
    """Return all sequences in an order in which whatever is done so far is balanced; domains take turns."""
    found = []
    for kind, half in itertools.product(KINDS, Half):
        able = [domain for domain in domains if can(kind, worlds[domain, half])]
        count = kind.sequences[half] if able else 0
        for number in range(count):
            plan = Plan(kind=kind, half=half, domain=able[number % len(able)], number=number)
            found.append((number / count, plan))
    return [plan for _, plan in sorted(found, key=lambda one: one[0])]


def can(kind: Kind, sources: Sequence[Source]) -> bool:
    """Return whether a half of a domain has the sources to mix or to tell topics, and the words that a kind takes."""
    mixes = kind.changes == "topic" or 0 < kind.share < 1
    share = words_per_group(kind.rung)
    enough = sum(min(share, source.words) for source in sources) > GENERATIONS * kind.words
    return (not mixes or len(sources) >= FEW) and (kind.rung == LADDER[0] or enough)
