from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.corpora.readers import Limits, read_documents
from ouroscope.errors import InvalidRequest, LimitExceeded, NotFound, OuroscopeError, PreconditionFailed
from ouroscope.records.documents import Document, Origin

ROOT = Path(__file__).parents[2]
TEXTS = ["The first text.", "Ein zweiter, mit Umlauten: äöü €", 'A "quoted" third, with a comma', "🐍"]

Write = Callable[[list[str]], bytes]


def as_jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "other": 1}) + "\n" for text in texts).encode()


def as_txt(texts: list[str]) -> bytes:
    return "\n\n".join(texts).encode()


def as_csv(texts: list[str]) -> bytes:
    cells = ['"' + text.replace('"', '""') + '"' for text in texts]
    return ("other,text\r\n" + "".join(f"1,{cell}\r\n" for cell in cells)).encode()


def as_parquet(texts: list[str], **columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts, **columns}), sink)
    return sink.getvalue()


FORMATS: dict[str, Write] = {".jsonl": as_jsonl, ".txt": as_txt, ".csv": as_csv, ".parquet": as_parquet}
every_format = pytest.mark.parametrize("suffix", FORMATS)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def texts_of(source: str | Path, **options: Any) -> list[str]:
    return [document.text for document in read_documents(source, **options)]


def error_of(kind: type[OuroscopeError], source: str | Path, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        list(read_documents(source, **options))
    assert "\n" not in caught.value.message
    return caught.value.message


Put = Callable[[str, bytes | str], Path]


# What can be read.


@every_format
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_every_format_gives_the_same_texts(put: Put, suffix: str, packed: bool) -> None:
    data = FORMATS[suffix](TEXTS)
    path = put(f"texts{suffix}{'.gz' if packed else ''}", gzip.compress(data) if packed else data)
    documents = list(read_documents(path))
    assert [document.text for document in documents] == TEXTS
    assert len({document.id for document in documents}) == 4
    assert documents == list(read_documents(str(path)))


# CSV has no sign of its own: it is read as lines.
@pytest.mark.parametrize("suffix", sorted(set(FORMATS) - {".csv"}))
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_standard_input_is_recognised_by_its_first_bytes(suffix: str, packed: bool) -> None:
    data = FORMATS[suffix](TEXTS)
    assert texts_of("-", stdin=io.BytesIO(gzip.compress(data) if packed else data)) == TEXTS


@every_format
def test_a_pipe_is_read_like_a_file(tmp_path: Path, suffix: str) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(FORMATS[suffix](TEXTS)))
    writer.start()
    assert texts_of(pipe) == TEXTS
    writer.join()


def test_a_stream_that_comes_byte_by_byte_is_recognised() -> None:
    class Slow(io.RawIOBase):
        data = io.BytesIO(gzip.compress(as_jsonl(TEXTS)))

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            byte = self.data.read(1)
            buffer[: len(byte)] = byte
            return len(byte)

    assert texts_of("-", stdin=io.BufferedReader(Slow())) == TEXTS


def test_a_file_without_a_suffix_is_recognised_by_its_first_bytes(put: Put) -> None:
    assert texts_of(put("corpus", as_jsonl(TEXTS))) == TEXTS


def test_a_directory_has_a_document_per_text_file_and_rows_of_the_others(put: Put, tmp_path: Path) -> None:
    put("d/b.txt", "two\nlines\n")
    put("d/a/x.jsonl", as_jsonl(["row one", "row two"]))
    put("d/c.txt.gz", gzip.compress(b"packed"))
    put("d/blank.txt", " \n")
    put("d/readme.md", "not a document")
    put("d/.hidden.txt", "not a document")
    put("d/.git/x.txt", "not a document")
    documents = list(read_documents(tmp_path / "d"))
    assert [(d.id, d.text) for d in documents] == [
        ("a/x.jsonl:1", "row one"),
        ("a/x.jsonl:2", "row two"),
        ("b.txt", "two\nlines"),
        ("c.txt.gz", "packed"),
    ]


def test_blank_lines_and_line_ends_are_not_part_of_a_text(put: Put) -> None:
    assert texts_of(put("a.txt", b"\xef\xbb\xbf one \r\n\r\n\t\r\ntwo\r\n")) == ["one", "two"]


