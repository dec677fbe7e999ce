"""What callers hand to a client, checked before it is sent: whoever has no type checker is told what was expected."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.wire import NotEncodable, message_of, to_proto

R = TypeVar("R")
Wire = TypeVar("Wire", bound=Message)


def encoded(record: Any, kind: type[Any], field: str = "") -> Any:
    """Encode a record that must be a `kind`; the caller knows it as `field`, or as the whole request.

    Raises:
        InvalidRequest: it is something else, or one of its values does not fit.
    """
    if type(record) is not kind:
        raise refusal(field or "request", f"expected {kind.__name__}, got {type(record).__name__}")
    try:
        return to_proto(record)
    except NotEncodable as error:
        raise refusal(f"{field}.{error.field}".lstrip("."), error.description) from error


def request_of(kind: type[Wire], **values: Any) -> Wire:
    """Return the request with these values; see `message_of`.

    Raises:
        InvalidRequest: a value does not fit its field.
    """
    try:
        return message_of(kind, **values)
    except NotEncodable as error:
        raise refusal(error.field, error.description) from error


def reference(value: ArtifactRef | str, field: str) -> ArtifactRef:
    """Return a reference that may have been written as `kind/digest`.

    Raises:
        InvalidRequest: it is no reference.
    """
    if isinstance(value, ArtifactRef):
        return value
    if not isinstance(value, str):
        raise refusal(field, f"expected ArtifactRef or 'kind/digest', got {type(value).__name__}")
    try:
        return ArtifactRef.parse(value)
    except InvalidRequest as error:
        raise refusal(field, error.message) from error


def names(values: Sequence[str], field: str) -> tuple[str, ...]:
    """Return several names as a tuple. One string is a sequence of letters, and never what was meant.

    Raises:
        InvalidRequest: they are one string, or no sequence.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise refusal(field, f"expected a list of str, got {type(values).__name__}")
    found = tuple(values)
    for one in found:
        if not isinstance(one, str):
            raise refusal(field, f"expected a list of str, got one with {type(one).__name__}")
    return found


def many(records: Iterable[R] | AsyncIterable[R], kind: type[R], field: str) -> None:
    """Refuse what is not many records.

    Raises:
        InvalidRequest: it cannot be iterated over.
    """
    if isinstance(records, str | bytes) or not isinstance(records, Iterable | AsyncIterable):
        raise refusal(field, f"expected an iterable of {kind.__name__}, got {type(records).__name__}")


def refusal(field: str, description: str) -> InvalidRequest:
    """Return the error for one field."""
    return InvalidRequest(f"{field}: {description}", [FieldProblem(field, description)])
