"""What models say of text, in the artifact store: next-token records, scored texts, and what a detector finds.

All numbers are kept in float64. The analyzer reads them without the model; nothing here knows what is computed from
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from ouroscope.canonical import digest_of
from ouroscope.errors import InvalidRequest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.predictions import Detection, NextToken, ScoredText
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.manifest import Scalar
from ouroscope.store.sequences import SequenceWriter, read_sequence

_NEXT, _TEXTS, _DETECTIONS = "next-tokens", "texts", "detections"


def write_predictions(
    store: ArtifactStore,
    next_tokens: Iterable[NextToken],
    texts: Iterable[ScoredText],
    summary: Mapping[str, Scalar] | Sequence[tuple[str, Scalar]] = (),
) -> ArtifactRef:
    """Store what a model expects and return its name; see `write_records`."""
    return write_records(store, chain(next_tokens, texts), summary)


def write_records(
    store: ArtifactStore,
    records: Iterable[NextToken | ScoredText],
    summary: Mapping[str, Scalar] | Sequence[tuple[str, Scalar]] = (),
) -> ArtifactRef:
    """Store what a model expects and return its name; records of both kinds may come in turns.

    Holds one shard of each kind in memory. The name is a digest over all records of one kind in their order, then of
    the other; `summary` is not part of it.

    Raises:
        InvalidRequest: there is not one record, or a number is not finite.
        StorageFull: no room is left; nothing was published.
    """
    with store.scratch() as folder:
        tokens, scored = SequenceWriter(folder, NextToken, _NEXT), SequenceWriter(folder, ScoredText, _TEXTS)
        for record in records:
            if isinstance(record, NextToken):
                tokens.extend((record,))
            else:
                scored.extend((record,))
        digest = digest_of(tokens.close(), scored.close())
        if not tokens.records + scored.records:
            raise InvalidRequest("there are no predictions; give at least one next-token record or scored text")
        facts = {**dict(summary), "next_tokens": tokens.records, "texts": scored.records}
        return store.publish(ArtifactKind.PREDICTIONS, digest, {**tokens.files, **scored.files}, facts)


def read_next_tokens(store: ArtifactStore, ref: ArtifactRef) -> Iterator[NextToken]:
    """Yield the next-token records in their order; none if only texts were scored.

    Raises:
        InvalidRequest: `ref` is not that of predictions.
        NotFound: there are no such predictions.
        CorruptArtifact: what is stored is damaged.
    """
    return read_sequence(store, ref.expect(ArtifactKind.PREDICTIONS, "predictions"), NextToken, _NEXT)


def read_scored_texts(store: ArtifactStore, ref: ArtifactRef) -> Iterator[ScoredText]:
    """Yield the scored texts in their order; none if only prompts were looked at. Raises as `read_next_tokens`."""
    return read_sequence(store, ref.expect(ArtifactKind.PREDICTIONS, "predictions"), ScoredText, _TEXTS)


def write_detections(
    store: ArtifactStore,
    detections: Iterable[Detection],
    summary: Mapping[str, Scalar] | Sequence[tuple[str, Scalar]] = (),
) -> ArtifactRef:
    """Store what a detector says of documents and return its name, a digest over the records in their order.

    Raises:
        InvalidRequest: there is not one record.
        StorageFull: no room is left; nothing was published.
    """
    with store.scratch() as folder:
        writer = SequenceWriter(folder, Detection, _DETECTIONS)
        writer.extend(detections)
        digest = digest_of(writer.close())
        if not writer.records:
            raise InvalidRequest("there are no detections; give at least one document with text")
        return store.publish(
            ArtifactKind.PREDICTIONS, digest, writer.files, {**dict(summary), "detections": writer.records}
        )


def read_detections(store: ArtifactStore, ref: ArtifactRef) -> Iterator[Detection]:
    """Yield what a detector says, in its order; none if a model was asked. Raises as `read_next_tokens`."""
    return read_sequence(store, ref.expect(ArtifactKind.PREDICTIONS, "detections"), Detection, _DETECTIONS)
