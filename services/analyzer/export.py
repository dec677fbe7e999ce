"""The semantic network of a corpus as a file for other programs. Knows no store and no transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest, PreconditionFailed
from ouroscope.records.documents import Document, View
from services.analyzer.analysis import Watch
from services.analyzer.network.drawing import as_networkx, graphml, node_link_json
from services.analyzer.network.edges import CONSTRUCTION, cooccurrences
from services.analyzer.rungs import ladder
from services.analyzer.sample import Accumulator


class NetworkFormat(Enum):
    """How a network is written; in the order of the wire."""

    NODE_LINK_JSON = "NODE_LINK_JSON"
    GRAPHML = "GRAPHML"


_WRITERS: dict[NetworkFormat, Callable[..., bytes]] = {
    NetworkFormat.NODE_LINK_JSON: node_link_json,
    NetworkFormat.GRAPHML: graphml,
}


def check_construction(construction: str) -> None:
    """Refuse a construction that cannot be made.

    Raises:
        CapabilityMissing: it needs a parser.
        InvalidRequest: there is no such construction.
    """
    if construction == "syntactic":
        raise CapabilityMissing("syntactic networks need a parser, which this version does not have; use cooccurrence")
    if construction not in ("", CONSTRUCTION):
        problem = FieldProblem("construction", f"use {CONSTRUCTION} or syntactic, got {construction[:80]!r}")
        raise InvalidRequest(f"{problem.field}: {problem.description}", [problem])


def export_network(
    documents: Iterable[Document], view: View, form: NetworkFormat, concepts: int, watch: Watch | None = None
) -> bytes:
    """Return the co-occurrence network at the largest rung of the corpus, the one that its report speaks of.

    Args:
        documents: the corpus.
        view: which part of each document is looked at.
        form: how to write it.
        concepts: most concepts, by strength; 0 means all.
        watch: looks for a stop while the corpus is read.

    Raises:
        PreconditionFailed: no document has a word.
    """
    accumulator = Accumulator(view)
    for batch in (watch or Watch()).over(documents, "reading", "documents"):
        accumulator.fold_all(batch)
    rungs = ladder(accumulator.finalise())
    if not rungs:
        raise PreconditionFailed("the corpus has no word in this view, so it has no network")
    table = cooccurrences(rungs[-1])
    return _WRITERS[form](as_networkx(table, rungs[-1].lexicon.words, concepts))
