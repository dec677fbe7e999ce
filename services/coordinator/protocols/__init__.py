"""What the next model is trained on: one pure function per protocol, from the pools so far to portions of corpora.

To see all protocols, read `PROTOCOLS`. Knows nothing of models, of stores or of who asks.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from ouroscope.errors import FieldProblem, InvalidRequest
from services.coordinator.protocols.accumulating import (
    accumulate,
    accumulate_fresh,
    accumulate_subsample,
    accumulate_synthetic,
    half_history,
)
from services.coordinator.protocols.controls import human_fresh, human_replayed, untouched
from services.coordinator.protocols.cycles import cycle_balanced, cycle_expanding, cycle_full, cycle_incremental
from services.coordinator.protocols.mixing import mixed, weighted
from services.coordinator.protocols.pools import Pools, Portion, Protocol, Terms, TrainingSet
from services.coordinator.protocols.replacing import replace_all, replace_growing, written_growing

__all__ = ["PROTOCOLS", "Pools", "Portion", "Protocol", "Terms", "TrainingSet", "named", "problem_with", "training_set"]

MIXTURE = ("human_fraction", "synthetic_fraction")

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "replace": Protocol(choose=replace_all),
        "replace-growing": Protocol(choose=replace_growing, written=written_growing),
        "accumulate": Protocol(choose=accumulate),
        "accumulate-fresh": Protocol(choose=accumulate_fresh),
        "accumulate-subsample": Protocol(choose=accumulate_subsample),
        "accumulate-synthetic": Protocol(choose=accumulate_synthetic),
        "half-history": Protocol(choose=half_history),
        "mixed": Protocol(choose=mixed, reads=(*MIXTURE, "human_text"), human_fraction=0.5),
        "weighted": Protocol(choose=weighted, reads=(*MIXTURE, "human_text", "real_weight"), human_fraction=0.5),
        "cycle-full": Protocol(choose=cycle_full, reads=MIXTURE[:1]),
        "cycle-balanced": Protocol(choose=cycle_balanced, reads=MIXTURE[:1]),
        "cycle-incremental": Protocol(choose=cycle_incremental, reads=MIXTURE),
        "cycle-expanding": Protocol(choose=cycle_expanding, reads=MIXTURE),
        "human": Protocol(choose=human_fresh),
        "human-replayed": Protocol(choose=human_replayed),
        "untouched": Protocol(choose=untouched),
    }
)


def named(protocol: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        InvalidRequest: nobody knows it.
    """
    if problem := problem_with(protocol):
        raise InvalidRequest(problem.description, (problem,))
    return PROTOCOLS[protocol]


def training_set(protocol: str, pools: Pools, terms: Terms) -> TrainingSet:
    """Return what the model of the last generation in `pools` is trained on; nothing where it is left as it is.

    Raises:
        InvalidRequest: nobody knows the protocol.
    """
    return named(protocol).choose(pools, terms)


def problem_with(protocol: str, field: str = "protocol") -> FieldProblem | None:
    """Return what is wrong with the name of a protocol, with the nearest known one, or None."""
    if protocol in PROTOCOLS:
        return None
    close = difflib.get_close_matches(protocol.lower(), PROTOCOLS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return FieldProblem(field, f"unknown protocol {protocol[:40]!r}; {hint}known are {', '.join(PROTOCOLS)}")
