"""CoordinatorService over gRPC: decode, call, encode. Decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.operations.servicer import operation_to_proto
from ouroscope.records.runs import RunSpec
from ouroscope.rpc.errors import rpc_errors
from ouroscope.v1 import coordinator_pb2, coordinator_pb2_grpc, run_pb2
from ouroscope.wire import from_proto, to_proto
from services.coordinator.operations import operation_of
from services.coordinator.runs import Runs


class CoordinatorServicer(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Runs of the autophagy loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def CreateRun(self, request: coordinator_pb2.CreateRunRequest, context: Any) -> operations_pb2.Operation:
        """Start a run; the operation ends with it."""
        async with rpc_errors(context):
            run = await self._runs.create(_spec(request), request.run_id, request.request_id)
            return operation_to_proto(operation_of(run))

    async def GetRun(self, request: coordinator_pb2.GetRunRequest, context: Any) -> run_pb2.Run:
        """Read a run."""
        async with rpc_errors(context):
            answer: run_pb2.Run = to_proto(await self._runs.get(request.name))
            return answer

    async def ListRuns(
        self, request: coordinator_pb2.ListRunsRequest, context: Any
    ) -> coordinator_pb2.ListRunsResponse:
        """List runs, the newest first."""
        async with rpc_errors(context):
            runs, token = await self._runs.page(request.page_size, request.page_token)
            return coordinator_pb2.ListRunsResponse(runs=map(to_proto, runs), next_page_token=token)

    async def WatchRun(self, request: coordinator_pb2.WatchRunRequest, context: Any) -> AsyncIterator[run_pb2.RunEvent]:
        """Follow a run until it ends."""
        async with rpc_errors(context):
            async for event in self._runs.watch(request.name):
                yield to_proto(event)

    async def CancelRun(self, request: coordinator_pb2.CancelRunRequest, context: Any) -> run_pb2.Run:
        """Stop a run."""
        async with rpc_errors(context):
            answer: run_pb2.Run = to_proto(await self._runs.cancel(request.name))
            return answer

    async def ResumeRun(self, request: coordinator_pb2.ResumeRunRequest, context: Any) -> operations_pb2.Operation:
        """Go on with a run."""
        async with rpc_errors(context):
            return operation_to_proto(operation_of(await self._runs.resume(request.name)))

    async def DeleteRun(self, request: coordinator_pb2.DeleteRunRequest, context: Any) -> Empty:
        """Forget a run that has ended."""
        async with rpc_errors(context):
            await self._runs.delete(request.name)
            return Empty()

    async def GetArm(self, request: coordinator_pb2.GetArmRequest, context: Any) -> run_pb2.Arm:
        """Read an arm."""
        async with rpc_errors(context):
            answer: run_pb2.Arm = to_proto(await self._runs.arm(request.name))
            return answer

    async def ListArms(
        self, request: coordinator_pb2.ListArmsRequest, context: Any
    ) -> coordinator_pb2.ListArmsResponse:
        """List the arms of a run."""
        async with rpc_errors(context):
            arms, token = await self._runs.arms(request.parent, request.page_size, request.page_token)
            return coordinator_pb2.ListArmsResponse(arms=map(to_proto, arms), next_page_token=token)

    async def GetGeneration(self, request: coordinator_pb2.GetGenerationRequest, context: Any) -> run_pb2.Generation:
        """Read a generation."""
        async with rpc_errors(context):
            answer: run_pb2.Generation = to_proto(await self._runs.generation(request.name))
            return answer

    async def ListGenerations(
        self, request: coordinator_pb2.ListGenerationsRequest, context: Any
    ) -> coordinator_pb2.ListGenerationsResponse:
        """List generations; a page may hold fewer than asked for, since they are large."""
        async with rpc_errors(context):
            found, token = await self._runs.generations(request.parent, request.page_size, request.page_token)
            return coordinator_pb2.ListGenerationsResponse(generations=map(to_proto, found), next_page_token=token)


def _spec(request: coordinator_pb2.CreateRunRequest) -> RunSpec:
    if not request.HasField("spec"):
        raise InvalidRequest("spec: is required", (FieldProblem("spec", "is required"),))
    return from_proto(RunSpec, request.spec)
