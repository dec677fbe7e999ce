"""What a model in training is asked: prompts to continue, and human texts to be surprised at. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ouroscope.corpora.openings import text_id
from ouroscope.records.checks import Problems
from ouroscope.records.documents import Document
from ouroscope.records.generation import SamplingSpec

BATCH = 16
"""Prompts that are continued together unless `sampling.batch_size` says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The same in every generation, so that the answers can be compared."""

    prompts: tuple[Document, ...]
    """Each up to its `prefix_length`; what follows it is the text that people wrote there, if any."""
    heldout: tuple[Document, ...] = ()
    """Human texts that nobody trains on, for the held-out perplexity."""
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    top_n: int = 100
    """Probabilities that are kept of what is expected after a prompt, in [1, 1000]."""
    heldout_tokens: int = 256
    """Tokens of each held-out text that are scored at most."""
    last_n: int = 32
    """Tokens at the end of each held-out text that count for last-n accuracy."""

    def __post_init__(self) -> None:
        problems = Problems("questions")
        problems.check(bool(self.prompts), "prompts", "give at least one; 20 are needed for an interval")
        problems.check(_differ(self.prompts), "prompts", "two have the same text or id; give each once")
        problems.check(_differ(self.heldout), "heldout", "two have the same text or id; give each once")
        problems.check(all(one.prefix_length for one in self.prompts), "prompts", "one is empty")
        problems.check(1 <= self.top_n <= 1000, "top_n", "must be in [1, 1000]")
        problems.check(self.heldout_tokens >= 2, "heldout_tokens", "must be at least 2")
        problems.check(self.last_n >= 1, "last_n", "must be at least 1")
        problems.raise_any()

    @property
    def batch_size(self) -> int:
        """Return how many prompts are continued together."""
        return self.sampling.batch_size or BATCH


def as_prompts(texts: Iterable[str | Document]) -> tuple[Document, ...]:
    """Return prompts; a text, or a document without a prefix, is a prompt as a whole."""
    documents = as_documents(texts)
    return tuple(one if one.prefix_length else replace(one, prefix_length=len(one.text)) for one in documents)


def as_documents(texts: Iterable[str | Document]) -> tuple[Document, ...]:
    """Return texts as documents that are named by their text."""
    return tuple(one if isinstance(one, Document) else Document(id=text_id(one), text=one) for one in texts)


def _differ(documents: Sequence[Document]) -> bool:
    return len({document.id for document in documents}) == len(documents)
