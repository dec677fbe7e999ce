"""Cuts any stream of records into messages of bounded size. Knows neither channels nor services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from ouroscope.client.arguments import encoded, many, refusal
from ouroscope.errors import LimitExceeded
from ouroscope.records.documents import Document
from ouroscope.records.monitors import Inputs
from ouroscope.records.predictions import NextToken, ScoredText

BATCH_BYTES = 1024 * 1024 - 64 * 1024
"""Encoded records in one message; with its envelope it stays under 1 MiB, unless one record alone is larger."""
LARGEST_RECORD_BYTES = 4 * 1024 * 1024
"""What a server accepts in one message."""
KINDS: Mapping[str, type[Any]] = {"documents": Document, "next_tokens": NextToken, "texts": ScoredText}
"""What is measured: fields of every message that carries it, with the class of what stands in them."""

Fields = dict[str, Any]
"""Lists of encoded records by field: what one message holds."""
Many = Iterable[Any] | AsyncIterable[Any]
Pairs = Iterable[tuple[str, Any]] | AsyncIterable[tuple[str, Any]]


async def batches(records: Many, kind: type[Any], field: str) -> AsyncIterator[list[Any]]:
    """Yield lists of encoded records of class `kind`, each list under 1 MiB; nothing for no records.

    A plain iterable is read in a thread, a batch at a time: it may read files.

    Raises:
        InvalidRequest: `records`, which the caller knows as `field`, holds something else.
        LimitExceeded: one record is over 4 MiB.
    """
    many(records, kind, field)
    async for batch in _full(_named(records, field), {field: kind}):
        yield batch[field]


async def kinds_in_batches(documents: Many = (), next_tokens: Many = (), texts: Many = ()) -> AsyncIterator[Fields]:
    """Yield what a message holds, encoded records under the name of their field: one kind after the other.

    Raises:
        InvalidRequest: an argument holds something else.
        LimitExceeded: one record is over 4 MiB.
    """
    given = {"documents": documents, "next_tokens": next_tokens, "texts": texts}
    for field, records in given.items():
        many(records, KINDS[field], field)
    for field, records in given.items():
        async for batch in batches(records, KINDS[field], field):
            yield {field: batch}


async def inputs_in_batches(inputs: Iterable[Inputs] | AsyncIterable[Inputs]) -> AsyncIterator[Fields]:
    """Yield what a message holds, encoded records under the name of their field, where all kinds arrive mixed.

    Raises:
        InvalidRequest: `inputs` holds something else.
        LimitExceeded: one record is over 4 MiB.
    """
    many(inputs, Inputs, "inputs")
    pairs = _flat_async(inputs) if isinstance(inputs, AsyncIterable) else _flat(inputs)
    async for batch in _full(pairs, KINDS):
        yield batch


async def _full(pairs: Pairs, kinds: Mapping[str, type[Any]]) -> AsyncIterator[Fields]:
    batch = _Batch(kinds)
    if isinstance(pairs, AsyncIterable):
        async for pair in pairs:
            if full := batch.add(*pair):
                yield full
        if batch.messages:
            yield batch.messages
        return
    source = _cut(iter(pairs), batch)
    while (found := await asyncio.to_thread(next, source, None)) is not None:
        yield found


def _named(records: Many, field: str) -> Pairs:
    if isinstance(records, AsyncIterable):
        return ((field, record) async for record in records)
    return ((field, record) for record in records)


def _flat(inputs: Iterable[Inputs]) -> Iterator[tuple[str, Any]]:
    for number, piece in enumerate(inputs):
        yield from _pairs(piece, number)


async def _flat_async(inputs: AsyncIterable[Inputs]) -> AsyncIterator[tuple[str, Any]]:
    number = 0
    async for piece in inputs:
        for pair in _pairs(piece, number):
            yield pair
        number += 1


def _pairs(piece: Inputs, number: int) -> list[tuple[str, Any]]:
    if type(piece) is not Inputs:
        raise refusal(f"inputs[{number}]", f"expected Inputs, got {type(piece).__name__}")
    return [(field, record) for field in KINDS for record in getattr(piece, field)]


class _Batch:
    def __init__(self, kinds: Mapping[str, type[Any]]) -> None:
        self._kinds = kinds
        self._taken = dict.fromkeys(kinds, 0)
        self.messages: Fields = {}
        self._bytes = 0

    def add(self, field: str, record: Any) -> Fields:
        """Take one record; return the batch before it if there was no room left in it."""
        message = encoded(record, self._kinds[field], f"{field}[{self._taken[field]}]")
        self._taken[field] += 1
        # Tag and length of the record inside its message take up to eight bytes.
        size = message.ByteSize() + 8
        if size > LARGEST_RECORD_BYTES:
            raise _too_large(record, size)
        full: Fields = {}
        if self.messages and self._bytes + size > BATCH_BYTES:
            full, self.messages, self._bytes = self.messages, {}, 0
        self.messages.setdefault(field, []).append(message)
        self._bytes += size
        return full


def _cut(pairs: Iterator[tuple[str, Any]], batch: _Batch) -> Iterator[Fields]:
    for pair in pairs:
        if full := batch.add(*pair):
            yield full
    if batch.messages:
        yield batch.messages


def _too_large(record: Any, size: int) -> LimitExceeded:
    ids = (getattr(record, field, "") for field in ("id", "document_id", "prompt_id"))
    name = next(filter(None, ids), "")[:100]
    return LimitExceeded(f"{name!r} has {size} bytes and at most {LARGEST_RECORD_BYTES} can be sent; cut it into parts")