def test_only_a_line_feed_ends_a_line(put: Put) -> None:
    assert texts_of(put("a.txt", "one\u2028still one\x0bstill\n")) == ["one\u2028still one\x0bstill"]


def test_a_cell_may_have_line_breaks_and_more_than_the_usual_limit(put: Put) -> None:
    long = "x" * 200_000
    assert texts_of(put("a.csv", as_csv(["one\ntwo", long]))) == ["one\ntwo", long]


def test_another_field_can_be_the_text(put: Put) -> None:
    assert texts_of(put("a.jsonl", '{"body": "b", "text": "t"}'), text_field="body") == ["b"]
    assert texts_of(put("a.parquet", as_parquet(["t"], body=["b"])), text_field="body") == ["b"]


def test_an_empty_text_in_a_row_is_a_document(put: Put) -> None:
    # A model that ends at once wrote an empty text; leaving it out would flatter the model.
    assert texts_of(put("a.jsonl", '{"text": ""}')) == [""]


PROVENANCE = {
    "id": "d7",
    "origin": "synthetic",
    "generation": 3,
    "model_digest": "abc",
    "prompt_id": "p1",
    "prefix_length": 2,
    "group": "g",
    "domain": "wiki",
}
KNOWN = Document(**{**PROVENANCE, "origin": Origin.SYNTHETIC}, text="some text")  # type: ignore[arg-type]


@every_format
def test_structured_files_may_carry_provenance(put: Put, suffix: str) -> None:
    row = {**PROVENANCE, "text": "some text"}
    header, cells = ",".join(row), ",".join(map(str, row.values()))
    content = {
        ".jsonl": json.dumps(row).encode(),
        ".csv": f"{header}\n{cells}\n".encode(),
        ".parquet": as_parquet(["some text"], **{name: [value] for name, value in PROVENANCE.items()}),
    }
    if suffix in content:
        assert list(read_documents(put(f"a{suffix}", content[suffix]))) == [KNOWN]


def test_provenance_that_is_left_out_or_empty_takes_the_defaults(put: Put) -> None:
    path = put("a.csv", "text,generation,group\nabc,,\n")
    assert list(read_documents(path)) == [Document(id="a.csv:2", text="abc")]
    path = put("b.jsonl", '{"text": "abc", "generation": null, "group": null}')
    assert list(read_documents(path)) == [Document(id="b.jsonl:1", text="abc")]


def test_numbers_serve_as_names(put: Put) -> None:
    (document,) = read_documents(put("a.jsonl", '{"id": 7, "group": 12, "text": "abc"}'))
    assert (document.id, document.group) == ("7", "12")


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1), min_size=1)
)
@settings(max_examples=40, deadline=None)
def test_any_text_survives_jsonl(texts: list[str]) -> None:
    assert texts_of("-", stdin=io.BytesIO(as_jsonl(texts))) == texts


# What cannot, and what is said of it.


def test_a_missing_source_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist; check the path"):
        read_documents(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b""),
        ("a.txt", b"\n \n"),
        ("a.jsonl", b""),
        ("a.csv", b""),
        ("a.csv", b"text\n"),
        ("a.parquet", as_parquet([])),
        ("a.txt.gz", gzip.compress(b"", mtime=0)),
        ("a", b""),
    ],
)
def test_an_input_without_documents_is_refused(put: Put, name: str, content: bytes) -> None:
    assert "has no document; give at least one" in error_of(InvalidRequest, put(name, content))


def test_empty_standard_input_is_refused() -> None:
    assert "standard input has no document" in error_of(InvalidRequest, "-", stdin=io.BytesIO())


def test_a_directory_without_readable_files_is_refused(put: Put, tmp_path: Path) -> None:
    put("d/readme.md", "x")
    assert "has no .jsonl, .txt, .csv, .parquet file" in error_of(InvalidRequest, tmp_path / "d")
    put("e/blank.txt", "\n")
    assert "has no document" in error_of(InvalidRequest, tmp_path / "e")


def test_another_suffix_is_refused(put: Put) -> None:
    assert "convert or rename it" in error_of(InvalidRequest, put("a.docx", "x"))
    assert "convert or rename it" in error_of(InvalidRequest, put("a.tar.gz", gzip.compress(b"x")))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a"])
