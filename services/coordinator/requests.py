"""Ids that callers give their requests, so that a repeated one does nothing twice. Knows no request."""

from __future__ import annotations

import uuid

from ouroscope.errors import FieldProblem, InvalidRequest


def read_request_id(text: str) -> str | None:
    """Return the id in its one spelling; None for the empty one.

    Raises:
        InvalidRequest: it is no UUID.
    """
    if not text:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        problem = FieldProblem("request_id", "must be a UUID, or empty")
        raise InvalidRequest(f"{problem.field}: {problem.description}", (problem,)) from None
