"""Errors on the wire: one table from class to status, and the way back. Knows no service.

A domain error becomes a `google.rpc.Status` with ErrorInfo, and with BadRequest or RetryInfo where they apply; a client
turns it into the same class again. Text of any other exception never leaves the process: it goes to the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from ouroscope import errors
from ouroscope.errors import FieldProblem, InvalidRequest, OuroscopeError

log = structlog.get_logger(__name__)

DOMAIN = "ouroscope.dev"
DETAILS_KEY = "grpc-status-details-bin"
HIDDEN = "internal error; see the log of the service"

# Default clients refuse trailers over 8 KiB. Details travel in base64 (4/3), and the message once more (up to 3 times
# its size) beside them.
MAX_MESSAGE_BYTES = 768
MAX_DETAILS_BYTES = 4096
MAX_VALUE_BYTES = 512
MAX_METADATA_BYTES = 1024

STATUS_BY_ERROR: dict[type[OuroscopeError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.PreconditionFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.CapabilityMissing: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UntrustedArtifact: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CorruptArtifact: grpc.StatusCode.DATA_LOSS,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TrainingDiverged: grpc.StatusCode.ABORTED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}

ERROR_BY_REASON = {kind.reason: kind for kind in STATUS_BY_ERROR}

# For a status that carries no ErrorInfo of ours: gRPC's own, or another server's.
_ERROR_BY_BARE_CODE: dict[int, type[OuroscopeError]] = {
    grpc.StatusCode.INVALID_ARGUMENT.value[0]: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE.value[0]: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND.value[0]: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS.value[0]: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION.value[0]: errors.PreconditionFailed,
    grpc.StatusCode.PERMISSION_DENIED.value[0]: errors.NotPermitted,
    grpc.StatusCode.UNAUTHENTICATED.value[0]: errors.NotAuthenticated,
    grpc.StatusCode.UNIMPLEMENTED.value[0]: errors.CapabilityMissing,
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: errors.LimitExceeded,
    grpc.StatusCode.UNAVAILABLE.value[0]: errors.Unavailable,
    # A caller that cancels hears of it from its own program: here the other side has cut the call.
    grpc.StatusCode.CANCELLED.value[0]: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED.value[0]: errors.DeadlineExceeded,
    grpc.StatusCode.DATA_LOSS.value[0]: errors.CorruptArtifact,
}

_BARE_HINTS = {
    errors.Unavailable: "the service cannot be reached; is it running? ({})",
    errors.CapabilityMissing: "the service does not know this call; is it another service or another version? ({})",
    errors.LimitExceeded: "the service refused the size or number of what was sent; send less at once ({})",
    errors.DeadlineExceeded: "the service did not answer in time ({})",
}

_BROKEN = re.compile(
    "stream removed|socket closed|transport closed|connection reset|broken pipe|goaway|keepalive|ping timeout", re.I
)
# What TLS says of the other side, and what it means; the first that is found counts.
_TLS_CAUSES = (
    ("certificate has expired", "CERTIFICATE_EXPIRED", "the certificate of the service has expired; renew it there"),
    (
        "certificate is not yet valid",
        "CERTIFICATE_NOT_YET_VALID",
        "the certificate of the service is not valid yet; are the clocks right?",
    ),
    (
        "wrong_version_number",
        "NOT_TLS",
        "the service speaks no TLS; take the CA away (OURO_CLIENT_CA), or set up its certificate",
    ),
    (
        "hostname verification",
        "WRONG_NAME",
        "the certificate of the service is for another name; OURO_CLIENT_SERVER_NAME says under which to expect it",
    ),
    (
        "handshake failed",
        "NOT_TRUSTED",
        "the service is not vouched for by the authority that is trusted here; is OURO_CLIENT_CA the right one?",
    ),
)
_HUNG_UP = re.compile("(failed to connect|cannot find a connected endpoint).*socket closed", re.I)
# What gRPC says of a connection that was lost after it had been made, which is another thing to do about.
_NEVER_MADE = re.compile("failed to connect|cannot find a connected endpoint|resolution", re.I)


class rpc_errors:
    """Answer domain errors with their status and hide the text of any other error.

    Use it inside the method, around the whole body, in streaming methods too: an interceptor around the call would miss
    what is raised while a response stream is iterated. A cancelled call (asyncio.CancelledError) passes through.
    """

    def __init__(self, context: Any) -> None:
        self._context = context

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # aio's abort is a coroutine: in a plain `with` it would never run, and the text would leak.
        if isinstance(error, OuroscopeError):
            await self._context.abort_with_status(rpc_status.to_status(rich_status(error)))
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            log.error("rpc.unexpected_error", exc_info=error)
            await self._context.abort_with_status(rpc_status.to_status(rich_status(errors.Internal(HIDDEN))))


def status_code(error: OuroscopeError) -> grpc.StatusCode:
    """Return the status that callers see for `error`; a class of its own is answered like its nearest ancestor."""
    for kind in type(error).__mro__:
        if kind in STATUS_BY_ERROR:
            return STATUS_BY_ERROR[kind]
    return grpc.StatusCode.INTERNAL


def rich_status(error: OuroscopeError) -> status_pb2.Status:
    """Encode `error` with its data. What would not fit into a trailer is cut, and the cut is told."""
    status = status_pb2.Status(code=status_code(error).value[0], message=_cut(error.message, MAX_MESSAGE_BYTES))
    _attach(status, _error_info(error))
    if isinstance(error, errors.Busy | errors.Unavailable):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after * 1e9))
        _attach(status, retry)
    if isinstance(error, InvalidRequest) and error.problems:
        _attach(status, _bad_request(error.problems, room=MAX_DETAILS_BYTES - status.ByteSize()))
    return status


def error_from_rpc(error: grpc.aio.AioRpcError) -> OuroscopeError:
    """Return the error that the service raised; one that gRPC itself made is told in our words."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                return error_from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return _error_from_bare(error.code().value[0], error.details() or "")


