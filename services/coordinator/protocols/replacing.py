"""The newest text replaces all before it: the loop that collapses fastest."""

from __future__ import annotations

from services.coordinator.protocols.pools import Pools, Portion, Terms, TrainingSet, whole


def replace_all(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = D_j: only what the newest model wrote.

    The share of real text is the real prefix of each document (`real_share`). Where other arms share the pool, T_j is
    a draw of n documents from all that was written in round j, so that sets are equally large in all arms.

    Reason: the worst case, and the reference of nearly all studies.

    Source: Shumailov et al., Nature 631 (2024), loop without real data; the AI arm of the published loop on next-token
    probabilities (SYNLAST in its code). Shared pool: Hodel and West, arXiv 2512.15011 (2025).
    """
    return terms.drawn(terms.documents, *pools.written(-1))


def replace_growing(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = D_j, where the model of generation j writes (j + 1) n documents.

    The set is as large as that of everything synthetic that was accumulated, and holds only the newest. Prompts and
    fresh human documents grow alike.

    Reason: it tells apart whether accumulating helps because it keeps the old text or because it has more text.

    Source: the ablation in Gerstgrasser et al., arXiv 2404.01413 (2024): test cross-entropy of a small GPT-2 after four
    rounds 2.18, with sets of equal size 2.39, accumulating 1.74.
    """
    newest = pools.written(-1)
    if len(newest) == 1:
        return (whole(*newest),)
    return (Portion(pool=newest, documents=terms.documents * written_growing(len(pools.synthetic) - 1)),)


def written_growing(generation: int) -> int:
    """Return how many times n documents a generation writes."""
    return generation + 1
