"""MonitorService over gRPC: decode, call, encode. Decides nothing, and decodes no document: they are passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.empty_pb2 import Empty

from ouroscope.client.batches import Fields
from ouroscope.client.relay import fields_of
from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.monitors import GatePolicy, Monitor
from ouroscope.rpc.errors import rpc_errors
from ouroscope.v1 import monitor_pb2, monitor_pb2_grpc
from ouroscope.wire import from_proto, many_from_proto, to_proto
from services.coordinator.monitors.desk import Desk
from services.coordinator.monitors.gating import GateQuestion
from services.coordinator.monitors.recording import Reported


@dataclass(frozen=True, slots=True)
class MonitorServicer(monitor_pb2_grpc.MonitorServiceServicer):
    """Monitors of pipelines that others run, and the gate."""

    desk: Desk

    async def CreateMonitor(self, request: monitor_pb2.CreateMonitorRequest, context: Any) -> Any:
        """Make a monitor."""
        async with rpc_errors(context):
            wanted = from_proto(Monitor, request.monitor)
            return to_proto(
                await self.desk.monitors.create(request.monitor_id, wanted, request.baseline_name, request.request_id)
            )

    async def GetMonitor(self, request: monitor_pb2.GetMonitorRequest, context: Any) -> Any:
        """Read a monitor."""
        async with rpc_errors(context):
            return to_proto(await self.desk.monitors.get(request.name))

    async def ListMonitors(self, request: monitor_pb2.ListMonitorsRequest, context: Any) -> Any:
        """List monitors; a page may hold fewer than asked for."""
        async with rpc_errors(context):
            found, token = await self.desk.monitors.page(request.page_size, request.page_token)
            return monitor_pb2.ListMonitorsResponse(monitors=map(to_proto, found), next_page_token=token)

    async def UpdateMonitor(self, request: monitor_pb2.UpdateMonitorRequest, context: Any) -> Any:
        """Change a monitor."""
        async with rpc_errors(context):
            changed = from_proto(Monitor, request.monitor)
            return to_proto(await self.desk.monitors.update(changed, request.update_mask.paths))

    async def DeleteMonitor(self, request: monitor_pb2.DeleteMonitorRequest, context: Any) -> Empty:
        """Remove a monitor and its history."""
        async with rpc_errors(context):
            await self.desk.monitors.delete(request.name)
            return Empty()

    async def RecordGeneration(self, messages: AsyncIterator[monitor_pb2.RecordGenerationRequest], context: Any) -> Any:
        """Take in a generation and answer with its verdict."""
        async with rpc_errors(context):
            head, found = await _opened(messages)
            return to_proto(await self.desk.recording.record(_reported(head), found))

    async def GetMonitorGeneration(self, request: monitor_pb2.GetMonitorGenerationRequest, context: Any) -> Any:
        """Read a recorded generation."""
        async with rpc_errors(context):
            return to_proto(await self.desk.monitors.generation(request.name))

    async def ListMonitorGenerations(self, request: monitor_pb2.ListMonitorGenerationsRequest, context: Any) -> Any:
        """Read the history; a page may hold fewer than asked for, since generations are large."""
        async with rpc_errors(context):
            found, token = await self.desk.monitors.generations(request.parent, request.page_size, request.page_token)
            return monitor_pb2.ListMonitorGenerationsResponse(generations=map(to_proto, found), next_page_token=token)

    async def Gate(self, messages: AsyncIterator[monitor_pb2.GateRequest], context: Any) -> Any:
        """Say whether a candidate may be trained on."""
        async with rpc_errors(context):
            head, found = await _opened(messages)
            return to_proto(await self.desk.gating.decide(_question(head), found))


async def _opened(messages: AsyncIterator[Any]) -> tuple[Any, AsyncIterator[Fields]]:
    """Return the first message, which carries the head, and the items of all of them."""
    head = await anext(aiter(messages), None)
    if head is None:
        told = "the first message of the stream must say what it is about"
        raise InvalidRequest(told, (FieldProblem("parent", told),))
    return head, _items(head, messages)


async def _items(head: Any, messages: AsyncIterator[Any]) -> AsyncIterator[Fields]:
    if fields := fields_of(head):
        yield fields
    async for message in messages:
        if fields := fields_of(message):
            yield fields


def _reported(head: monitor_pb2.RecordGenerationRequest) -> Reported:
    return Reported(
        parent=head.parent,
        number=head.number,
        request_id=head.request_id,
        artifacts=many_from_proto(ArtifactRef, head.artifacts),
        description=head.description,
        synthetic_share=head.synthetic_share if head.HasField("synthetic_share") else None,
    )


def _question(head: monitor_pb2.GateRequest) -> GateQuestion:
    return GateQuestion(
        baseline=from_proto(ArtifactRef, head.baseline) if head.HasField("baseline") else None,
        baseline_name=head.baseline_name,
        policy=from_proto(GatePolicy, head.policy) if head.HasField("policy") else None,
        artifacts=many_from_proto(ArtifactRef, head.artifacts),
    )
