"""Documents from files that people have: .jsonl, .txt, .csv and .parquet, the .gz of these, directories and pipes.

Reads lazily, one document at a time, and believes nothing: whatever is wrong with an input ends in one typed error that
says where, and what to do. What is read is not stored here; see `stored` for that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from ouroscope.canonical import from_plain
from ouroscope.corpora.rows import Input, Rows, csv_rows, json_rows, missing_field, parquet_rows
from ouroscope.corpora.streams import (
    GZIP_MAGIC,
    Limits,
    decompressed,
    input_errors,
    lines_of,
    peek,
    size_of,
    text_of,
)
from ouroscope.errors import InvalidRequest, LimitExceeded, NotFound
from ouroscope.paths import is_there
from ouroscope.records.documents import Document
from ouroscope.security.allowed import EVERYTHING

__all__ = ["FORMATS", "Limits", "files_in", "read_documents", "read_part"]

PROVENANCE = ("origin", "generation", "model_digest", "prompt_id", "prefix_length", "group", "domain")
"""Fields of Document that a structured file may carry beside its text and `id`; other fields are left alone."""
_FIELDS = ("id", *PROVENANCE)
_NUMBERS = ("generation", "prefix_length")
_NAMES = ("id", "model_digest", "prompt_id", "group", "domain")
_PARQUET_MAGIC = b"PAR1"

Opens = Callable[[Path], BinaryIO]
"""Opens a file for reading; may refuse it."""


def read_documents(
    source: str | Path,
    *,
    text_field: str = "text",
    summary_field: str = "",
    limits: Limits | None = None,
    stdin: BinaryIO | None = None,
    opens: Opens = EVERYTHING.open,
) -> Iterator[Document]:
    """Yield the documents of a file, of all files of a directory, or of standard input.

    A `.jsonl`, `.csv` or `.parquet` file has a document per row, its text in `text_field`; it may carry `id` and the
    provenance fields of Document. A `.txt` file has a document per line that is not blank, or is one document where it
    lies in a directory. A directory is searched through, in the order of the names; hidden files and files of other
    kinds are passed over. What has no suffix, a pipe or standard input is recognised by its first bytes.

    Documents without an `id` get one from their file and place, so the same input gives the same ids.

    Args:
        source: Path, or `-` for standard input.
        text_field: Field or column that holds the text.
        summary_field: Field or column of `Document.summary`; by default none.
        limits: How much is believed; by default the defaults of Limits.
        stdin: What `-` means; by default the standard input of this process.
        opens: Opens each file; by default any that this process may read.

    Raises:
        NotFound: `source` does not exist. Raised at once; what follows, while reading.
        InvalidRequest: no document in it, not UTF-8, not the format of its suffix, a field is missing or impossible.
        LimitExceeded: a document or a decompressed file is too large.
        PreconditionFailed: a file may not be read.
    """
    path = Path(source)
    if str(source) != "-" and not is_there(path):
        raise NotFound(f"{source} does not exist; check the path")
    return _documents(str(source), _Fields(text_field, summary_field), limits or Limits(), stdin, opens)


def files_in(directory: Path) -> list[Path]:
    """Return the files of a directory that `read_documents` reads, in its order.

    Raises:
        InvalidRequest: there is none.
    """
    return _files_below(directory, str(directory))


def read_part(
    top: Path,
    file: Path,
    *,
    text_field: str = "text",
    summary_field: str = "",
    limits: Limits | None = None,
    opens: Opens = EVERYTHING.open,
) -> Iterator[Document]:
    """Yield the documents of one file of a directory as `read_documents` of the directory does; there may be none.

    Raises: what `read_documents` raises.
    """
    label = file.relative_to(top).as_posix()
    with input_errors(str(file)), opens(file) as stream:
        fields = _Fields(text_field, summary_field)
        yield from _read(stream, str(file), label, fields, limits or Limits(), whole=True)


@dataclass(frozen=True, slots=True)
class _Fields:
    text: str
    summary: str
    """Empty where none is asked for."""


def _documents(
    source: str, fields: _Fields, limits: Limits, stdin: BinaryIO | None, opens: Opens
) -> Iterator[Document]:
    count = 0
    for document in _all(source, fields, limits, stdin, opens):
        count += 1
        yield document
    if not count:
        raise InvalidRequest(f"{_spoken(source)} has no document; give at least one")


def _all(source: str, fields: _Fields, limits: Limits, stdin: BinaryIO | None, opens: Opens) -> Iterator[Document]:
    path = Path(source)
    if source == "-":
        with input_errors(_spoken(source)):
            yield from _read(stdin or sys.stdin.buffer, _spoken(source), "stdin", fields, limits)
    elif path.is_dir():
        for file in _files_below(path, source):
            yield from read_part(
                path, file, text_field=fields.text, summary_field=fields.summary, limits=limits, opens=opens
            )
    else:
        with input_errors(source), opens(path) as stream:
            yield from _read(stream, source, path.name, fields, limits)


def _spoken(source: str) -> str:
    return "standard input" if source == "-" else source


def _files_below(top: Path, source: str) -> list[Path]:
    found = []
    with input_errors(source):
        for folder, subfolders, names in os.walk(top, onerror=_raise):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            found += [Path(folder, name) for name in names if not name.startswith(".") and _kind_of(name) in FORMATS]
    if not found:
        raise InvalidRequest(
            f"{source} has no {', '.join(FORMATS)} file (nor .gz of these); give a directory with some"
        )
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _kind_of(name: str) -> str:
    """Return the suffix that tells the format: that before `.gz`, if there is one."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _read(
    stream: BinaryIO, name: str, label: str, fields: _Fields, limits: Limits, *, whole: bool = False
) -> Iterator[Document]:
    with ExitStack() as stack:
        first, stream = peek(stream, len(GZIP_MAGIC))
        if first == GZIP_MAGIC or PurePath(label.lower()).suffix == ".gz":
            stream = stack.enter_context(decompressed(stream, name, limits))
        kind = _kind_of(label)
        if not kind or label == "stdin":
            kind, stream = _recognised(stream)
        if kind not in FORMATS:
            raise InvalidRequest(f"{name} is not a {', '.join(FORMATS)} file, nor the .gz of one; convert or rename it")
        given = Input(
            stream=stream,
            name=name,
            label=label,
            text_field=fields.text,
            summary_field=fields.summary,
            limits=limits,
            whole=whole,
            fields=_FIELDS,
        )
        yield from FORMATS[kind](given)


