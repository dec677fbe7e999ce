"""Summaries of documents in files and in the store: read where they are asked for, and nothing changes where not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ouroscope.canonical import canonical_json, digest_of, from_plain, to_plain
from ouroscope.corpora.readers import Limits, read_documents
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import CorruptArtifact, InvalidRequest, LimitExceeded
from ouroscope.records.documents import Document, Origin
from ouroscope.records.runs import DatasetSpec, DomainSpec
from ouroscope.store import ArtifactStore
from ouroscope.store.tables import decode_table, encode_table

PLAIN = Document(id="a", text="one", origin=Origin.HUMAN, group="g")
TOLD = replace(PLAIN, id="b", summary="of one")
OF_BEFORE = '{"domain":null,"generation":null,"group":"g","id":"a","model_digest":null,"origin":"HUMAN",'
OF_BEFORE += '"prefix_length":0,"prompt_id":null,"text":"one"}'
ROWS = [{"body": "first", "gist": "of the first"}, {"body": "second", "gist": "of the second"}]


def as_table(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{row['body']},{row['gist']}\n" for row in [{"body": "body", "gist": "gist"}, *rows]).encode()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    ".csv": as_csv,
    ".parquet": as_table,
}
every_format = pytest.mark.parametrize("suffix", WRITERS)


def test_a_document_without_a_summary_is_written_as_before_there_were_any() -> None:
    assert canonical_json(PLAIN) == OF_BEFORE
    assert canonical_json(replace(PLAIN, summary="")) != OF_BEFORE
    assert from_plain(Document, to_plain(TOLD)) == TOLD


def test_a_source_without_summaries_keeps_its_digest() -> None:
    for spec in (DomainSpec(name="wiki"), DatasetSpec()):
        assert "summary_field" not in to_plain(spec)
        assert digest_of(replace(spec, summary_field="gist")) != digest_of(spec)
    assert DatasetSpec(summary_field="gist").sources()[0].summary_field == "gist"


def columns_of(data: bytes) -> list[str]:
    return list(pq.ParquetFile(io.BytesIO(data)).schema_arrow.names)


def test_a_table_has_the_column_only_where_a_summary_is() -> None:
    assert "summary" not in columns_of(encode_table(Document, [PLAIN]))
    assert "summary" in columns_of(encode_table(Document, [PLAIN, TOLD]))
    for records in ([PLAIN], [TOLD], [PLAIN, TOLD]):
        assert list(decode_table(Document, encode_table(Document, records))) == records


def test_a_table_of_before_is_read_and_one_without_another_column_is_damage() -> None:
    whole = pq.read_table(io.BytesIO(encode_table(Document, [PLAIN, TOLD])))

    def without(name: str) -> bytes:
        sink = io.BytesIO()
        pq.write_table(whole.drop_columns([name]), sink, store_schema=False)
        return sink.getvalue()

    assert list(decode_table(Document, without("summary"))) == [PLAIN, replace(TOLD, summary=None)]
    with pytest.raises(CorruptArtifact, match="other columns"):
        list(decode_table(Document, without("domain")))


def test_a_summary_is_part_of_the_name_of_a_corpus_and_comes_back(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    told, plain = write_corpus(store, [PLAIN, TOLD]), write_corpus(store, [PLAIN, replace(TOLD, summary=None)])
    assert told != plain
    assert list(read_corpus(store, told)) == [PLAIN, TOLD]


@every_format
def test_the_field_that_is_named_is_the_summary(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(WRITERS[suffix](ROWS))
    told = list(read_documents(path, text_field="body", summary_field="gist"))
    assert [(one.text, one.summary) for one in told] == [(row["body"], row["gist"]) for row in ROWS]
    assert [one.summary for one in read_documents(path, text_field="body")] == [None, None]
    whole = list(read_documents(tmp_path, text_field="body", summary_field="gist"))
    assert [one.summary for one in whole] == [one.summary for one in told]


@every_format
@pytest.mark.parametrize("empty", ["", "  "])
def test_a_row_without_a_summary_is_refused_with_the_name_of_the_field(tmp_path: Path, suffix: str, empty: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(WRITERS[suffix]([ROWS[0], {"body": "second", "gist": empty}]))
    with pytest.raises(InvalidRequest, match=r"'gist' in (line|row) \d of .* is empty"):
        list(read_documents(path, text_field="body", summary_field="gist"))
    with pytest.raises(InvalidRequest, match="no field 'summary'; its fields are body, gist"):
        list(read_documents(path, text_field="body", summary_field="summary"))


def test_what_is_no_summary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for wrong, told in ((None, "is empty"), (7, "not text"), (["x"], "not text"), ("\ud800", "surrogate")):
        path.write_text(json.dumps({"text": "a", "gist": wrong}))
        with pytest.raises(InvalidRequest, match=told):
            list(read_documents(path, summary_field="gist"))
    path.write_text(json.dumps({"text": "a", "gist": "x" * 200}))
    with pytest.raises(LimitExceeded, match="line 1"):
        list(read_documents(path, summary_field="gist", limits=Limits(document_bytes=100)))


def test_plain_text_has_no_summaries(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(InvalidRequest, match="plain text and has no field 'gist'"):
        list(read_documents(tmp_path / "a.txt", summary_field="gist"))


def test_summaries_that_swell_in_a_table_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 3000, "gist": ["x" * 2000] * 3000}), path, compression="zstd")
    with pytest.raises(LimitExceeded, match="grows beyond"):
        list(read_documents(path, summary_field="gist", limits=Limits(decompressed_bytes=100_000)))
