"""What is kept of one document of a pool while it is chosen: a few numbers and no text."""

from __future__ import annotations

from dataclasses import dataclass

from services.analyzer.selection.draws import Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One document that may be chosen."""

    position: int
    """Place among all documents of the pool in the order of its sources, those that are left out included."""
    name: Name
    human: bool
    domain: str
    """Empty where the document names none."""
    words: int
    """Words after the real prefix."""
    value: float | None = None
    """What the rule looks at; None where the rule looks at nothing, or where it has no value for the document."""
    surplexity: float | None = None
    """Perplexity under the current model; None where it is not known."""
