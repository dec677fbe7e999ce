"""What training sets are made of, before anything is written: protocols are asked with stand-ins for the corpora.

So a new protocol needs no line here: its synthetic share and what is wrong with an arm follow from what it answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.runs import ArmSpec, RunSpec
from services.coordinator.protocols import Pools, Portion, Terms, TrainingSet, named, training_set
from services.coordinator.windows import documents_written

HUMAN, OWN, FEEDERS = 0, 1, 2
"""Sides of the pool; the third and all after it are arms that feed this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A portion, seen through its stand-ins."""

    chosen: float
    """Documents that are taken."""
    human: int
    """Human documents in its pool."""
    synthetic: int
    weight: float

    @property
    def synthetic_share(self) -> float:
        """Return the share of synthetic documents, in [0, 1]."""
        return self.synthetic / (self.human + self.synthetic)


def feeders_of(spec: RunSpec, arm: ArmSpec) -> tuple[ArmSpec, ...]:
    """Return the other arms whose text joins the pool of this one."""
    return tuple(one for name in arm.feeds_on for one in spec.arms if one.name == name)


def terms_of(spec: RunSpec, arm: ArmSpec) -> Terms:
    """Return what the specification says to the protocol of an arm, and for the rest what the protocol says itself.

    Raises:
        InvalidRequest: nobody knows the protocol.
    """
    human, synthetic = named(arm.protocol).fractions_of(arm)
    return Terms(
        documents=spec.documents,
        human_fraction=human,
        synthetic_fraction=synthetic,
        human_text=arm.human_text,
        real_weight=arm.real_weight,
    )


def synthetic_ratio(spec: RunSpec, arm: ArmSpec, generation: int) -> float:
    """Return the share of synthetic tokens, in [0, 1], in what the model of a generation was last trained on.

    All documents have equally many tokens; a token counts as much as its loss weighs. Where documents are selected by
    what they say, it is the share of the pool: what was really chosen stands in `Generation.selections`. It is 0 where
    nothing was trained on.

    Raises:
        InvalidRequest: nobody knows the protocol.
    """
    parts = parts_of(spec, arm, generation) if generation else ()
    total = sum(part.chosen * part.weight for part in parts)
    synthetic = sum(part.chosen * part.weight * part.synthetic_share for part in parts)
    written = 1 - spec.prefix_tokens(arm) / spec.document_tokens
    return written * synthetic / total if total else 0.0


def parts_of(spec: RunSpec, arm: ArmSpec, rounds: int) -> tuple[Part, ...]:
    """Return what the training set after so many rounds (1 or more) is made of."""
    return tuple(_part(spec, arm, portion) for portion in example_set(spec, arm, rounds))


def example_set(spec: RunSpec, arm: ArmSpec, rounds: int) -> TrainingSet:
    """Return the training set after so many rounds (1 or more), of stand-ins."""
    return _answer(arm.protocol, terms_of(spec, arm), len(arm.feeds_on), rounds)


# The pace of a run asks for all generations of all lanes, and seeds differ in nothing here.
@lru_cache(maxsize=4096)
def _answer(protocol: str, terms: Terms, feeders: int, rounds: int) -> TrainingSet:
    human = tuple(_stand_in(HUMAN, j) for j in range(rounds))
    pools = Pools(
        human=human,
        synthetic=tuple(_stand_in(OWN, j) for j in range(rounds)),
        others=tuple(tuple(_stand_in(FEEDERS + k, j) for k in range(feeders)) for j in range(rounds)),
        prompts=human,
    )
    return training_set(protocol, pools, terms)


def sides(portion: Portion) -> Iterator[tuple[int, int]]:
    """Yield (side of the pool, generation) of each stand-in."""
    for corpus in portion.pool:
        yield int(corpus.digest[:8], 16), int(corpus.digest[8:], 16)


def _part(spec: RunSpec, arm: ArmSpec, portion: Portion) -> Part:
    writers = (arm, arm, *feeders_of(spec, arm))
    sizes = [(side, documents_written(spec, writers[side], j)) for side, j in sides(portion)]
    human = sum(size for side, size in sizes if side == HUMAN)
    synthetic = sum(size for side, size in sizes if side != HUMAN)
    chosen = human + synthetic if portion.documents is None else portion.documents
    return Part(chosen=chosen, human=human, synthetic=synthetic, weight=portion.weight)


@lru_cache(maxsize=65536)
def _stand_in(side: int, position: int) -> ArtifactRef:
    return ArtifactRef(ArtifactKind.CORPUS, f"{side:08x}{position:056x}")
