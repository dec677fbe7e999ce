"""The corpora that a run works with, as durable steps keep them: references only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ouroscope.canonical import from_plain
from ouroscope.errors import NotFound
from ouroscope.records.artifacts import ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The two parts of a source."""

    prompts: ArtifactRef
    heldout: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """What one domain gave."""

    domain: str
    """Empty where the run has one source."""
    source: str
    revision: str = ""
    """Commit of a data set of the Hub; empty for others."""
    prompts: int
    """Documents of which prompts and training text are cut."""
    heldout: int
    """Documents that nobody trains on."""
    shared: int = 0
    """Documents whose words another domain of the run has as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The corpora of some domains."""

    domains: tuple[str, ...] = ()
    """In alphabetical order; empty means all of the run."""
    prompts: ArtifactRef
    """Pool of which windows are cut."""
    heldout: ArtifactRef
    """For held-out perplexity."""
    questions: ArtifactRef
    """Held-out documents whose beginnings are prompts for next-token records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Texts):
    """The corpora that one run works with: those of all its domains, and of the fewer that some arms keep to."""

    unigram: ArtifactRef
    """Sample of the pool for the unigram model."""
    narrower: tuple[Texts, ...] = ()
    """Of single domains, and of the sets of domains that arms name."""
    dealt: tuple[Dealt, ...] = ()
    """By domain, in alphabetical order."""

    def of(self, domains: Collection[str]) -> Texts:
        """Return the corpora of some domains; none means all.

        Raises:
            NotFound: the data set was not prepared for them.
        """
        wanted = tuple(sorted(set(domains)))
        if not wanted or set(wanted) == {one.domain for one in self.dealt}:
            return self
        for texts in self.narrower:
            if texts.domains == wanted:
                return texts
        raise NotFound(f"no text was prepared for the domains {', '.join(wanted)[:200]}; start the run again")


def dealt_of(kept: object) -> tuple[Dealt, ...]:
    """Return what was dealt, from what the step that prepares the data set keeps; nothing where it keeps nothing."""
    return () if kept is None else from_plain(Dataset, kept).dealt
