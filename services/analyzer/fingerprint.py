"""What a report keeps of the words and relations behind it, as hashes: enough to compare vocabularies, no text.

Shapes: V = different words of a rung, n = nodes, E = edges of its network, K = groups (20, or 1 without replicates).
Arrays of hashes rise. A mask has bit g set where a thing occurs in group g, so it is in replicate g if any other bit
is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ouroscope.errors import CorruptArtifact
from services.analyzer.keys import pair_keys
from services.analyzer.network.edges import EdgeTable
from services.analyzer.rungs import RungSample

EDGE_LIMIT = 200_000
"""Edges that are kept: those with the smallest hashes, so that two fingerprints keep the same ones."""
CENTRAL = 200
"""Most central concepts that are kept in their order."""

Hashes = npt.NDArray[np.uint64]
_ALL = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """One rung."""

    budget: int
    types_V: Hashes
    counts_VK: npt.NDArray[np.int32]
    """How often each word stands in each group."""
    nodes_n: Hashes
    node_mask_n: npt.NDArray[np.uint32]
    edges_E: Hashes
    edge_mask_E: npt.NDArray[np.uint32]
    edges_to: np.uint64
    """All edges with a hash up to this one are here; compare edges up to the smaller of two such bounds only."""
    central_C: Hashes
    """Concepts in falling order of strength, at most `CENTRAL`; hashes do not rise here."""

    @property
    def groups(self) -> int:
        """K."""
        return int(self.counts_VK.shape[1])


def fingerprint(rung: RungSample, table: EdgeTable | None = None) -> Fingerprint:
    """Return the fingerprint of a rung; without a network its node and edge arrays are empty."""
    counts_VK = rung.counts_VK()
    (used,) = np.nonzero(counts_VK.sum(axis=1))
    hashes = rung.lexicon.keys_V
    order = used[np.argsort(hashes[used])]
    return Fingerprint(
        budget=rung.budget,
        types_V=hashes[order],
        counts_VK=counts_VK[order].astype(np.int32),
        **(_network_part(table, hashes) if table is not None else _no_network()),
    )


def _network_part(table: EdgeTable, hashes: Hashes) -> dict[str, Any]:
    names = hashes[table.nodes_n]
    nodes = np.argsort(names)
    keys = pair_keys(names[table.source_E], names[table.target_E])
    edges = np.argsort(keys)
    kept = edges[:EDGE_LIMIT]
    return {
        "nodes_n": names[nodes],
        "node_mask_n": _node_masks(table)[nodes],
        "edges_E": keys[kept],
        "edge_mask_E": _edge_masks(table)[kept],
        "edges_to": keys[kept[-1]] if len(edges) > EDGE_LIMIT else _ALL,
        # Ties of strength are broken by the hash, which does not depend on the sample.
        "central_C": names[np.lexsort((names, -table.strength_n))[:CENTRAL]],
    }


def _no_network() -> dict[str, Any]:
    nothing, no_mask = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint32)
    parts = {
        "nodes_n": nothing,
        "edges_E": nothing,
        "central_C": nothing,
        "node_mask_n": no_mask,
        "edge_mask_E": no_mask,
    }
    return {**parts, "edges_to": _ALL}


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


_PARTS = ("types_V", "counts_VK", "nodes_n", "node_mask_n", "edges_E", "edge_mask_E", "central_C")


def to_bytes(fingerprints: Iterable[Fingerprint]) -> bytes:
    """Write the fingerprints of all rungs as one safetensors file; equal fingerprints give equal bytes."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    for one in fingerprints:
        tensors |= {f"{one.budget}/{part}": np.ascontiguousarray(getattr(one, part)) for part in _PARTS}
        tensors[f"{one.budget}/edges_to"] = np.array([one.edges_to], dtype=np.uint64)
    return bytes(save(dict(sorted(tensors.items()))))


def from_bytes(content: bytes) -> tuple[Fingerprint, ...]:
    """Read what `to_bytes` wrote, in rising order of budget.

    Raises:
        CorruptArtifact: the bytes are something else.
    """
    try:
        tensors = load(content)
        budgets = sorted({int(name.partition("/")[0]) for name in tensors})
        return tuple(_read(budget, tensors) for budget in budgets)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptArtifact("the fingerprint of a report cannot be read; analyse the corpus again") from error


def _read(budget: int, tensors: Mapping[str, npt.NDArray[Any]]) -> Fingerprint:
    parts = {part: tensors[f"{budget}/{part}"] for part in _PARTS}
    return Fingerprint(budget=budget, edges_to=tensors[f"{budget}/edges_to"][0], **parts)
