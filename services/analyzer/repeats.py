"""What the texts of a rung repeat: runs of words that many of them share, for people to look at. No metric.

Shapes: N = words of the rung, D = documents, U = different runs of one length, O = places where runs begin, R = runs
that may be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ouroscope.records.analysis import RepeatedText
from services.analyzer.cells import Ints, count_cells
from services.analyzer.metrics.ngrams import NgramTable, lengthen, single_words
from services.analyzer.rungs import RungSample
from services.analyzer.sample import Words

SHORTEST = 5
"""Words of a run; shorter ones are grammar ("at the end of") in any text."""
LONGEST = 40
"""Words of the longest run that is told."""
_COUNTED = 12
# Words up to which all runs are counted; what stands around those of 12 in every place is looked up.
_TRIED = 5_000
# Runs that are looked at for those to tell: a hostile corpus cannot ask for all.


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """The runs of one length that stand in two documents or more."""

    length: int
    starts_O: Ints
    """Where they begin; those of one run together."""
    ends_U: Ints
    """Where each run ends in `starts_O`."""
    documents_U: Ints
    clusters_U: Ints
    whole_U: npt.NDArray[np.bool_]
    """Whether no run of one word more stands in nearly as many clusters."""

    def starts(self, run: int) -> Ints:
        """Return where one run begins."""
        return self.starts_O[self.ends_U[run - 1] if run else 0 : self.ends_U[run]]


def repeated_texts(
    rung: RungSample, clusters_D: Words, most: int, check: Callable[[], None] = lambda: None
) -> tuple[RepeatedText, ...]:
    """Return the runs of words that stand in the most clusters, in falling order of clusters.

    A run never crosses the end of a document. It is left out where one of a word more stands in 19 of 20 of its
    clusters, and where most of its words belong to runs that were told before: what a long text can be cut into is told
    once, although the sample may cut some documents off in the middle of it.

    Args:
        rung: the text.
        clusters_D: number of the cluster of each document that has a word in it.
        most: how many to return.
        check: is called before each length; what it raises ends the work.
    """
    told: list[RepeatedText] = []
    taken_N = np.zeros(len(rung.words_N), dtype=np.bool_)
    for level, run in _by_clusters(list(_levels(rung, clusters_D, check))):
        if len(told) == most:
            break
        starts, length = level.starts(run), level.length
        if taken_N[_places(starts, length)].mean() > 0.5:
            continue
        if length == _COUNTED:
            starts, length = _widened(rung, starts, length)
        taken_N[_places(starts, length)] = True
        words = rung.words_N[starts[0] : starts[0] + length].tolist()
        text = " ".join(rung.lexicon.words[word] for word in words)
        told.append(RepeatedText(text=text, documents=int(level.documents_U[run]), clusters=int(level.clusters_U[run])))
    return tuple(told)


def _levels(rung: RungSample, clusters_D: Words, check: Callable[[], None]) -> Iterator[_Level]:
    """Yield the runs of each length."""
    table = _shared(single_words(rung), rung)
    before: tuple[_Level, NgramTable] | None = None
    for length in range(2, _COUNTED + 1):
        check()
        table = _shared(lengthen(table, length, rung), rung)
        if length < SHORTEST:
            continue
        level = _level(length, table, clusters_D[rung.documents_N], rung.documents_N)
        if before:
            _leave_to_longer(*before, level, table)
        before = level, table
        yield level


def _shared(table: NgramTable, rung: RungSample) -> NgramTable:
    """Return what stands in two documents or more; nothing longer can that begins with something else."""
    several_U = _owners(table, rung.documents_N) > 1
    number_U = np.cumsum(several_U, dtype=np.int32) - 1
    kept = several_U[table.codes]
    return NgramTable(table.starts[kept], number_U[table.codes[kept]], int(several_U.sum()))


def _level(length: int, table: NgramTable, clusters_N: Words, documents_N: Words) -> _Level:
    return _Level(
        length=length,
        starts_O=table.starts[np.argsort(table.codes, kind="stable")].astype(np.int64),
        ends_U=np.cumsum(np.bincount(table.codes, minlength=table.unique)),
        documents_U=_owners(table, documents_N),
        clusters_U=_owners(table, clusters_N),
        whole_U=np.ones(table.unique, dtype=np.bool_),
    )


def _owners(table: NgramTable, owners_N: Words) -> Ints:
    """Return in how many documents, or clusters, each run stands."""
    span = int(owners_N.max(initial=0)) + 1
    cells, _ = count_cells([table.codes.astype(np.int64) * span + owners_N[table.starts]])
    return np.bincount(cells // span, minlength=table.unique)


def _leave_to_longer(shorter: _Level, short: NgramTable, longer: _Level, long: NgramTable) -> None:
    """Mark the runs that stand in nearly as many clusters with a word more before or after them."""
    for shift in (0, 1):
        # Starts rise, and both parts of a run of two documents stand in two documents.
        inside = short.codes[np.searchsorted(short.starts, long.starts + shift)]
        nearly = 20 * longer.clusters_U[long.codes] >= 19 * shorter.clusters_U[inside]
        shorter.whole_U[inside[nearly]] = False


def _by_clusters(levels: list[_Level]) -> Iterator[tuple[_Level, int]]:
    """Yield runs: those of the most clusters first, of these those of the most documents, of these the longest."""
    chosen = [np.flatnonzero(level.whole_U) for level in levels]
    if not levels:
        return
    level_R = np.repeat(np.arange(len(levels)), [len(runs) for runs in chosen])
    run_R, documents_R, clusters_R = (
        np.concatenate(parts)
        for parts in (
            chosen,
            [level.documents_U[runs] for level, runs in zip(levels, chosen, strict=True)],
            [level.clusters_U[runs] for level, runs in zip(levels, chosen, strict=True)],
        )
    )
    for at in np.lexsort((run_R, -level_R, -documents_R, -clusters_R))[:_TRIED].tolist():
        yield levels[level_R[at]], int(run_R[at])


def _places(starts: Ints, length: int) -> Ints:
    """Return the places of all words of a run, a row for each time that it stands."""
    return starts[:, None] + np.arange(length)


def _widened(rung: RungSample, starts: Ints, length: int) -> tuple[Ints, int]:
    """Return a run with the words that stand after and before it wherever it stands."""
    while length < LONGEST and _agree(rung, starts, starts + length):
        length += 1
    while length < LONGEST and _agree(rung, starts, starts - 1):
        starts, length = starts - 1, length + 1
    return starts, length


def _agree(rung: RungSample, starts: Ints, beside: Ints) -> bool:
    """Return whether the same word stands at all these places, each in the document of its run."""
    if beside.min() < 0 or beside.max() >= len(rung.words_N):
        return False
    if (rung.documents_N[beside] != rung.documents_N[starts]).any():
        return False
    words = rung.words_N[beside]
    return bool((words == words[0]).all())
