"""Long work as google.longrunning.Operations: starting it from a servicer, and the Operations service itself.

A servicer's method is four lines with `Operations.start`. The service works on any `OperationSource`: workers give it
their table of tasks, the coordinator its database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from ouroscope.errors import InvalidRequest
from ouroscope.operations.requests import RequestIds, request_digest
from ouroscope.operations.tasks import TaskContext, TaskState, TaskTable
from ouroscope.rpc.errors import rich_status, rpc_errors
from ouroscope.rpc.paging import page_size, read_token, write_token
from ouroscope.v1 import operation_pb2
from ouroscope.wire import to_proto

R = TypeVar("R")

SERVICE_NAME = "google.longrunning.Operations"

LONGEST_WAIT = 300.0
"""Seconds that one WaitOperation lasts at most, whatever the caller asks for."""


def operation_to_proto(state: TaskState) -> operations_pb2.Operation:
    """Encode a task: progress as metadata, and its answer or its error once it is done."""
    metadata = operation_pb2.OperationMetadata(
        method=state.method, request_digest=state.digest, progress=to_proto(state.progress), target=state.target
    )
    metadata.create_time.FromDatetime(state.create_time)
    metadata.update_time.FromDatetime(state.update_time)
    operation = operations_pb2.Operation(name=state.name, done=state.done)
    operation.metadata.Pack(metadata)
    if state.error is not None:
        operation.error.CopyFrom(rich_status(state.error))
    elif state.result is not None:
        operation.response.Pack(to_proto(state.result))
    return operation


class Operations:
    """What a servicer starts its long work with."""

    def __init__(self, table: TaskTable, fingerprint: Mapping[str, str]) -> None:
        self._table = table
        self._fingerprint = dict(fingerprint)
        self._request_ids = RequestIds()

    async def start(
        self,
        method: str,
        request: Any,
        answer: type[R],
        work: Callable[[TaskContext], R],
        *,
        request_id: str = "",
    ) -> operations_pb2.Operation:
        """Start `work` in a thread, unless the same request is at work or answered; return its operation.

        Args:
            method: name of the call, for example `Generate`.
            request: its record, with every automatic choice already made: its digest names the operation.
            answer: class of the record that `work` returns.
            work: computes the answer; heeds `check` and tells its progress.
            request_id: the caller's id of this request, a UUID or empty.

        Raises:
            AlreadyExists: request_id was used for another request.
            Busy: too much waits already.
        """
        digest = request_digest(method, request, self._fingerprint)
        self._request_ids.check(request_id, digest)
        # In a thread, since it asks the store.
        name = await asyncio.to_thread(self._table.start, method, digest, answer, work)
        return operation_to_proto(self._table.get(name))


class OperationSource(Protocol):
    """Where the Operations service looks. All but `cancel` of an unknown name raise NotFound."""

    async def get(self, name: str) -> TaskState:
        """Return the state of one operation."""

    async def wait(self, name: str, timeout: float) -> TaskState:
        """Return its state once it is done, or after `timeout` seconds."""

    async def page(self, size: int, below: int | None) -> list[TaskState]:
        """Return up to `size` operations, the newest first, of those whose number is below `below` (None: all)."""

    async def cancel(self, name: str) -> None:
        """Ask it to stop."""

    async def forget(self, name: str) -> None:
        """Drop it, if it is done."""


class TableSource:
    """The operations of a table of tasks."""

    def __init__(self, table: TaskTable) -> None:
        self._table = table

    async def get(self, name: str) -> TaskState:
        """Return the state of one operation."""
        return self._table.get(name)

    async def wait(self, name: str, timeout: float) -> TaskState:
        """Return its state once it is done, or after `timeout` seconds."""
        return await self._table.wait(name, timeout)

    async def page(self, size: int, below: int | None) -> list[TaskState]:
        """Return up to `size` operations, the newest first."""
        return [state for state in self._table.list() if below is None or state.number < below][:size]

    async def cancel(self, name: str) -> None:
        """Ask it to stop."""
        self._table.cancel(name)

    async def forget(self, name: str) -> None:
        """Drop it, if it is done."""
        self._table.forget(name)


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]  # google ships no types
    """google.longrunning.Operations over an `OperationSource`."""

    def __init__(self, source: OperationSource) -> None:
        self._source = source

    async def GetOperation(self, request: operations_pb2.GetOperationRequest, context: Any) -> Any:
        """Say how far an operation is."""
        async with rpc_errors(context):
            return operation_to_proto(await self._source.get(request.name))

    async def WaitOperation(self, request: operations_pb2.WaitOperationRequest, context: Any) -> Any:
        """Answer when the operation is done, or at the timeout or just before the deadline with what is known then."""
        async with rpc_errors(context):
            timeout = _wait_seconds(request, context.time_remaining())
            return operation_to_proto(await self._source.wait(request.name, timeout))

    async def ListOperations(self, request: operations_pb2.ListOperationsRequest, context: Any) -> Any:
        """List operations, the newest first."""
        async with rpc_errors(context):
            size = page_size(request.page_size)
            states = await self._source.page(size + 1, _read_number(request.page_token))
            token = write_token(str(states[size - 1].number)) if len(states) > size else ""
            shown = [operation_to_proto(state) for state in states[:size]]
            return operations_pb2.ListOperationsResponse(operations=shown, next_page_token=token)

    async def CancelOperation(self, request: operations_pb2.CancelOperationRequest, context: Any) -> Any:
        """Ask an operation to stop; that it has stopped is seen with GetOperation."""
        async with rpc_errors(context):
            await self._source.cancel(request.name)
            return Empty()

    async def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest, context: Any) -> Any:
        """Forget a finished operation; its answer stays in the store."""
        async with rpc_errors(context):
            await self._source.forget(request.name)
            return Empty()


def add_operations(servicer: OperationsServicer, server: Any) -> str:
    """Add the service to a server and return its full name."""
    operations_pb2_grpc.add_OperationsServicer_to_server(servicer, server)
    return SERVICE_NAME


def _wait_seconds(request: operations_pb2.WaitOperationRequest, remaining: float | None) -> float:
    asked = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else LONGEST_WAIT
    # An answer that arrives after the deadline is no answer.
    left = LONGEST_WAIT if remaining is None else remaining * 0.9
    return max(0.0, min(asked, left, LONGEST_WAIT))


def _read_number(token: str) -> int | None:
    key = read_token(token)
    if key is not None and not key.isdigit():
        raise InvalidRequest("page_token is of another list; start again without it")
    return None if key is None else int(key)
