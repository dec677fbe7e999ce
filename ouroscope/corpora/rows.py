"""Rows of structured files that strangers give us: .jsonl, .csv and .parquet. Knows nothing of what a row means."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ouroscope.corpora.streams import Limits, lines_of, seekable, size_of
from ouroscope.errors import InvalidRequest, LimitExceeded

_BATCH_ROWS = 64
_HONEST = 64
"""Times that text shrinks when it is packed, at most; of what shrinks more, no more than the limit is read."""

Rows = Iterator[tuple[str, Mapping[str, Any]]]
"""Where each row stands, for messages, and its fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One stream and how it is to be read."""

    stream: BinaryIO
    name: str
    """As the caller wrote it."""
    label: str
    """Beginning of the ids of its documents."""
    text_field: str
    limits: Limits
    whole: bool
    """Whether plain text is one document, not one per line."""
    fields: tuple[str, ...]
    """Other fields that are of interest."""
    summary_field: str = ""
    """Holds what a document is about; empty where nobody asks for it."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the fields that every row has."""
        return (self.text_field, self.summary_field) if self.summary_field else (self.text_field,)


def json_rows(given: Input) -> Rows:
    """Yield the objects of a .jsonl file.

    Raises:
        InvalidRequest: a line is not a JSON object; says which.
    """
    for number, line in enumerate(lines_of(given.stream, given.name, given.limits), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or too long a number"
            raise InvalidRequest(
                f"line {number} of {given.name} is not JSON ({told}); write one object per line"
            ) from error
        if not isinstance(row, dict):
            raise InvalidRequest(
                f'line {number} of {given.name} is not a JSON object; write {{"{given.text_field}": ...}}'
            )
        yield f"line {number}", row


def csv_rows(given: Input) -> Rows:
    """Yield the rows of a .csv file with a header; a cell that is missing at the end of a row is left out.

    Raises:
        InvalidRequest: it is not CSV, or a row is longer than the header; says where.
    """
    # The limit belongs to the whole process; its default of 128 KiB is below what a document may have.
    csv.field_size_limit(max(csv.field_size_limit(), given.limits.document_bytes))
    reader = csv.DictReader(lines_of(given.stream, given.name, given.limits), strict=True, restkey="")
    try:
        for row in reader:
            if "" in row:
                raise InvalidRequest(f"line {reader.line_num} of {given.name} has more cells than the header")
            yield f"line {reader.line_num}", {key: value for key, value in row.items() if value is not None}
    except csv.Error as error:
        line = reader.reader.line_num
        raise InvalidRequest(f"line {line} of {given.name} is not CSV ({error}); mend its quotes") from error


def parquet_rows(given: Input) -> Rows:
    """Yield the rows of a .parquet file, with the columns of interest only.

    Raises:
        InvalidRequest: it is not Parquet, or has no column for the text or the summary.
        LimitExceeded: a part of it that must be held at once is too large, or all of it grows too large.
    """
    try:
        with seekable(given.stream) as stream:
            names = _checked_columns(given, pq.ParquetFile(stream))
            most = max(given.limits.decompressed_bytes, _HONEST * stream.seek(0, io.SEEK_END))
            # As a dictionary a text that is repeated a million times, an old trick of bombs, is held once.
            rows = _table_rows(pq.ParquetFile(stream, read_dictionary=list(given.texts)), names)
            yield from _bounded(given, rows, most)
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidRequest(f"{given.name} is not a readable Parquet file; write it again") from error


def _checked_columns(given: Input, file: Any) -> list[str]:
    """Return the columns to read."""
    limit, metadata = given.limits.decompressed_bytes, file.metadata
    if any(metadata.row_group(index).total_byte_size > limit for index in range(metadata.num_row_groups)):
        raise LimitExceeded(f"{given.name} has a row group beyond {size_of(limit)}; write it with smaller row groups")
    names = list(file.schema_arrow.names)
    for wanted in given.texts:
        if wanted not in names:
            raise missing_field(given, "", names, wanted)
    return [name for name in names if name in {*given.texts, *given.fields}]


def _bounded(given: Input, rows: Rows, most: int) -> Rows:
    """Yield rows as long as their texts have `most` characters; what the file says of itself may be a lie."""
    left = most
    for place, row in rows:
        left -= sum(len(text) for text in map(row.get, given.texts) if isinstance(text, str))
        if left < 0:
            raise LimitExceeded(f"{given.name} grows beyond {size_of(most)} when decompressed; split it")
        yield place, row


def _table_rows(file: Any, wanted: list[str]) -> Rows:
    number = 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
        for index in range(batch.num_rows):
            number += 1
            yield f"row {number}", {name: batch.column(name)[index].as_py() for name in wanted}


def missing_field(given: Input, place: str, names: list[str], wanted: str) -> InvalidRequest:
    """Return the error for a row or table without a field that it must have, telling those that exist."""
    there = ", ".join(sorted(str(name)[:40] for name in names)[:20]) or "none"
    return InvalidRequest(f"{place}{given.name} has no field {wanted!r}; its fields are {there}")
