"""Arms that show what the loop does without its own text: what the others are measured against."""

from __future__ import annotations

from services.coordinator.protocols.pools import Pools, Terms, TrainingSet, whole


def human_fresh(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = fresh human documents of round j: the control, with equal documents, tokens and steps.

    Reason: whatever this arm loses too is due to training, not to synthetic text.

    Source: the human arm of the published loop (FRESH in its code).
    """
    return (whole(pools.human[-1]),)


def human_replayed(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = H_0: the human documents of the first round, again in every round.

    Reason: this control overfits, which looks like a slow collapse. On the embedded corpus the perplexity on held-out
    text rose from 262 to 284 in five rounds, and with fresh documents to 264. It tells that effect from the loop's own.

    Source: fixed against fresh real data in Alemohammad et al., ICLR 2024 (MAD), there mixed with synthetic data.
    """
    return (whole(pools.human[0]),)


def untouched(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = nothing: no model is trained, the base model writes in every generation.

    Reason: what moves in this arm is due to prompts and sampling alone: the noise floor of every metric.

    Source: our own control; its generation 0 is that of all arms.
    """
    return ()
