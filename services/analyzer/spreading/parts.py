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
from ouroscope.records.analysis import Counting, CountingSpec
from ouroscope.records.documents import View
from services.analyzer.folded import Folded
from services.analyzer.sample import LADDER, Accumulator, Kept, State
from services.analyzer.whole.counts import Counts, open_counts

FORMAT = 2
"""Number of this form of the bytes: a newer version does not read the drafts of an older one."""
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
        "counting": pa.string(),
        "counting_memory": pa.int64(),
        "counts": pa.map_(pa.string(), pa.large_binary()),
    }
)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a corpus, folded."""

    folded: Folded
    found: bool
    """Whether any document was of the domain that was asked for."""
    others: tuple[str, ...]
    """Some domains that were not asked for."""


def encode(part: Part) -> bytes:
    """Return a part as the bytes of a Parquet file; equal parts give equal bytes."""
    state, whole = part.folded.text.state(), part.folded.whole
    row = {
        "view": state.view.value,
        "documents": state.documents,
        "tokens": state.tokens,
        "names": state.names,
        "clusters": state.clusters,
        "kept": [_row(kept) for kept in state.kept],
        "found": part.found,
        "others": part.others,
        "counting": whole.spec.counting.value if whole else None,
        "counting_memory": whole.spec.memory if whole else None,
        "counts": list(whole.state().items()) if whole else (),
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
        folded = Folded(Accumulator.of_state(_state(row)), _counts(row))
        return Part(folded, row["found"], tuple(row["others"]))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CorruptArtifact(
            "a stored part of a corpus is damaged; delete the draft and repeat the request"
        ) from error


def _counts(row: dict[str, Any]) -> Counts | None:
    if row["counting"] is None:
        return None
    counts = open_counts(CountingSpec(counting=Counting(row["counting"]), memory=row["counting_memory"]))
    counts.restore(dict(row["counts"]))
    return counts


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
