"""Writes tidy tables as CSV and Parquet."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from services.coordinator.study import tidy
from services.coordinator.study.view import Study

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def write_tables(study: Study, folder: Path) -> list[Path]:
    """Write `values`, `means`, `effects` and `selections` into `folder`, each as CSV and as Parquet; return the files.

    A table without rows is written too: its header says what it would hold.
    """
    tables: dict[str, tuple[type[Any], Iterable[Any]]] = {
        "values": (tidy.ValueRow, tidy.value_rows(study)),
        "means": (tidy.MeanRow, tidy.mean_rows(study)),
        "effects": (tidy.EffectRow, tidy.effect_rows(study)),
        "selections": (tidy.SelectionRow, tidy.selection_rows(study)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [path for name, (kind, rows) in tables.items() for path in _write(folder / name, _table(kind, rows))]


def _table(kind: type[Any], rows: Iterable[Any]) -> pa.Table:
    schema = pa.schema([(field, _type(hint)) for field, hint in typing.get_type_hints(kind).items()])
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)


def _type(hint: Any) -> pa.DataType:
    if isinstance(hint, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    return _TYPES[hint]


def _write(path: Path, table: pa.Table) -> list[Path]:
    comma, parquet = path.with_suffix(".csv"), path.with_suffix(".parquet")
    pa_csv.write_csv(table, comma)
    pa_parquet.write_table(table, parquet, compression="zstd")
    return [comma, parquet]
