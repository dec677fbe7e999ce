"""What the program of a Job tells the trainer that began it: lines of its log, which hold other things too.

A line of ours has a mark, is short, and is one of: how far the work is, why it ended without a model, that there is
one.
The answer itself is in the store, which outlives every log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ouroscope.canonical import canonical_json, from_plain
from ouroscope.errors import InvalidRequest, OuroscopeError
from ouroscope.records.progress import Progress
from services.trainer.told import error_of, told_of

MARK = "ouroscope.task "
MAX_LINE = 65_536

_MAX_MESSAGE = 1000
_MAX_TEXT = 300
_MAX_NAME = 100
_MOST = 8
"""Problems, and pairs of metadata."""


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
    told = told_of(error)
    message, problems = _cut(told["message"], _MAX_MESSAGE), [_cut_pair(*pair) for pair in told["problems"][:_MOST]]
    metadata = dict(_cut_pair(*pair) for pair in list(told["metadata"].items())[:_MOST])
    return _line("error", {**told, "message": message, "metadata": metadata, "problems": problems})


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
            error, published = error_of(value), ""
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


def _cut_pair(name: str, text: str) -> tuple[str, str]:
    return _cut(name, _MAX_NAME), _cut(text, _MAX_TEXT)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
