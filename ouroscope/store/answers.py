"""Remembered answers as bytes: sealed, so that whatever cannot be trusted any more reads as forgotten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, TypeVar

from ouroscope.canonical import canonical_json, from_plain, to_plain
from ouroscope.errors import InvalidRequest
from ouroscope.records.artifacts import ArtifactRef

R = TypeVar("R")


def encode_answer(record: object) -> bytes:
    """Return a record with its class and a digest of both."""
    answer = {"kind": type(record).__name__, "record": to_plain(record)}
    return canonical_json({"answer": answer, "sha256": _seal(answer)}).encode("ascii")


def decode_answer(kind: type[R], data: bytes) -> R | None:
    """Read what `encode_answer` gave; None if it is damaged, of another class, or of another version of the class."""
    try:
        sealed = json.loads(data)
        answer = sealed["answer"]
        if sealed["sha256"] != _seal(answer) or answer["kind"] != kind.__name__:
            return None
        return from_plain(kind, answer["record"])
    except (ValueError, LookupError, TypeError, InvalidRequest):
        return None


def references_in(value: Any) -> Iterator[ArtifactRef]:
    """Yield every reference inside a record."""
    if isinstance(value, ArtifactRef):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from references_in(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from references_in(getattr(value, name))


def _seal(answer: Any) -> str:
    return hashlib.sha256(canonical_json(answer).encode("ascii")).hexdigest()
