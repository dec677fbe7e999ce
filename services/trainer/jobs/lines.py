"""What the program of a Job tells the trainer that began it: lines of its log, which hold other things too.

A line of ours has a mark, is short, and is one of: how far the work is, why it ended without a model, that there is
one.
The answer itself is in the store, which outlives every log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ouroscope.canonical import canonical_json, from_plain
from ouroscope.errors import FieldProblem, Internal, InvalidRequest, OuroscopeError
from ouroscope.records.progress import Progress

MARK = "ouroscope.task "
MAX_LINE = 65_536

_MAX_MESSAGE = 1000
_MAX_TEXT = 300
_MAX_NAME = 100
_MOST = 8
"""Problems, and pairs of metadata."""
_KINDS = {kind.reason: kind for kind in OuroscopeError.__subclasses__()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a log says last."""

    progress: Progress | None = None
    error: OuroscopeError | None = None
    published: str = ""
    """The model, where there is one."""


def progress_line(progress: Progress) -> str:
    """Return the line of how far the work is."""
    return _line("progress", progress)


def published_line(model: str) -> str:
    """Return the line of a model that is in the store, with the answer."""
    return _line("published", model)


def error_line(error: OuroscopeError) -> str:
    """Return the line of work that ended without a model; what would be too long is cut."""
    found = getattr(error, "problems", ())[:_MOST]
    problems = [[_cut(each.field, _MAX_NAME), _cut(each.description, _MAX_TEXT)] for each in found]
    pairs = list(error.metadata.items())[:_MOST]
    metadata = {_cut(key, _MAX_NAME): _cut(value, _MAX_TEXT) for key, value in pairs}
    message = _cut(error.message, _MAX_MESSAGE)
    told = {"reason": error.reason, "message": message, "metadata": metadata, "problems": problems}
    return _line("error", told)


def told_in(log: str) -> Told:
    """Return what the lines of ours in the end of a log say; a line that is cut or of another version says nothing."""
    progress: Progress | None = None
    error: OuroscopeError | None = None
    published = ""
    for kind, value in _lines(log):
        # A word that comes later is of a later attempt at the same work.
        if kind == "progress":
            progress, error, published = _read_progress(value) or progress, None, ""
        elif kind == "error":
            error, published = _read_error(value), ""
        elif kind == "published" and isinstance(value, str):
            error, published = None, value
    return Told(progress=progress, error=error, published=published)


def _line(kind: str, value: object) -> str:
    return MARK + canonical_json({kind: value})


def _lines(log: str) -> Iterator[tuple[str, Any]]:
    for line in log.splitlines():
        if line.startswith(MARK) and len(line) <= MAX_LINE:
            try:
                told = json.loads(line.removeprefix(MARK))
            except ValueError:
                continue
            if isinstance(told, dict) and len(told) == 1:
                yield next(iter(told.items()))


def _read_progress(value: Any) -> Progress | None:
    try:
        return from_plain(Progress, value)
    except InvalidRequest:
        return None


def _read_error(value: Any) -> OuroscopeError:
    told: Mapping[str, Any] = value if isinstance(value, dict) else {}
    error = _KINDS.get(str(told.get("reason")), Internal)(str(told.get("message", "the task told no reason")))
    metadata = told.get("metadata")
    # Not by keyword: a key may have the name of a parameter.
    error.metadata = {str(key): str(text) for key, text in metadata.items()} if isinstance(metadata, dict) else {}
    if isinstance(error, InvalidRequest):
        pairs = [pair for pair in told.get("problems", ()) if isinstance(pair, list) and len(pair) == 2]
        error.problems = tuple(FieldProblem(str(field), str(description)) for field, description in pairs)
    return error


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
