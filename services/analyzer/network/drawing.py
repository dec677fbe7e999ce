"""A network for people and other programs: its most central concepts, the whole as GraphML or JSON.

NetworkX is imported when the first network is exported: an analyzer starts without it.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np

from ouroscope.records.analysis import Concept, NetworkDrawing, Relation
from services.analyzer.cells import Ints
from services.analyzer.network.edges import EdgeTable

if TYPE_CHECKING:
    import networkx as nx

RELATIONS_PER_CONCEPT = 5
"""A drawing shows the strongest relations, at most so many for each of its concepts."""


def drawing(table: EdgeTable, concepts: int) -> NetworkDrawing:
    """Return the `concepts` strongest nodes and the strongest relations among them; ties go by the alphabet."""
    chosen, names = most_central(table, concepts), table.names
    place = np.full(len(table), -1)
    place[chosen] = np.arange(len(chosen))
    inside = relations_among(table, chosen)
    ends = np.sort([place[table.source_E[inside]], place[table.target_E[inside]]], axis=0)
    strongest = np.lexsort((ends[1], ends[0], -table.weight_E[inside]))[: RELATIONS_PER_CONCEPT * len(chosen)]
    return NetworkDrawing(
        construction=table.construction,
        concepts=tuple(
            Concept(
                label=names[node],
                strength=float(table.strength_n[node]),
                degree=int(table.degree_n[node]),
            )
            for node in chosen
        ),
        relations=tuple(
            Relation(source=int(ends[0, at]), target=int(ends[1, at]), weight=float(table.weight_E[inside[at]]))
            for at in strongest
        ),
    )


def most_central(table: EdgeTable, concepts: int) -> Ints:
    """Return the positions of the strongest nodes, strongest first; ties go by the alphabet."""
    strengths, names = table.strength_n.tolist(), table.names
    order = sorted(range(len(names)), key=lambda node: (-strengths[node], names[node]))
    return np.array(order[:concepts], dtype=np.int64)


def relations_among(table: EdgeTable, chosen: Ints) -> Ints:
    """Return the positions of the edges whose both ends are in `chosen`."""
    kept = np.zeros(len(table), dtype=np.bool_)
    kept[chosen] = True
    return np.flatnonzero(kept[table.source_E] & kept[table.target_E])


def as_networkx(table: EdgeTable, concepts: int = 0) -> nx.Graph:
    """Return the network with words as nodes and the attribute `weight` on edges; 0 concepts means all."""
    import networkx as nx

    chosen, names = most_central(table, concepts or len(table)), table.names
    graph = nx.Graph(construction=table.construction)
    graph.add_nodes_from(names[node] for node in chosen)
    for edge in relations_among(table, chosen):
        ends = names[table.source_E[edge]], names[table.target_E[edge]]
        graph.add_edge(*ends, weight=int(table.weight_E[edge]))
    return graph


def graphml(graph: nx.Graph) -> bytes:
    """Write `graph` as GraphML in UTF-8."""
    import networkx as nx

    content = io.BytesIO()
    nx.write_graphml_xml(graph, content)
    return content.getvalue()


def node_link_json(graph: nx.Graph) -> bytes:
    """Write `graph` as node-link JSON in UTF-8, the form that `networkx.node_link_graph` reads with edges="edges"."""
    import networkx as nx

    return json.dumps(nx.node_link_data(graph, edges="edges"), ensure_ascii=False, sort_keys=True).encode()
