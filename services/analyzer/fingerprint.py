"""What a report keeps of the words and relations behind it, as hashes: enough to compare vocabularies, no text.

Shapes: V = different words of a rung, n = nodes, E = edges of a network, P = parts of speech, K = groups (20, or 1
without replicates).
Arrays of hashes rise. A mask has bit g set where a thing occurs in group g, so it is in replicate g if any other bit
is set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ouroscope.errors import CorruptArtifact
from services.analyzer.cells import Ints
from services.analyzer.embedding.prints import EmbeddingPrint, embedding_print_of
from services.analyzer.keys import pair_keys
from services.analyzer.network.edges import COOCCURRENCE, EdgeTable
from services.analyzer.rungs import RungSample

EDGE_LIMIT = 200_000
"""Edges that are kept: those with the smallest hashes, so that two fingerprints keep the same ones."""
CENTRAL = 200
"""Most central concepts that are kept in their order."""

Hashes = npt.NDArray[np.uint64]
_ALL = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True, eq=False)
class NetworkPrint:
    """One network of a rung."""

    nodes_n: Hashes
    node_mask_n: npt.NDArray[np.uint32]
    edges_E: Hashes
    edge_mask_E: npt.NDArray[np.uint32]
    edges_to: np.uint64
    """All edges with a hash up to this one are here; compare edges up to the smaller of two such bounds only."""
    central_C: Hashes
    """Concepts in falling order of strength, at most `CENTRAL`; hashes do not rise here."""
    strength_n: npt.NDArray[np.int32] | None = None
    """Weight of the edges of each node; None in what was stored before they were kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """One rung."""

    budget: int
    types_V: Hashes
    counts_VK: npt.NDArray[np.int32]
    """How often each word stands in each group."""
    networks: Mapping[str, NetworkPrint] = field(default_factory=dict)
    """By construction; one that nobody asked for, or that could not be built, is missing."""
    parts_of_speech_PK: npt.NDArray[np.int32] | None = None
    """How often each part of speech stands in each group; None where the text was not parsed for it."""
    embedding: EmbeddingPrint | None = None
    """Of its documents' vectors; None where they were not embedded."""

    @property
    def groups(self) -> int:
        """K."""
        return int(self.counts_VK.shape[1])


def fingerprint(
    rung: RungSample,
    networks: Iterable[EdgeTable] = (),
    parts_of_speech_PK: Ints | None = None,
    embedding: EmbeddingPrint | None = None,
) -> Fingerprint:
    """Return the fingerprint of a rung, of its networks, of its parts of speech by group and of its vectors."""
    counts_VK = rung.counts_VK()
    (used,) = np.nonzero(counts_VK.sum(axis=1))
    hashes = rung.lexicon.keys_V
    order = used[np.argsort(hashes[used])]
    return Fingerprint(
        budget=rung.budget,
        types_V=hashes[order],
        counts_VK=counts_VK[order].astype(np.int32),
        networks={table.construction: network_print(table) for table in networks},
        parts_of_speech_PK=None if parts_of_speech_PK is None else parts_of_speech_PK.astype(np.int32),
        embedding=embedding,
    )


def network_print(table: EdgeTable) -> NetworkPrint:
    """Return what is kept of a network."""
    names = table.lexicon.keys_V[table.nodes_n]
    nodes = np.argsort(names)
    keys = pair_keys(names[table.source_E], names[table.target_E])
    edges = np.argsort(keys)
    kept = edges[:EDGE_LIMIT]
    return NetworkPrint(
        nodes_n=names[nodes],
        node_mask_n=_node_masks(table)[nodes],
        edges_E=keys[kept],
        edge_mask_E=_edge_masks(table)[kept],
        edges_to=keys[kept[-1]] if len(edges) > EDGE_LIMIT else _ALL,
        # Ties of strength are broken by the hash, which does not depend on the sample.
        central_C=names[np.lexsort((names, -table.strength_n))[:CENTRAL]],
        strength_n=table.strength_n[nodes].astype(np.int32),
    )


def _edge_masks(table: EdgeTable) -> npt.NDArray[np.uint32]:
    masks = np.zeros(len(table.source_E), dtype=np.uint32)
    np.bitwise_or.at(masks, table.pair_edge_P, _bits(table))
    return masks


def _node_masks(table: EdgeTable) -> npt.NDArray[np.uint32]:
    masks = np.zeros(len(table.nodes_n), dtype=np.uint32)
    for ends in (table.source_E, table.target_E):
        np.bitwise_or.at(masks, ends[table.pair_edge_P], _bits(table))
    return masks


def _bits(table: EdgeTable) -> npt.NDArray[np.uint32]:
    return np.left_shift(np.uint32(1), table.pair_group_P.astype(np.uint32))


_NETWORK_PARTS = ("nodes_n", "node_mask_n", "edges_E", "edge_mask_E", "central_C", "edges_to")
_STRENGTH = "strength_n"
_POS = "parts_of_speech_PK"
_EMBEDDING = "embedding"


def to_bytes(fingerprints: Iterable[Fingerprint]) -> bytes:
    """Write the fingerprints of all rungs as one safetensors file; equal fingerprints give equal bytes."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    for one in fingerprints:
        tensors |= {f"{one.budget}/{name}": np.ascontiguousarray(array) for name, array in _arrays(one)}
    return bytes(save(dict(sorted(tensors.items()))))


def _arrays(one: Fingerprint) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    yield "types_V", one.types_V
    yield "counts_VK", one.counts_VK
    if one.parts_of_speech_PK is not None:
        yield _POS, one.parts_of_speech_PK
    if one.embedding is not None:
        yield from one.embedding.tensors(_EMBEDDING).items()
    for construction, network in one.networks.items():
        for part in _NETWORK_PARTS:
            yield f"{construction}/{part}", np.atleast_1d(getattr(network, part))
        if network.strength_n is not None:
            yield f"{construction}/{_STRENGTH}", network.strength_n


def from_bytes(content: bytes) -> tuple[Fingerprint, ...]:
    """Read what `to_bytes` wrote, in this or an earlier version, in rising order of budget.

    Raises:
        CorruptArtifact: the bytes are something else.
    """
    try:
        budgets: defaultdict[int, dict[str, npt.NDArray[Any]]] = defaultdict(dict)
        for name, array in load(content).items():
            budget, _, part = name.partition("/")
            # Version 1 knew one network and did not name it.
            budgets[int(budget)][f"{COOCCURRENCE}/{part}" if part in _NETWORK_PARTS else part] = array
        return tuple(_read(budget, budgets[budget]) for budget in sorted(budgets))
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptArtifact("the fingerprint of a report cannot be read; analyse the corpus again") from error


def _read(budget: int, arrays: Mapping[str, npt.NDArray[Any]]) -> Fingerprint:
    constructions = sorted({name.partition("/")[0] for name in arrays if "/" in name} - {_EMBEDDING})
    return Fingerprint(
        budget=budget,
        types_V=arrays["types_V"],
        counts_VK=arrays["counts_VK"],
        networks={construction: _read_network(construction, arrays) for construction in constructions},
        parts_of_speech_PK=arrays.get(_POS),
        embedding=embedding_print_of(_EMBEDDING, arrays),
    )


def _read_network(construction: str, arrays: Mapping[str, npt.NDArray[Any]]) -> NetworkPrint:
    parts = {part: arrays[f"{construction}/{part}"] for part in _NETWORK_PARTS}
    strength = arrays.get(f"{construction}/{_STRENGTH}")
    return NetworkPrint(**{**parts, "edges_to": parts["edges_to"][0], _STRENGTH: strength})
