"""How many documents are taken: the first entries of all, or equally many of every domain. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from services.analyzer.selection.candidate import Candidate
from services.analyzer.selection.rules import Entry


def take(pool: Sequence[Candidate], entries: Sequence[Entry], documents: int, *, within_domains: bool) -> list[int]:
    """Return how often each candidate is taken.

    Args:
        pool: the candidates.
        entries: each time that one may be taken.
        documents: how many are wanted; fewer entries give all there are.
        within_domains: take equally many of every domain.
    """
    copies = [0] * len(pool)
    for group, quota in _groups(pool, entries, documents, within_domains):
        for entry in sorted(group)[:quota]:
            copies[entry.index] += 1
    return copies


def quotas(sizes: Mapping[str, int], documents: int) -> dict[str, int]:
    """Return how many documents each domain gives, of `documents` in all or of as many as there are.

    Equally many each. What a domain lacks the others give equally; what cannot be divided comes from the fullest.

    >>> quotas({"news": 9, "wiki": 5, "code": 1}, 8)
    {'code': 1, 'wiki': 3, 'news': 4}
    """
    left, given = documents, {}
    # The poorest first: what it lacks is then shared by all that are left.
    for done, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        given[name] = min(sizes[name], left // (len(sizes) - done))
        left -= given[name]
    return given


def _groups(
    pool: Sequence[Candidate], entries: Sequence[Entry], documents: int, within_domains: bool
) -> list[tuple[Sequence[Entry], int]]:
    if not within_domains:
        return [(entries, documents)]
    groups: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[pool[entry.index].domain].append(entry)
    given = quotas({name: len(group) for name, group in groups.items()}, documents)
    return [(group, given[name]) for name, group in groups.items()]
