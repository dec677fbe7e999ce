"""Cuts any stream of records into messages of bounded size. Knows neither channels nor services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from ouroscope.client.arguments import encoded, many
from ouroscope.errors import LimitExceeded

BATCH_BYTES = 1024 * 1024 - 64 * 1024
"""Encoded records in one message; with its envelope it stays under 1 MiB, unless one record alone is larger."""
LARGEST_RECORD_BYTES = 4 * 1024 * 1024
"""What a server accepts in one message."""


async def batches(records: Iterable[Any] | AsyncIterable[Any], kind: type[Any], field: str) -> AsyncIterator[list[Any]]:
    """Yield lists of encoded records of class `kind`, each list under 1 MiB; nothing for no records.

    A plain iterable is read in a thread, a batch at a time: it may read files.

    Raises:
        InvalidRequest: `records`, which the caller knows as `field`, holds something else.
        LimitExceeded: one record is over 4 MiB.
    """
    many(records, kind, field)
    batch = _Batch(kind, field)
    if isinstance(records, AsyncIterable):
        async for record in records:
            if full := batch.add(record):
                yield full
        if batch.messages:
            yield batch.messages
        return
    source = _cut(iter(records), batch)
    while (found := await asyncio.to_thread(next, source, None)) is not None:
        yield found


class _Batch:
    def __init__(self, kind: type[Any], field: str) -> None:
        self._kind = kind
        self._field = field
        self._taken = 0
        self.messages: list[Any] = []
        self._bytes = 0

    def add(self, record: Any) -> list[Any]:
        """Take one record; return the batch before it if there was no room left in it."""
        message = encoded(record, self._kind, f"{self._field}[{self._taken}]")
        self._taken += 1
        # Tag and length of the record inside its message take up to eight bytes.
        size = message.ByteSize() + 8
        if size > LARGEST_RECORD_BYTES:
            raise _too_large(record, size)
        full: list[Any] = []
        if self.messages and self._bytes + size > BATCH_BYTES:
            full, self.messages, self._bytes = self.messages, [], 0
        self.messages.append(message)
        self._bytes += size
        return full


def _cut(records: Iterator[Any], batch: _Batch) -> Iterator[list[Any]]:
    for record in records:
        if full := batch.add(record):
            yield full
    if batch.messages:
        yield batch.messages


def _too_large(record: Any, size: int) -> LimitExceeded:
    name = str(getattr(record, "id", "") or getattr(record, "document_id", ""))[:100]
    return LimitExceeded(f"{name!r} has {size} bytes and at most {LARGEST_RECORD_BYTES} can be sent; cut it into parts")
