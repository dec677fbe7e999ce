"""What was written stays in the pool."""

from __future__ import annotations

from services.coordinator.protocols.pools import Pools, Terms, TrainingSet, whole


def accumulate(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = H_0 + D_0 + ... + D_j: the real documents of the start and everything that was written since.

    The pool grows and the number of steps does not, so that compute is equal in all arms: each document is seen less
    often in later rounds. The share of H_0 is 1 / (j + 2): it is not a replay of a fixed share, see `mixed`.

    Reason: text on the web is added to, not replaced; then the error stays bounded.

    Source: Gerstgrasser et al., arXiv 2404.01413 (2024); bound of pi^2/6: Dey and Donoho, arXiv 2410.22812 (2024).
    """
    return (whole(pools.human[0], *pools.all_written),)


def accumulate_fresh(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = H_0 + ... + H_j + D_0 + ... + D_j: people go on writing, and nothing is thrown away.

    Half of the documents are human in every round. A selection from this pool can find new human text in any round,
    and in one from `accumulate` only that of the start.

    Reason: the web as it is, if half of what is new is written by people.

    Source: Gerstgrasser et al., arXiv 2404.01413 (2024), with new real text in each round.
    """
    return (whole(*pools.human, *pools.all_written),)


def accumulate_subsample(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = n documents drawn uniformly from H_0 + D_0 + ... + D_j.

    Reason: as large as the set of `replace`, so that both have one epoch of the same length. The control of every
    rule that selects from this pool (RANDOM).

    Source: Kazdan et al., arXiv 2410.16713 (2024); RANDOM in the code of the published loop.
    """
    return terms.drawn(terms.documents, pools.human[0], *pools.all_written)


def accumulate_synthetic(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = n documents drawn uniformly from D_0 + ... + D_j: accumulating without any human document.

    Reason: it tells apart whether accumulating helps because of the real documents or because of the old ones.

    Source: SYNALL in the code of the published loop.
    """
    return terms.drawn(terms.documents, *pools.all_written)


def half_history(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = n/2 documents of D_j and n/2 drawn uniformly from H_0 + D_0 + ... + D_(j-1).

    Reason: accumulating at a fixed size, where the newest text keeps its weight however long the history is.

    Source: the accumulating option of Drayson et al., EMNLP 2025.
    """
    history = (pools.human[0], *(corpus for j in range(len(pools.synthetic) - 1) for corpus in pools.written(j)))
    older = terms.documents // 2
    return (*terms.drawn(terms.documents - older, *pools.written(-1)), *terms.drawn(older, *history))
