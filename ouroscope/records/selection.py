"""Which documents of a pool the next model is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ouroscope.records.analysis import Share
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems

ORIGIN = "origin"
"""Scorer of the detector rule that knows the truth: what a perfect detector would reach."""


class SelectionRule(Enum):
    """By what documents are chosen."""

    RANDOM = "RANDOM"
    """Uniformly."""
    SURPLEXITY = "SURPLEXITY"
    """By their perplexity under the current model, without their real prefix."""
    TEXT_ENTROPY = "TEXT_ENTROPY"
    """By the normalised entropy of their words."""
    ENTROPY_RATE = "ENTROPY_RATE"
    """By the entropy rate of their words (Kontoyiannis)."""
    NEAR_DUPLICATES = "NEAR_DUPLICATES"
    """Uniformly of all but near copies: of each cluster of them the first stays."""
    DETECTOR = "DETECTOR"
    """Resampled by how probable a detector holds it that people wrote them."""
    VERIFIER = "VERIFIER"
    """By a verifier that knows the real continuation and errs at given rates."""


class SelectionOrder(Enum):
    """Which end of a ranking is kept."""

    HIGHEST = "HIGHEST"
    LOWEST = "LOWEST"
    """The control of a filter is its reverse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSpec:
    """How documents are chosen. Fields that name a rule count for that rule only."""

    rule: SelectionRule = SelectionRule.RANDOM
    order: SelectionOrder = SelectionOrder.HIGHEST
    human_free: bool = False
    """Leave human documents out of the pool."""
    within_domains: bool = False
    """Choose equally many of every domain instead of the best of all."""
    growth: float = 1.0
    """Documents wanted, as a multiple of what the protocol wants, in (0, 10]: a resampled set may be larger."""
    threshold: float = 0.8
    """NEAR_DUPLICATES: Jaccard similarity of word shingles above which two documents are copies, in (0, 1]."""
    exponent: float = 10.0
    """DETECTOR: the weight of a document is (1 - p)^exponent."""
    repeats: int = 3
    """DETECTOR: how often one document is taken at most."""
    scorer: str = ORIGIN
    """DETECTOR: who tells p: `origin` (the truth), or a text classifier by folder or Hugging Face id."""
    right_share: float = 0.5
    """VERIFIER: share of documents that count as right, those nearest to the real continuation, in (0, 1)."""
    keep_right: float = 1.0
    """VERIFIER: probability that a right document is kept."""
    keep_wrong: float = 0.0
    """VERIFIER: probability that a wrong document is kept."""

    def __post_init__(self) -> None:
        problems = Problems("selection")
        problems.check(0 < self.growth <= 10, "growth", f"must be in (0, 10], got {self.growth}")
        problems.check(0 < self.threshold <= 1, "threshold", f"must be in (0, 1], got {self.threshold}")
        problems.check(0 <= self.exponent <= 1000, "exponent", f"must be in [0, 1000], got {self.exponent}")
        problems.check(1 <= self.repeats <= 1000, "repeats", f"must be in [1, 1000], got {self.repeats}")
        problems.check(bool(self.scorer.strip()), "scorer", f"write `{ORIGIN}`, a folder or a Hugging Face id")
        problems.check(0 < self.right_share < 1, "right_share", f"must be in (0, 1), got {self.right_share}")
        for field in ("keep_right", "keep_wrong"):
            rate = getattr(self, field)
            problems.check(0 <= rate <= 1, field, f"must be in [0, 1], got {rate}")
        kept = self.rule is not SelectionRule.VERIFIER or self.keep_right + self.keep_wrong > 0
        problems.check(kept, "keep_right", "a verifier that keeps nothing leaves nothing to train on")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSource:
    """A corpus of a pool, with what is known of its documents."""

    corpus: ArtifactRef
    predictions: ArtifactRef | None = None
    """Its documents scored by the current model; needed by SURPLEXITY, else only told of."""
    detections: ArtifactRef | None = None
    """What a detector says of its documents; needed by DETECTOR with another scorer than `origin`."""
    reference: ArtifactRef | None = None
    """Real continuations of the same prompts; needed by VERIFIER for synthetic documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectDocuments:
    """Choose documents of a pool and publish them as a corpus."""

    sources: tuple[SelectionSource, ...]
    selection: SelectionSpec
    documents: int = 0
    """Documents wanted; 0 wants all that pass. A pool that has fewer gives all it has."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = Problems("select documents")
        problems.check(bool(self.sources), "sources", "give at least one corpus")
        problems.check(self.documents >= 0, "documents", "must be 0 (all that pass) or more")
        scored = self.selection.rule is not SelectionRule.SURPLEXITY or all(s.predictions for s in self.sources)
        problems.check(scored, "sources", "the rule SURPLEXITY needs predictions for every corpus")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What a set of documents is made of."""

    documents: int
    human_share: float | None = None
    """Share of documents that people wrote; None of none."""
    domains: tuple[Share, ...] = ()
    """Share of documents of each domain."""
    mean_words: float | None = None
    """Mean words of what was written after the real prefix."""
    surplexity: tuple[float, ...] = ()
    """Quantiles 0.05, 0.25, 0.5, 0.75, 0.95; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What was chosen, and of what."""

    corpus: ArtifactRef
    pool: Composition
    chosen: Composition
