"""Everything that speaks against a request, as one error. Knows no request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest

Reason = InvalidRequest | CapabilityMissing

FIELD = "field"
"""Key of the metadata of a missing capability that names the field which asks for it."""


def reasons(field: str, check: Callable[[], object]) -> Iterator[Reason]:
    """Yield what a check refuses; `field` is blamed where the check blames none. Other errors are raised."""
    try:
        check()
    except InvalidRequest as error:
        yield error if error.problems else InvalidRequest(error.message, [FieldProblem(field, error.message)])
    except CapabilityMissing as error:
        error.metadata = {FIELD: field, **error.metadata}
        yield error


def refuse(found: Iterable[Reason]) -> None:
    """Raise one error for all reasons; return if there are none.

    Raises:
        CapabilityMissing: all of them are of that kind.
        InvalidRequest: otherwise, with a problem for each field.
    """
    told = list(found)
    if len(told) == 1:
        raise told[0]
    message = "; ".join(reason.message for reason in told)
    if any(isinstance(reason, InvalidRequest) for reason in told):
        raise InvalidRequest(message, tuple(chain.from_iterable(map(_problems, told))))
    if told:
        fields = ", ".join(dict.fromkeys(reason.metadata[FIELD] for reason in told))
        raise CapabilityMissing(message, **{FIELD: fields})


def _problems(reason: Reason) -> tuple[FieldProblem, ...]:
    if isinstance(reason, InvalidRequest):
        return reason.problems
    return (FieldProblem(reason.metadata[FIELD], reason.message),)
