"""Records as Parquet bytes and back; the columns follow from the fields of the record. Knows nothing of any store.

Reading tolerates nothing: a column too many, too few or of another type is damage, or the work of another version. But
a field that came later (`UNLESS_DEFAULT`) has a column only where some record says something in it, so that tables of
records that do not use it stay as they were.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ouroscope.errors import CorruptArtifact, InvalidRequest
from ouroscope.shapes import UNLESS_DEFAULT, Shape, shapes_of

Record = TypeVar("Record")

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_BATCH_ROWS = 128


def encode_table(kind: type[Record], records: Sequence[Record]) -> bytes:
    """Return records of one class as the bytes of a Parquet file; the same records give the same bytes.

    Raises:
        InvalidRequest: a text is not valid Unicode (it holds half of a surrogate pair).
    """
    unsaid = {
        name for name, default in _later(kind).items() if all(getattr(record, name) == default for record in records)
    }
    names = [name for name in shapes_of(kind) if name not in unsaid]
    columns = {name: [_cell(getattr(record, name)) for record in records] for name in names}
    try:
        table = pa.Table.from_pydict(columns, schema=_schema(kind, names))
    except UnicodeEncodeError as error:
        raise InvalidRequest("a text holds half of a surrogate pair and is not valid Unicode") from error
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def decode_table(kind: type[Record], data: bytes) -> Iterator[Record]:
    """Yield the records of a Parquet file that `encode_table` made.

    Raises:
        CorruptArtifact: it is not such a file, or a record in it is impossible.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        there, later = set(file.schema_arrow.names), _later(kind)
        names = [name for name in shapes_of(kind) if name in there or name not in later]
        if not file.schema_arrow.equals(_schema(kind, names)):
            raise CorruptArtifact(f"stored {kind.__name__} records have other columns; {_ADVICE}")
        for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
            columns = [batch.column(name).to_pylist() for name in names]
            yield from (_record(kind, dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptArtifact(f"stored {kind.__name__} records are damaged; {_ADVICE}") from error


_ADVICE = "delete the artifact and repeat the work that made it"


def _record(kind: type[Record], row: Mapping[str, Any]) -> Record:
    shapes = shapes_of(kind)
    try:
        return kind(**{name: _value(shapes[name], cell) for name, cell in row.items()})
    except (InvalidRequest, ValueError) as error:
        raise CorruptArtifact(f"a stored {kind.__name__} record is impossible; {_ADVICE}") from error


def _cell(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _value(shape: Shape, cell: Any) -> Any:
    if cell is None and not shape.optional:
        raise ValueError("an empty cell")
    if shape.many:
        return tuple(cell)
    return shape.element(cell) if cell is not None and issubclass(shape.element, Enum) else cell


def _later(kind: Any) -> dict[str, Any]:
    """Return the fields that tables of before do not have, and what such a table means by that."""
    return {field.name: field.default for field in dataclasses.fields(kind) if field.metadata == UNLESS_DEFAULT}


def _schema(kind: type[Any], names: Sequence[str]) -> Any:
    shapes = shapes_of(kind)
    return pa.schema([pa.field(name, _type(shapes[name]), nullable=shapes[name].optional) for name in names])


def _type(shape: Shape) -> Any:
    element = pa.string() if issubclass(shape.element, Enum) else _ARROW[shape.element]
    return pa.list_(pa.field("element", element, nullable=False)) if shape.many else element
