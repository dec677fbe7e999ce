"""Human and synthetic documents in proportions that stay the same in every round."""

from __future__ import annotations

import dataclasses
import math

from services.coordinator.protocols.pools import Pools, Terms, TrainingSet


def mixed(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = alpha n human documents + beta n documents of D_j, with alpha `human_fraction`, beta `synthetic_fraction`.

    Human documents are those of round j, or drawn anew from those of the first round where `human_text` is REPLAYED.
    With human_fraction 0.1, synthetic_fraction 1 and REPLAYED it is the replay of 10 % real data. Its share of human
    documents never falls, unlike that of `accumulate`.

    Reason: how much real data does it take?

    Source: Drayson et al., EMNLP 2025 (alpha, beta); Shumailov et al., Nature 631 (2024) (10 % of the original data,
    drawn anew in each generation); fresh against fixed: Alemohammad et al., ICLR 2024 (MAD).
    """
    return (*human_part(pools, terms), *synthetic_part(pools, terms))


def weighted(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j as in `mixed`, where the loss is w times the mean over human text plus 1 - w times that over synthetic text.

    w is `real_weight`; by default the best one for the ratio k = human / synthetic documents,

        w* = (sqrt(k^2 + 4k) - k) / 2        k = 1: 0.618    k = 2: 0.732    k = 4: 0.828

    A token of N_h human documents weighs w N / N_h, one of N_s synthetic documents (1 - w) N / N_s, N = N_h + N_s.

    Reason: real data counts for more than its share, which costs nothing, since nothing has to be collected.

    Source: He et al., arXiv 2502.18049 (2025), derived for fresh real data and synthetic data of the last round.
    """
    human, synthetic = human_part(pools, terms), synthetic_part(pools, terms)
    counts = terms.count(terms.human_fraction), terms.count(terms.synthetic_fraction)
    if not all(counts):
        return (*human, *synthetic)
    weight = terms.real_weight or optimal_real_weight(counts[0] / counts[1])
    each = (weight * sum(counts) / counts[0], (1 - weight) * sum(counts) / counts[1])
    parts = zip((*human, *synthetic), each, strict=True)
    return tuple(dataclasses.replace(portion, weight=weight) for portion, weight in parts)


def human_part(pools: Pools, terms: Terms) -> TrainingSet:
    """Return alpha n human documents."""
    return terms.drawn(terms.count(terms.human_fraction), terms.human_of(pools))


def synthetic_part(pools: Pools, terms: Terms) -> TrainingSet:
    """Return beta n documents of the newest round."""
    return terms.drawn(terms.count(terms.synthetic_fraction), *pools.written(-1))


def optimal_real_weight(ratio: float) -> float:
    """Return the best weight, in (0, 1), of the mean loss over real data where `ratio` = real / synthetic count.

        w* = (sqrt(k^2 + 4k) - k) / 2        k = ratio, above 0

    It minimises the error that stays after many rounds; 0.618 for equal parts is the inverse of the golden ratio.

    Source: He et al., arXiv 2502.18049 (2025).

    >>> [round(optimal_real_weight(ratio), 3) for ratio in (1, 2, 4)]
    [0.618, 0.732, 0.828]
    """
    return (math.sqrt(ratio * ratio + 4 * ratio) - ratio) / 2
