"""What a set of documents is made of: who wrote them, about what, how long they are, how surprising."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ouroscope.records.analysis import Share
from ouroscope.records.selection import Composition
from services.analyzer.selection.candidate import Candidate

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def composition(candidates: Sequence[Candidate], copies: Sequence[int]) -> Composition:
    """Return what a set is made of that holds each candidate so many times.

    A document whose author is unknown does not count as human. Where no document names a domain none is told of; else
    the share of those that name none has an empty label. Surplexity is told of the documents that have been scored.
    """
    total = sum(copies)
    if not total:
        return Composition(documents=0)
    weighed = list(zip(candidates, copies, strict=True))
    return Composition(
        documents=total,
        human_share=sum(times for one, times in weighed if one.human) / total,
        domains=_shares(weighed, total),
        mean_words=sum(one.words * times for one, times in weighed) / total,
        surplexity=_quantiles(weighed),
    )


def _shares(weighed: Sequence[tuple[Candidate, int]], total: int) -> tuple[Share, ...]:
    counts: Counter[str] = Counter()
    for one, times in weighed:
        counts[one.domain] += times
    named = sorted(name for name, times in counts.items() if times)
    return () if named == [""] else tuple(Share(label=name, value=counts[name] / total) for name in named)


def _quantiles(weighed: Sequence[tuple[Candidate, int]]) -> tuple[float, ...]:
    known = [one.surplexity for one, times in weighed for _ in range(times) if one.surplexity is not None]
    return tuple(np.quantile(known, QUANTILES).tolist()) if known else ()
