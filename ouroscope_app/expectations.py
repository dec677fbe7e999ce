"""What a model expects, from a file of JSON lines: next-token records and scored texts, in any order.

A line has the fields of `NextToken` (it has `top_probabilities`) or those of `ScoredText` (it has `log_probability`).
The file is read once for each kind, one line at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ouroscope.canonical import from_plain
from ouroscope.corpora.rows import Input, json_rows
from ouroscope.corpora.streams import Limits, input_errors, unzipped
from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.store import ArtifactStore
from ouroscope_app.home import is_reference

Record = TypeVar("Record", NextToken, ScoredText)

_TELLING: dict[str, type[NextToken] | type[ScoredText]] = {
    "top_probabilities": NextToken,
    "log_probability": ScoredText,
}
"""Which field tells of which record a line is."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a model expects, to be read once."""

    next_tokens: Iterable[NextToken] = ()
    texts: Iterable[ScoredText] = ()


NOTHING = Expectations()


def expectations_named(store: ArtifactStore, name: str) -> Expectations:
    """Return what a file or `predictions/DIGEST` in `store` holds; nothing for an empty name.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: a line is neither kind of record; raised while reading.
    """
    if not is_reference(name):
        return expectations_in(name)
    reference = ArtifactRef.parse(name)
    return Expectations(read_next_tokens(store, reference), read_scored_texts(store, reference))


def expectations_in(name: str) -> Expectations:
    """Return what a file holds; nothing for an empty name. Raises as `expectations_named`."""
    if not name:
        return NOTHING
    if not Path(name).is_file():
        raise NotFound(f"there is no file {name}; give JSON lines of next-token records or scored texts")
    return Expectations(_records(name, NextToken), _records(name, ScoredText))


def _records(name: str, kind: type[Record]) -> Iterator[Record]:
    for place, row in _rows(name):
        found = next((known for field, known in _TELLING.items() if field in row), None)
        if found is None:
            raise InvalidRequest(f"{place} of {name} has neither {' nor '.join(_TELLING)}; see docs/gate.md")
        if found is kind:
            yield _record(kind, row, f"{place} of {name}")


def _record(kind: type[Record], row: Any, place: str) -> Record:
    try:
        return from_plain(kind, row)
    except InvalidRequest as error:
        raise InvalidRequest(f"{place}: {error.message}", error.problems) from error


def _rows(name: str) -> Iterator[tuple[str, Any]]:
    limits = Limits()
    with ExitStack() as stack:
        stack.enter_context(input_errors(name))
        stream = unzipped(stack.enter_context(Path(name).open("rb")), name, limits)
        yield from json_rows(
            Input(stream=stream, name=name, label=name, text_field="prompt_id", limits=limits, whole=False, fields=())
        )