def _recognised(stream: BinaryIO) -> tuple[str, BinaryIO]:
    first, stream = peek(stream, 512)
    if first.startswith(_PARQUET_MAGIC):
        return ".parquet", stream
    return (".jsonl" if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else ".txt"), stream


def _read_text(given: Input) -> Iterator[Document]:
    if given.summary_field:
        raise InvalidRequest(f"{given.name} is plain text and has no field {given.summary_field!r}; give a table")
    if given.whole:
        text = text_of(given.stream, given.name, given.limits).strip()
        if text:
            yield Document(id=given.label, text=text)
        return
    for number, line in enumerate(lines_of(given.stream, given.name, given.limits), 1):
        if text := line.strip():
            yield Document(id=f"{given.label}:{number}", text=text)


def _read_jsonl(given: Input) -> Iterator[Document]:
    return _checked(given, json_rows(given))


def _read_csv(given: Input) -> Iterator[Document]:
    return _checked(given, csv_rows(given))


def _read_parquet(given: Input) -> Iterator[Document]:
    return _checked(given, parquet_rows(given))


FORMATS: Mapping[str, Callable[[Input], Iterator[Document]]] = {
    ".jsonl": _read_jsonl,
    ".txt": _read_text,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _checked(given: Input, rows: Rows) -> Iterator[Document]:
    seen: set[int] = set()
    for place, row in rows:
        document = _document(given, place, row)
        # Hashes, not the ids themselves: a few bytes per document are all that is held.
        if hash(document.id) in seen:
            raise InvalidRequest(f"{place} of {given.name} repeats the id {document.id[:80]!r}; ids must be unique")
        if "id" in row:
            seen.add(hash(document.id))
        yield document


def _document(given: Input, place: str, row: Mapping[str, Any]) -> Document:
    texts = {"text": _text(given, place, row, given.text_field)}
    if given.summary_field:
        texts["summary"] = _summary(given, place, row)
    fields = {name: _plain(name, row[name]) for name in _FIELDS if row.get(name) not in (None, "")}
    fields.setdefault("id", f"{given.label}:{place.rpartition(' ')[2]}")
    try:
        _check_unicode([*texts.values(), *(value for value in fields.values() if isinstance(value, str))])
        return from_plain(Document, {**fields, **texts})
    except InvalidRequest as error:
        raise InvalidRequest(f"{place} of {given.name}: {error.message}", error.problems) from error


def _text(given: Input, place: str, row: Mapping[str, Any], field: str) -> str:
    text = row.get(field)
    if field not in row:
        raise missing_field(given, f"{place} of ", list(row), field)
    if not isinstance(text, str):
        kind = "empty" if text is None else "not text"
        raise InvalidRequest(f"the field {field!r} in {place} of {given.name} is {kind}; it must hold text")
    if len(text) > given.limits.document_bytes:
        raise LimitExceeded(f"{place} of {given.name} is longer than {size_of(given.limits.document_bytes)}; split it")
    return text


def _summary(given: Input, place: str, row: Mapping[str, Any]) -> str:
    summary = _text(given, place, row, given.summary_field)
    if not summary.strip():
        told = f"the field {given.summary_field!r} in {place} of {given.name} is empty"
        raise InvalidRequest(f"{told}; give every document a summary, or leave such rows out")
    return summary


def _plain(name: str, value: Any) -> Any:
    """Read what CSV cannot say: numbers are written as text. The reverse as well, since many ids are numbers."""
    if name in _NUMBERS and isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value[:20])
    return str(value) if name in _NAMES and type(value) is int else value


def _check_unicode(texts: list[str]) -> None:
    try:
        for text in texts:
            text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest("it holds half of a surrogate pair, which is not valid Unicode") from error
