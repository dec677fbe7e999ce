"""An error of ours as plain data: how the processes of a trainer tell one another why they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ouroscope.errors import FieldProblem, Internal, InvalidRequest, OuroscopeError

_KINDS = {kind.reason: kind for kind in OuroscopeError.__subclasses__()}


def told_of(error: OuroscopeError) -> dict[str, Any]:
    """Return what `error_of` makes the same error of: reason, message, metadata, and pairs of field and description."""
    problems = [[problem.field, problem.description] for problem in getattr(error, "problems", ())]
    return {"reason": error.reason, "message": error.message, "metadata": dict(error.metadata), "problems": problems}


def error_of(told: Any) -> OuroscopeError:
    """Return the error that was told; Internal where it cannot be read, as of another version."""
    told = told if isinstance(told, Mapping) else {}
    error = _KINDS.get(str(told.get("reason")), Internal)(str(told.get("message", "the reason was not told")))
    metadata = told.get("metadata")
    # Not by keyword: a key may have the name of a parameter.
    error.metadata = {str(key): str(text) for key, text in metadata.items()} if isinstance(metadata, Mapping) else {}
    if isinstance(error, InvalidRequest):
        pairs = [pair for pair in told.get("problems", ()) if isinstance(pair, list) and len(pair) == 2]
        error.problems = tuple(FieldProblem(str(field), str(description)) for field, description in pairs)
    return error
