"""Next-token records and scored texts: what the analyzer needs to know of a model, without the model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ouroscope.records.checks import Problems


class TextRole(Enum):
    """Why a text was scored."""

    HELDOUT = "HELDOUT"
    DOCUMENT = "DOCUMENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextToken:
    """What a model expects after one prompt."""

    prompt_id: str
    cluster: str
    top_probabilities: tuple[float, ...]
    """Largest probabilities in falling order, not renormalised."""
    entropy: float | None = None
    """Entropy of the whole next-token distribution, in nats; None where the model tells only its first choices."""
    true_rank: int | None = None
    """Rank of the token that really follows, 1 = most probable."""
    true_probability: float | None = None
    domain: str | None = None

    def __post_init__(self) -> None:
        problems = Problems("next-token record")
        falling = all(a >= b for a, b in zip(self.top_probabilities, self.top_probabilities[1:], strict=False))
        problems.check(bool(self.prompt_id), "prompt_id", "must not be empty")
        problems.check(bool(self.top_probabilities), "top_probabilities", "must hold at least one probability")
        problems.check(falling, "top_probabilities", "must be in falling order")
        problems.check(all(0 <= p <= 1.00001 for p in self.top_probabilities), "top_probabilities", "must be in [0, 1]")
        problems.check(sum(self.top_probabilities) <= 1.001, "top_probabilities", "must not add up to more than 1")
        problems.check(self.entropy is None or self.entropy >= -1e-6, "entropy", "must be 0 or more")
        problems.check(self.true_rank is None or self.true_rank >= 1, "true_rank", "must be 1 or more")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredText:
    """How surprising one text is for a model, summed over its scored tokens."""

    document_id: str
    cluster: str
    role: TextRole
    tokens: int
    """Scored tokens, at least 1."""
    text_bytes: int
    """UTF-8 bytes of the scored part."""
    log_probability: float
    """Sum of natural logarithms, at most 0."""
    greedy_tokens: int | None = None
    """Scored tokens that are the model's own first choice; None where that is not known."""
    last_tokens: int = 0
    """Tokens at the end of the text that count for last-n accuracy."""
    last_greedy_tokens: int | None = None
    domain: str | None = None

    def __post_init__(self) -> None:
        problems = Problems("scored text")
        problems.check(bool(self.document_id), "document_id", "must not be empty")
        problems.check(self.tokens >= 1, "tokens", "must be at least 1")
        problems.check(self.log_probability <= 1e-6, "log_probability", "must be 0 or less")
        known, last = self.greedy_tokens, self.last_greedy_tokens
        problems.check(known is None or 0 <= known <= self.tokens, "greedy_tokens", "must be in [0, tokens]")
        problems.check(
            last is None or 0 <= last <= self.last_tokens, "last_greedy_tokens", "must be in [0, last_tokens]"
        )
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How probable a detector holds it that a machine wrote a document."""

    document_id: str
    probability: float

    def __post_init__(self) -> None:
        problems = Problems("detection")
        problems.check(bool(self.document_id), "document_id", "must not be empty")
        problems.check(0 <= self.probability <= 1, "probability", "must be in [0, 1]")
        problems.raise_any()
