"""Every way a call can fail, as one family of exceptions that knows no transport.

Each class says what happened and carries data for a program (`metadata`); its text tells a person what to do.
`ouroscope.rpc.errors` has the table from class to gRPC status, and a test proves that the table is whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class OuroscopeError(Exception):
    """Root of all errors that may be shown to a caller.

    `message` must never contain document text, secrets or paths outside the caller's own input.
    """

    reason = "UNKNOWN"
    """Stable identifier for programs, sent as ErrorInfo.reason."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = metadata


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing that is wrong with one field of a request."""

    field: str
    """Path of the field in the caller's words, for example `sampling.temperature`."""
    description: str
    """What is wrong and what would be right."""


class InvalidRequest(OuroscopeError):
    """The request itself is wrong; repeating it cannot help. Carries every problem found, not only the first."""

    reason = "INVALID_REQUEST"

    def __init__(self, message: str, problems: Sequence[FieldProblem] = (), **metadata: str) -> None:
        super().__init__(message, **metadata)
        self.problems = tuple(problems)


class NotFound(OuroscopeError):
    """A named thing (artifact, run, operation, baseline, file, model) does not exist."""

    reason = "NOT_FOUND"


class AlreadyExists(OuroscopeError):
    """A thing of that name exists and is not the same thing."""

    reason = "ALREADY_EXISTS"


class PreconditionFailed(OuroscopeError):
    """The request is right but the system is not in a state to do it (wrong weights served, pool too small)."""

    reason = "PRECONDITION_FAILED"


class NotAuthenticated(OuroscopeError):
    """The service wants to know who calls and was not told, or not by a token that is good now."""

    reason = "NOT_AUTHENTICATED"


class NotPermitted(OuroscopeError):
    """The caller may not do this: its role is too low, or it names a source that the operator has not allowed."""

    reason = "NOT_PERMITTED"


class CapabilityMissing(OuroscopeError):
    """The chosen backend or installation cannot do this (no log-probabilities, extra not installed)."""

    reason = "CAPABILITY_MISSING"


class UntrustedArtifact(OuroscopeError):
    """A model or file is refused because it could run code or does not match its digest."""

    reason = "UNTRUSTED_ARTIFACT"


class CorruptArtifact(OuroscopeError):
    """Stored bytes do not match their manifest."""

    reason = "CORRUPT_ARTIFACT"


class LimitExceeded(OuroscopeError):
    """A configured bound (documents, bytes, tokens) is passed; sending less helps, waiting does not."""

    reason = "LIMIT_EXCEEDED"


class Busy(OuroscopeError):
    """All workers are taken; try again after `retry_after` seconds."""

    reason = "BUSY"

    def __init__(self, message: str, *, retry_after: float = 1.0, **metadata: str) -> None:
        super().__init__(message, **metadata)
        self.retry_after = retry_after


class Unavailable(OuroscopeError):
    """A dependency (another service, the database, the store) cannot be reached now; a retry may help."""

    reason = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after: float = 1.0, **metadata: str) -> None:
        super().__init__(message, **metadata)
        self.retry_after = retry_after


class StorageFull(OuroscopeError):
    """The store has no room left; nothing was published."""

    reason = "STORAGE_FULL"


class TrainingDiverged(OuroscopeError):
    """The loss became NaN or infinite, or left every bound."""

    reason = "TRAINING_DIVERGED"


class Cancelled(OuroscopeError):
    """The caller, or a signal, asked the work to stop."""

    reason = "CANCELLED"


class DeadlineExceeded(OuroscopeError):
    """The caller's deadline passed before the work was done."""

    reason = "DEADLINE_EXCEEDED"


class Internal(OuroscopeError):
    """Something failed that should not have; details are in the log of the service, never in the answer."""

    reason = "INTERNAL"


class Undefined(ArithmeticError):
    """A metric has no value for this sample; its text is the reason.

    Not an error of a call: it becomes `MetricValue.undefined_because`.
    """