def test_a_binary_file_is_refused(put: Put, name: str) -> None:
    message = error_of(InvalidRequest, put(name, b"\x7fELF\x02\x01\x01\x00\x00 text"))
    assert "is a binary file (byte 7 is 0)" in message


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_invalid_utf8_is_told_with_its_byte(put: Put, name: str) -> None:
    good = {"a.txt": b"good\n", "a.jsonl": b'{"text": "good"}\n', "a.csv": b"text\ngood\n"}[name]
    message = error_of(InvalidRequest, put(name, good + b"b\xe9d\n"))
    assert f"byte {len(good) + 1} (0xe9) cannot be decoded" in message
    assert "iconv" in message


def test_utf16_is_told_by_its_name(put: Put) -> None:
    assert "is UTF-16; save it as UTF-8" in error_of(InvalidRequest, put("a.txt", "text".encode("utf-16")))


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv"])
def test_a_line_of_fifty_megabytes_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with path.open("wb") as file:
        file.write({".csv": b"text\n"}.get(suffix, b""))
        for _ in range(50):
            file.write(b"x" * (1 << 20))
    assert "is longer than 10 MiB; write one document per line, or split it" in error_of(LimitExceeded, path)


def test_a_document_file_that_is_too_large_is_refused(put: Put, tmp_path: Path) -> None:
    put("d/a.txt", "x" * 101)
    assert "is larger than 100 bytes" in error_of(LimitExceeded, tmp_path / "d", limits=Limits(document_bytes=100))


def test_a_row_that_is_too_large_is_refused(put: Put) -> None:
    limits = Limits(document_bytes=100)
    assert "row 2 of" in error_of(LimitExceeded, put("a.parquet", as_parquet(["x", "x" * 101])), limits=limits)


@every_format
def test_a_decompression_bomb_stops_at_the_limit(put: Put, suffix: str) -> None:
    data = FORMATS[suffix]([f"{i} " * 20 for i in range(2000)])
    path = put(f"a{suffix}.gz", gzip.compress(data))
    limits = Limits(decompressed_bytes=len(data) - 1)
    assert "when decompressed; split it" in error_of(LimitExceeded, path, limits=limits)
    assert len(texts_of(path, limits=Limits(decompressed_bytes=len(data) * 100))) == 2000


def test_a_row_group_that_grows_beyond_the_limit_is_refused(put: Put) -> None:
    path = put("a.parquet", as_parquet([f"{i} " * 20 for i in range(2000)]))
    assert "row group" in error_of(LimitExceeded, path, limits=Limits(decompressed_bytes=1000))


