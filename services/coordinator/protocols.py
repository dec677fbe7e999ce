"""What the next model is trained on: one pure function per protocol, from the pools so far to references of corpora.

To see all protocols, read `PROTOCOLS`. Knows nothing of models, of stores or of who asks.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.artifacts import ArtifactRef


@dataclass(frozen=True, slots=True)
class Pools:
    """All text that one arm has seen so far; position in a tuple = generation."""

    human: tuple[ArtifactRef, ...] = ()
    """Fresh human documents of each round, as long and as many as the synthetic ones."""
    synthetic: tuple[ArtifactRef, ...] = ()
    """D_j: what the model of generation j wrote after the real prefixes."""

    def with_round(self, human: ArtifactRef, synthetic: ArtifactRef) -> Pools:
        """Return the pools after one more generation."""
        return replace(self, human=(*self.human, human), synthetic=(*self.synthetic, synthetic))


Protocol = Callable[[Pools], tuple[ArtifactRef, ...]]


def replace_all(pools: Pools) -> tuple[ArtifactRef, ...]:
    """T_j = D_j: only what the newest model wrote. The share of real text is the real prefix of each document.

    Source: Shumailov et al., Nature 631 (2024), "fully synthetic" loop; the AI arm of the published loop on
    next-token probabilities (SYNLAST in its code).
    """
    return (pools.synthetic[-1],)


def human_fresh(pools: Pools) -> tuple[ArtifactRef, ...]:
    """T_j = fresh human documents of round j: the control, with equal documents, tokens and steps.

    Source: the human arm of the published loop (FRESH in its code). Replaying the same documents every round would
    overfit and look like a slow collapse (science.md: held-out perplexity 262 to 284, fresh 262 to 264).
    """
    return (pools.human[-1],)


def accumulate(pools: Pools) -> tuple[ArtifactRef, ...]:
    """T_j = H_0 + D_0 + ... + D_j: the real documents of the start and everything that was written since.

    The pool grows and the number of steps does not, so that compute is equal in all arms: each document is seen less
    often in later rounds.

    Source: Gerstgrasser et al., arXiv 2404.01413 (2024).
    """
    return (pools.human[0], *pools.synthetic)


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {"replace": replace_all, "human": human_fresh, "accumulate": accumulate}
)


def training_set(protocol: str, pools: Pools) -> tuple[ArtifactRef, ...]:
    """Return the corpora that the model of the last generation in `pools` is trained on, at least one.

    Raises:
        InvalidRequest: nobody knows the protocol.
    """
    if problem := problem_with(protocol):
        raise InvalidRequest(problem.description, (problem,))
    return PROTOCOLS[protocol](pools)


def problem_with(protocol: str, field: str = "protocol") -> FieldProblem | None:
    """Return what is wrong with the name of a protocol, with the nearest known one, or None."""
    if protocol in PROTOCOLS:
        return None
    close = difflib.get_close_matches(protocol.lower(), PROTOCOLS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return FieldProblem(field, f"unknown protocol {protocol[:40]!r}; {hint}known are {', '.join(PROTOCOLS)}")
