"""What a protocol is given and what it answers. Knows no protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.runs import ArmSpec, HumanText


@dataclass(frozen=True, slots=True)
class Pools:
    """All text that one arm has seen so far; position in a tuple = generation."""

    human: tuple[ArtifactRef, ...] = ()
    """Fresh human documents of each round, as long and as many as the synthetic ones."""
    synthetic: tuple[ArtifactRef, ...] = ()
    """D_j: what the model of generation j wrote after the real prefixes."""
    others: tuple[tuple[ArtifactRef, ...], ...] = ()
    """What other models that share the pool wrote in the same round."""
    prompts: tuple[ArtifactRef, ...] = ()
    """W_j: human windows whose beginnings D_j continues; the real continuations, for whoever compares."""

    def with_round(
        self,
        human: ArtifactRef,
        synthetic: ArtifactRef,
        others: tuple[ArtifactRef, ...] = (),
        prompts: ArtifactRef | None = None,
    ) -> Pools:
        """Return the pools after one more generation; without `prompts` the fresh human documents were the prompts."""
        return replace(
            self,
            human=(*self.human, human),
            synthetic=(*self.synthetic, synthetic),
            others=(*self.others, others),
            prompts=(*self.prompts, prompts or human),
        )

    def written(self, generation: int) -> tuple[ArtifactRef, ...]:
        """Return all that was written in one round (-1: the newest), by this model and by those that share its pool."""
        return (self.synthetic[generation], *(self.others[generation] if self.others else ()))

    @property
    def all_written(self) -> tuple[ArtifactRef, ...]:
        """Return all that was ever written, round by round."""
        return tuple(corpus for j in range(len(self.synthetic)) for corpus in self.written(j))


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the specification says to a protocol beside its name."""

    documents: int
    """Documents of one generation, n."""
    human_fraction: float = 0.5
    """Human documents in a mixture, as a share of n."""
    synthetic_fraction: float = 0.5
    """Synthetic documents in a mixture, as a share of n."""
    human_text: HumanText = HumanText.FRESH
    real_weight: float | None = None
    """Loss weight of human documents, in (0, 1); synthetic ones have 1 minus it. None: what the protocol says."""

    def human_of(self, pools: Pools) -> ArtifactRef:
        """Return the human documents of the newest round, or those of the first where they are replayed."""
        return pools.human[0 if self.human_text is HumanText.REPLAYED else -1]

    def count(self, fraction: float) -> int:
        """Return how many documents a share of n is: rounded, and one at least of a share above 0."""
        return max(1, round(fraction * self.documents)) if fraction else 0

    def drawn(self, documents: int, *pool: ArtifactRef) -> TrainingSet:
        """Return a uniform draw from a pool: all of it where that is no less, and nothing of nothing."""
        if not documents:
            return ()
        everything = documents >= self.documents * len(pool)
        return (Portion(pool=pool, documents=None if everything else documents),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Documents of a pool that the next model is trained on."""

    pool: tuple[ArtifactRef, ...]
    """Corpora to take from, none twice."""
    documents: int | None = None
    """How many, drawn uniformly unless the arm selects otherwise; None takes all."""
    weight: float = 1.0
    """Of each token's loss, above 0."""


TrainingSet = tuple[Portion, ...]
"""Of no portion: the model stays as it is."""
Choose = Callable[[Pools, Terms], TrainingSet]


def _once(generation: int) -> int:
    return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way of choosing what the next model is trained on."""

    choose: Choose
    """Pure; its docstring is the sheet of the protocol: the rule, the reason, the source."""
    written: Callable[[int], int] = field(default=_once)
    """How many times `documents` the model of a generation writes; never less than in the generation before."""
    reads: tuple[str, ...] = ()
    """Fields of an arm that it understands, of `human_fraction`, `synthetic_fraction`, `human_text`, `real_weight`."""
    human_fraction: float = 0.0
    """What it takes where the arm says nothing."""
    synthetic_fraction: float = 0.5

    def fractions_of(self, arm: ArmSpec) -> tuple[float, float]:
        """Return the (human, synthetic) fractions of an arm: its own, else those of this protocol."""
        human, synthetic = arm.human_fraction, arm.synthetic_fraction
        return (
            self.human_fraction if human is None else human,
            self.synthetic_fraction if synthetic is None else synthetic,
        )


def whole(*corpora: ArtifactRef) -> Portion:
    """Return all documents of these corpora."""
    return Portion(pool=corpora)
