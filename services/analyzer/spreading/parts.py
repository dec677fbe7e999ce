"""What one place has read of a corpus, as bytes that another place can merge. No pickle: a store may be shared.

Merging in any order and grouping gives equal bits (see `sample`), so parts say nothing of how a corpus was cut.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ouroscope.errors import CorruptArtifact
from ouroscope.records.documents import View
from services.analyzer.sample import LADDER, Accumulator, Kept, State

_PLACE_BYTES = 16
_KEPT = pa.struct(
    {"cluster": pa.uint64(), "place": pa.binary(_PLACE_BYTES), "words": pa.int32(), "text": pa.large_string()}
)
_SCHEMA = pa.schema(
    {
        "view": pa.string(),
        "documents": pa.int64(),
        "tokens": pa.int64(),
        "names": pa.list_(pa.uint64()),
        "clusters": pa.list_(pa.uint64()),
        "kept": pa.list_(_KEPT),
        "found": pa.bool_(),
        "others": pa.list_(pa.string()),
    }
)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a corpus, folded."""

    text: Accumulator
    found: bool
    """Whether any document was of the domain that was asked for."""
    others: tuple[str, ...]
    """Some domains that were not asked for."""


def encode(part: Part) -> bytes:
    """Return a part as the bytes of a Parquet file; equal parts give equal bytes."""
    state = part.text.state()
    row = {
        "view": state.view.value,
        "documents": state.documents,
        "tokens": state.tokens,
        "names": state.names,
        "clusters": state.clusters,
        "kept": [_row(kept) for kept in state.kept],
        "found": part.found,
        "others": part.others,
    }
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=_SCHEMA), sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def decode(data: bytes) -> Part:
    """Return the part that `encode` wrote.

    Raises:
        CorruptArtifact: these are not the bytes of one.
    """
    try:
        (row,) = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False).cast(_SCHEMA).to_pylist()
        return Part(Accumulator.of_state(_state(row)), row["found"], tuple(row["others"]))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise CorruptArtifact(
            "a stored part of a corpus is damaged; delete the draft and repeat the request"
        ) from error


def _row(kept: Kept) -> dict[str, Any]:
    place = kept.place.to_bytes(_PLACE_BYTES, "big")
    return {"cluster": kept.cluster, "place": place, "words": kept.words, "text": kept.text}


def _state(row: dict[str, Any]) -> State:
    return State(
        view=View(row["view"]),
        budgets=LADDER,
        documents=row["documents"],
        tokens=row["tokens"],
        names=tuple(row["names"]),
        clusters=tuple(row["clusters"]),
        kept=tuple(_kept(row["kept"])),
    )


def _kept(rows: Iterable[dict[str, Any]]) -> Iterable[Kept]:
    for row in rows:
        place = int.from_bytes(row["place"], "big")
        yield Kept(cluster=row["cluster"], place=place, words=row["words"], text=row["text"])
