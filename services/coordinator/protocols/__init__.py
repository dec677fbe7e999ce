"""What the next model is trained on: one pure function per protocol, from the pools so far to portions of corpora.

To see all protocols, read `PROTOCOLS`. Knows nothing of models, of stores or of who asks.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from ouroscope.errors import FieldProblem, InvalidRequest
from services.coordinator.protocols.pools import Pools, Portion, Protocol, Terms, TrainingSet, whole

__all__ = ["PROTOCOLS", "Pools", "Portion", "Protocol", "Terms", "TrainingSet", "problem_with", "training_set"]


def replace_all(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = D_j: only what the newest model wrote. The share of real text is the real prefix of each document.

    Source: Shumailov et al., Nature 631 (2024), "fully synthetic" loop; the AI arm of the published loop on
    next-token probabilities (SYNLAST in its code).
    """
    return (whole(*pools.written(-1)),)


def human_fresh(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = fresh human documents of round j: the control, with equal documents, tokens and steps.

    Source: the human arm of the published loop (FRESH in its code). Replaying the same documents every round would
    overfit and look like a slow collapse (science.md: held-out perplexity 262 to 284, fresh 262 to 264).
    """
    return (whole(pools.human[-1]),)


def accumulate(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = H_0 + D_0 + ... + D_j: the real documents of the start and everything that was written since.

    The pool grows and the number of steps does not, so that compute is equal in all arms: each document is seen less
    often in later rounds.

    Source: Gerstgrasser et al., arXiv 2404.01413 (2024).
    """
    return (whole(pools.human[0], *pools.all_written),)


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "replace": Protocol(replace_all),
        "human": Protocol(human_fresh),
        "accumulate": Protocol(accumulate),
    }
)


def training_set(protocol: str, pools: Pools, terms: Terms) -> TrainingSet:
    """Return what the model of the last generation in `pools` is trained on; nothing where it is left as it is.

    Raises:
        InvalidRequest: nobody knows the protocol.
    """
    if problem := problem_with(protocol):
        raise InvalidRequest(problem.description, (problem,))
    return PROTOCOLS[protocol].choose(pools, terms)


def problem_with(protocol: str, field: str = "protocol") -> FieldProblem | None:
    """Return what is wrong with the name of a protocol, with the nearest known one, or None."""
    if protocol in PROTOCOLS:
        return None
    close = difflib.get_close_matches(protocol.lower(), PROTOCOLS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return FieldProblem(field, f"unknown protocol {protocol[:40]!r}; {hint}known are {', '.join(PROTOCOLS)}")