def test_a_text_that_a_parquet_file_repeats_without_end_stops_at_the_limit(put: Put) -> None:
    """Of a few KiB that say nothing of it: each of a million rows may be the same entry of a dictionary."""
    path = put("a.parquet", as_parquet(["x" * 5000] * 2000))
    assert path.stat().st_size < 10_000
    limits = Limits(decompressed_bytes=1_000_000)
    assert "grows beyond" in error_of(LimitExceeded, path, limits=limits)
    assert len(texts_of(path, limits=Limits(decompressed_bytes=10_000_000))) == 2000


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(b"x" * (1 << 20))
    code = """
        import resource, sys
        from ouroscope.corpora.readers import read_documents
        from ouroscope.errors import LimitExceeded
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            list(read_documents(sys.argv[1]))
        except LimitExceeded:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    grown = int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert grown < 60 << 10  # KiB; the line is 100 MiB


@pytest.mark.parametrize("change", [lambda d: d[:-9], lambda d: d[:60], lambda d: b"plain", lambda d: d[:-4] + b"abcd"])
def test_a_damaged_gzip_file_is_told(put: Put, change: Callable[[bytes], bytes]) -> None:
    data = gzip.compress(as_txt([os.urandom(20).hex() for _ in range(50)]))
    assert "is not a whole gzip file" in error_of(InvalidRequest, put("a.txt.gz", change(data)))


def test_a_missing_field_is_told_with_those_that_exist(put: Put) -> None:
    message = error_of(InvalidRequest, put("a.jsonl", '{"text": "a"}\n{"body": "b", "title": "t"}'))
    assert message.startswith("line 2 of ")
    assert message.endswith("has no field 'text'; its fields are body, title")
    assert "its fields are body" in error_of(InvalidRequest, put("a.csv", "body\nb\n"))


def test_a_missing_column_is_told_with_those_that_exist(put: Put) -> None:
    message = error_of(InvalidRequest, put("a.parquet", as_parquet(["x"], body=["b"])), text_field="story")
    assert message.endswith("has no field 'story'; its fields are body, text")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{'text': 1}", "is not JSON"),
        ("[" * 100_000, "is not JSON (too deep"),
        ('{"text": ' + "9" * 10_000 + "}", "is not JSON (too deep or too long a number)"),
        ("[1, 2]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ('{"text": null}', "is empty; it must hold text"),
        ('{"text": 5}', "is not text; it must hold text"),
        ('{"text": "\\ud83d"}', "half of a surrogate pair"),
        ('{"text": "a", "id": "\\ud83d"}', "half of a surrogate pair"),
        ('{"text": "a", "prefix_length": 2}', "prefix_length must be in [0, 1]"),
        ('{"text": "a", "origin": "robot"}', "origin: 'robot' is not a origin; known are HUMAN, SYNTHETIC, UNKNOWN"),
        ('{"text": "a", "generation": "three"}', "generation: must be a whole number"),
        ('{"text": "a", "group": ["x"]}', "group: must be text, got a list"),
    ],
)
def test_a_bad_line_is_told_with_its_number(put: Put, line: str, told: str) -> None:
    message = error_of(InvalidRequest, put("a.jsonl", f'{{"text": "good"}}\n\n{line}\n'))
    assert "line 3 of " in message
    assert told in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('text\n"open', "line 2"),
        ("text\na,b\n", "more cells than the header"),
        ("other,text\n1\n", "has no field 'text'; its fields are other"),
        ('text\n"a"b\n', "is not CSV"),
    ],
)
def test_a_bad_table_is_told_with_its_line(put: Put, content: str, told: str) -> None:
    message = error_of(InvalidRequest, put("a.csv", content))
    assert "line 2 of" in message
    assert told in message


@pytest.mark.parametrize("change", [lambda d: d[:-9], lambda d: b"", lambda d: b"PAR1", lambda d: d[:4] + d[300:]])
def test_a_damaged_parquet_file_is_told(put: Put, change: Callable[[bytes], bytes]) -> None:
    assert "is not a readable Parquet file" in error_of(InvalidRequest, put("a.parquet", change(as_parquet(TEXTS))))


def test_columns_of_other_types_are_told(put: Put) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [1, 2]}), sink)
    assert "is not text" in error_of(InvalidRequest, put("a.parquet", sink.getvalue()))
    assert "is empty" in error_of(InvalidRequest, put("b.parquet", as_parquet(["a", None])))  # type: ignore[list-item]


def test_an_id_that_comes_twice_is_told(put: Put) -> None:
    path = put("a.jsonl", '{"id": "x", "text": "a"}\n{"id": "y", "text": "a"}\n{"id": "x", "text": "b"}')
    assert "line 3 of" in (message := error_of(InvalidRequest, path))
    assert "repeats the id 'x'" in message


def test_messages_hold_no_text_of_documents(put: Put) -> None:
    secret = "s3cr3t" * 50
    for line in (f'{{"text": ["{secret}"]}}', f'{{"text": "{secret}", "generation": "x"}}', f'{{"text": "{secret}'):
        assert "s3cr3t" not in error_of(InvalidRequest, put("a.jsonl", line))


def test_a_file_that_may_not_be_read_is_told() -> None:
    code = """
        import os, sys
        from ouroscope.corpora.readers import read_documents
        from ouroscope.errors import PreconditionFailed
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            list(read_documents("secret.txt"))
        except PreconditionFailed as error:
            print(error.message)
    """
    # Not tmp_path: pytest's folders can be entered by their owner only.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "secret.txt").write_text("x")
        Path(folder, "secret.txt").chmod(0)
        command = [sys.executable, "-c", textwrap.dedent(code)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "secret.txt cannot be read (Permission denied); check its path, owner and mode\n"


def test_a_path_below_a_file_is_told(put: Put) -> None:
    with pytest.raises((NotFound, PreconditionFailed)):
        list(read_documents(put("a.txt", "x") / "b.txt"))


def test_limits_are_checked() -> None:
    with pytest.raises(InvalidRequest, match="document_bytes"):
        Limits(document_bytes=0)
