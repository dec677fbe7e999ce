"""The semantic network of a corpus as a file for other programs or for people. Knows no store and no transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest, PreconditionFailed
from ouroscope.records.documents import Document, View
from services.analyzer.catalogue import NETWORK_NEEDS
from services.analyzer.measured import MeasuredRung
from services.analyzer.network.drawing import (
    as_networkx,
    drawing,
    graphml,
    most_central,
    node_link_json,
    relations_among,
)
from services.analyzer.network.edges import CONSTRUCTIONS, COOCCURRENCE, EdgeTable
from services.analyzer.network.svg import Drawn, svg
from services.analyzer.rungs import RungSample, ladder
from services.analyzer.sample import Accumulator
from services.analyzer.tools import Tools
from services.analyzer.trees import Trees
from services.analyzer.watch import Watch

DRAWN = 40
"""Concepts in a picture where nobody says how many."""
MOST_DRAWN = 100
"""More would lie on top of one another, and take seconds to lay out."""


class NetworkFormat(Enum):
    """How a network is written; in the order of the wire."""

    NODE_LINK_JSON = "NODE_LINK_JSON"
    GRAPHML = "GRAPHML"
    SVG = "SVG"


def _picture(table: EdgeTable, concepts: int) -> bytes:
    relations = len(relations_among(table, most_central(table, concepts)))
    return svg(drawing(table, concepts), Drawn(len(table), relations))


_WRITERS: dict[NetworkFormat, Callable[[EdgeTable, int], bytes]] = {
    NetworkFormat.NODE_LINK_JSON: lambda table, concepts: node_link_json(as_networkx(table, concepts)),
    NetworkFormat.GRAPHML: lambda table, concepts: graphml(as_networkx(table, concepts)),
    NetworkFormat.SVG: lambda table, concepts: _picture(table, concepts or DRAWN),
}


def check_export(construction: str, form: NetworkFormat, concepts: int, tools: Tools) -> None:
    """Refuse what cannot be exported here.

    Raises:
        CapabilityMissing: the construction needs a parser, or one that makes more.
        InvalidRequest: there is no such construction, or the picture would be too full.
    """
    if construction not in ("", *CONSTRUCTIONS):
        _refuse("construction", f"use {' or '.join(CONSTRUCTIONS)}, got {construction[:80]!r}")
    if form is NetworkFormat.SVG and concepts > MOST_DRAWN:
        _refuse("concepts", f"a picture shows at most {MOST_DRAWN}; GraphML and JSON hold as many as there are")
    needs = NETWORK_NEEDS[construction or COOCCURRENCE]
    lacking = [reason for need, reason in tools.lacking.items() if need in needs]
    if lacking:
        raise CapabilityMissing(f"a {construction} network cannot be built: {lacking[0]}; or use {COOCCURRENCE}")


def _refuse(field: str, description: str) -> None:
    raise InvalidRequest(f"{field}: {description}", [FieldProblem(field, description)])


def export_network(
    documents: Iterable[Document],
    view: View,
    form: NetworkFormat,
    concepts: int,
    watch: Watch | None = None,
    *,
    construction: str = COOCCURRENCE,
    tools: Tools = Tools(),  # noqa: B008  # frozen
) -> bytes:
    """Return a network at the largest rung of the corpus, the one that its report speaks of.

    Args:
        documents: the corpus.
        view: which part of each document is looked at.
        form: how to write it.
        concepts: most concepts, by strength; 0 means all, or 40 in a picture.
        watch: looks for a stop while the corpus is read and parsed.
        construction: `cooccurrence` or `syntactic`.
        tools: the parser, for `syntactic`.

    Raises:
        CapabilityMissing, InvalidRequest: see `check_export`.
        PreconditionFailed: no document has a word.
    """
    check_export(construction, form, concepts, tools)
    watch = watch or Watch()
    accumulator = Accumulator(view)
    for batch in watch.over(documents, "reading", "documents"):
        accumulator.fold_all(batch)
    rungs = ladder(accumulator.finalise())
    if not rungs:
        raise PreconditionFailed("the corpus has no word in this view, so it has no network")
    name = construction or COOCCURRENCE
    rung = MeasuredRung(rungs[-1], _trees(rungs[-1], name, tools, watch))
    return _WRITERS[form](rung.network(name).table, concepts)


def _trees(rung: RungSample, construction: str, tools: Tools, watch: Watch) -> Trees | None:
    needs = NETWORK_NEEDS[construction]
    if not needs or tools.parser is None:
        return None
    return Trees(tools.parser.parse(rung, needs, watch.on_progress, watch.check))