def error_from_status(status: status_pb2.Status) -> OuroscopeError:
    """Return the error that `status` stands for, be it of a call or of a finished operation."""
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        for wanted in (info, bad_request, retry):
            if detail.Is(wanted.DESCRIPTOR):
                detail.Unpack(wanted)
    if info.domain != DOMAIN or info.reason not in ERROR_BY_REASON:
        return _error_from_bare(status.code, status.message)
    error = ERROR_BY_REASON[info.reason](status.message)
    # Not by keyword: a key may have the name of a parameter.
    error.metadata = dict(info.metadata)
    if isinstance(error, errors.Busy | errors.Unavailable):
        error.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    if isinstance(error, InvalidRequest):
        error.problems = tuple(FieldProblem(v.field, v.description) for v in bad_request.field_violations)
    return error


def _error_from_bare(code: int, text: str) -> OuroscopeError:
    kind = _ERROR_BY_BARE_CODE.get(code, errors.Internal)
    for said, cause, told in _TLS_CAUSES:
        # Still "unavailable": a certificate may be renewed while a client waits.
        if kind is errors.Unavailable and said in text.lower():
            return kind(told, cause=cause)
    if code == grpc.StatusCode.CANCELLED.value[0]:
        return kind(f"the service cut the call, as one does that stops; ask again ({text or 'no details were given'})")
    if kind is errors.Unavailable and _HUNG_UP.search(text):
        told = (
            "is it running? It hung up at once: it may want TLS (OURO_CLIENT_CA) or a client certificate that it trusts"
        )
        return kind(f"the service cannot be reached; {told} ({text})", cause="HUNG_UP")
    if kind is errors.Unavailable and _BROKEN.search(text) and not _NEVER_MADE.search(text):
        return kind(f"the connection to the service broke; ask again ({text})")
    return kind(_BARE_HINTS.get(kind, "{}").format(text or "no details were given"))


def _error_info(error: OuroscopeError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in error.metadata.items():
        info.metadata[key] = _cut(str(value), MAX_VALUE_BYTES)
        if info.ByteSize() > MAX_METADATA_BYTES:
            del info.metadata[key]
    return info


def _bad_request(problems: Iterable[FieldProblem], room: int) -> error_details_pb2.BadRequest:
    answer = error_details_pb2.BadRequest()
    told = list(problems)
    for position, problem in enumerate(told):
        description = _cut(problem.description, MAX_VALUE_BYTES)
        room -= len(problem.field.encode()) + len(description.encode()) + 16
        if room < 64:
            left = len(told) - position
            answer.field_violations.add(field="", description=f"and {left} more problems")
            break
        answer.field_violations.add(field=problem.field, description=description)
    return answer


def _attach(status: status_pb2.Status, detail: Any) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str, size: int) -> str:
    """Return `text` in at most `size` bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= size:
        return raw.decode()
    return raw[: size - 3].decode("utf-8", "ignore") + "..."
