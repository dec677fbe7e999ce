"""Long work seen from the caller: start it, follow it, cancel it, and ask again when the service restarts meanwhile.

Asking again is safe, since equal requests share one operation and finished parts are kept by the service. Where the
service has replicas, equal requests of all callers go to one of them, and so does all that is asked about their work.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc.aio
import structlog
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from ouroscope.client.calls import Headers, call
from ouroscope.errors import Busy, Cancelled, DeadlineExceeded, Internal, NotFound, OuroscopeError, Unavailable
from ouroscope.records.progress import Progress
from ouroscope.rpc.channel import CALL_SECONDS, WORK_HEADER
from ouroscope.rpc.errors import error_from_status
from ouroscope.v1 import operation_pb2
from ouroscope.wire import PAIRS, from_proto

log = structlog.get_logger(__name__)

R = TypeVar("R")

OnProgress = Callable[[Progress], Awaitable[None] | None]
"""Called whenever the progress has moved, at most about twice a second; may be a coroutine function."""

PROGRESS_SECONDS = 0.5
QUIET_WAIT_SECONDS = 30.0
CANCEL_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client goes on, in seconds."""

    call: float = CALL_SECONDS
    """For a call that answers at once."""
    reach: float = 10.0
    """For a service that has not answered even once."""
    back: float = 120.0
    """For a coordinator that is watched and has gone: as long as a pod takes to begin elsewhere."""
    stream: float = 3600.0
    """For a call that sends or receives many messages."""
    work: float = 24 * 3600.0
    """For long work in all, waiting for a restarted service included."""


class LongCalls:
    """Starts operations on one channel and follows them to their end."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience) -> None:
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._patience = patience

    async def finish(self, method: Any, request: Any, answer: type[R], on_progress: OnProgress | None = None) -> R:
        """Start the work that `request` (a message with a request_id) asks for; return its answer once it is done.

        If the caller is cancelled or out of patience, the work is cancelled too.

        Raises:
            DeadlineExceeded: it took longer than `Patience.work`.
            OuroscopeError: what the work raised.
        """
        headers = ((WORK_HEADER, _work_of(request)),)
        request.request_id = str(uuid.uuid4())
        following = _Following(self._operations, self._patience, method, request, headers, on_progress)
        try:
            async with asyncio.timeout(self._patience.work) as limit:
                operation = await following.to_the_end()
        except TimeoutError as error:
            if not limit.expired():
                raise
            await following.cancel()
            raise DeadlineExceeded(f"the work took longer than {self._patience.work:g} seconds") from error
        except BaseException:
            await following.cancel()
            raise
        return _read_answer(operation, answer)


class _AskAgain(Exception):
    """The same request may succeed a little later, after `pause` seconds if that is known."""

    def __init__(self, error: OuroscopeError, pause: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.pause = pause


class _Following:
    """One request and the operation that answers it."""

    def __init__(
        self,
        operations: Any,
        patience: Patience,
        method: Any,
        request: Any,
        headers: Headers,
        on_progress: OnProgress | None,
    ) -> None:
        self._operations = operations
        self._patience = patience
        self._method = method
        self._request = request
        self._headers = headers
        """Of every call, so that all reach the one replica that knows the operation."""
        self._on_progress = on_progress
        self._told: Progress | None = None
        self._asking: asyncio.Future[Any] | None = None
        self._name = ""
        self._done = False
        self._pause = FIRST_PAUSE
        self._cancels_by_others = 0
        self._reach_until = asyncio.get_running_loop().time() + patience.reach

    async def to_the_end(self) -> operations_pb2.Operation:
        """Ask and wait until there is an outcome that asking again would not change.

        Raises:
            OuroscopeError: the outcome is a failure.
        """
        while True:
            try:
                operation = await self._ask()
                await self._tell(operation)
                while not operation.done:
                    operation = await self._look()
                    await self._tell(operation)
                self._check_outcome(operation)
            except _AskAgain as again:
                pause = self._pause if again.pause is None else again.pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                log.info("client.asks_again", operation=self._name, reason=again.error.reason, seconds=pause)
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            else:
                return operation

    async def cancel(self) -> None:
        """Ask the service to stop, if the operation was started and has not ended; failing to is no error."""
        with suppress(OuroscopeError, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                if self._asking is not None:
                    # The service may have begun although its answer has not arrived.
                    self._started(await self._asking)
                if self._name and not self._done:
                    request = operations_pb2.CancelOperationRequest(name=self._name)
                    await call(self._operations.CancelOperation, request, CANCEL_SECONDS, self._headers)

    async def _ask(self) -> operations_pb2.Operation:
        self._asking = asyncio.ensure_future(call(self._method, self._request, self._patience.call, self._headers))
        try:
            operation = await asyncio.shield(self._asking)
        except Busy as error:
            raise _AskAgain(error, error.retry_after) from error
        except (Unavailable, DeadlineExceeded, Cancelled) as error:
            if not self._name and asyncio.get_running_loop().time() > self._reach_until:
                raise
            raise _AskAgain(error) from error
        self._started(operation)
        return operation

    def _started(self, operation: operations_pb2.Operation) -> None:
        # Both at once: what is known of the operation before must not be taken for this one.
        self._asking = None
        self._name, self._done = operation.name, operation.done

    async def _look(self) -> operations_pb2.Operation:
        seconds = QUIET_WAIT_SECONDS if self._on_progress is None else PROGRESS_SECONDS
        timeout = Duration()
        timeout.FromMilliseconds(round(seconds * 1000))
        request = operations_pb2.WaitOperationRequest(name=self._name, timeout=timeout)
        try:
            limit = seconds + self._patience.call
            operation = await call(self._operations.WaitOperation, request, limit, self._headers)
        except (Unavailable, DeadlineExceeded, NotFound, Cancelled) as error:
            # Not found: the service was restarted and has forgotten it, or its replicas are others now. Cancelled: it
            # stopped and cut this very call; work that somebody cancelled is an outcome of the operation, not of a call
            # about it.
            raise _AskAgain(error) from error
        self._pause = FIRST_PAUSE
        return operation

    async def _tell(self, operation: operations_pb2.Operation) -> None:
        metadata = operation_pb2.OperationMetadata()
        if self._on_progress is None or not operation.metadata.Unpack(metadata):
            return
        progress = from_proto(Progress, metadata.progress)
        if progress != self._told:
            self._told = progress
            outcome = self._on_progress(progress)
            if inspect.isawaitable(outcome):
                await outcome

    def _check_outcome(self, operation: operations_pb2.Operation) -> None:
        self._done = True
        if not operation.HasField("error"):
            return
        error = error_from_status(operation.error)
        if isinstance(error, Unavailable):
            raise _AskAgain(error)
        # Equal requests share one operation, so somebody else may have cancelled theirs. Once is chance, twice is will.
        self._cancels_by_others += isinstance(error, Cancelled)
        if isinstance(error, Cancelled) and self._cancels_by_others == 1:
            raise _AskAgain(error)
        raise error


def _work_of(request: Any) -> str:
    """Return what equal requests of all clients have in common, before each has its request_id."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()


def _read_answer(operation: operations_pb2.Operation, answer: type[R]) -> R:
    message = PAIRS[answer]()
    if not operation.response.Unpack(message):
        raise Internal(f"the service answered with {operation.response.TypeName()!r}; is it another version?")
    return from_proto(answer, message)
