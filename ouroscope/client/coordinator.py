"""Client of the coordinator."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from google.longrunning import operations_pb2

from ouroscope.client.arguments import encoded, request_of
from ouroscope.client.calls import call, pages, stream
from ouroscope.client.long_work import FIRST_PAUSE, LONGEST_PAUSE, Patience
from ouroscope.errors import Internal, Unavailable
from ouroscope.records.runs import Arm, Generation, Run, RunEvent, RunSpec
from ouroscope.v1 import coordinator_pb2, coordinator_pb2_grpc, operation_pb2
from ouroscope.wire import from_proto


class CoordinatorClient:
    """Asks a coordinator; all methods raise `ouroscope.errors` classes. Names are full: `runs/{run}`."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)

    async def create_run(self, spec: RunSpec, run_id: str | None = None) -> Run:
        """Start a run and return it as soon as it is accepted; `watch_run` follows it."""
        message = encoded(spec, RunSpec, "spec")
        request = request_of(
            coordinator_pb2.CreateRunRequest, run_id=run_id, spec=message, request_id=str(uuid.uuid4())
        )
        operation = await self._call(self._stub.CreateRun, request)
        return await self.get_run(_target(operation))

    async def get_run(self, name: str) -> Run:
        """Return one run."""
        return from_proto(Run, await self._call(self._stub.GetRun, coordinator_pb2.GetRunRequest(name=name)))

    def list_runs(self) -> AsyncIterator[Run]:
        """Yield all runs, the newest first."""
        return pages(self._stub.ListRuns, coordinator_pb2.ListRunsRequest(), "runs", Run, self._patience.call)

    async def watch_run(self, name: str) -> AsyncIterator[RunEvent]:
        """Yield what happens in a run until it ends.

        Goes on when the coordinator restarts; some events may then come twice, and those of the gap are lost.

        Raises:
            Unavailable: it has never answered, or is away for longer than `Patience.back`.
        """
        pause, patience = FIRST_PAUSE, self._patience.reach
        loop = asyncio.get_running_loop()
        lost_at = loop.time()
        while True:
            try:
                async for message in stream(self._stub.WatchRun, coordinator_pb2.WatchRunRequest(name=name)):
                    pause, patience, lost_at = FIRST_PAUSE, self._patience.back, loop.time()
                    yield from_proto(RunEvent, message)
                return
            except Unavailable:
                if loop.time() - lost_at > patience:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def cancel_run(self, name: str) -> Run:
        """Stop a run; what was finished stays."""
        return from_proto(Run, await self._call(self._stub.CancelRun, coordinator_pb2.CancelRunRequest(name=name)))

    async def resume_run(self, name: str) -> Run:
        """Go on with a run that was cancelled, failed or interrupted; return it as soon as that is accepted."""
        await self._call(self._stub.ResumeRun, coordinator_pb2.ResumeRunRequest(name=name))
        return await self.get_run(name)

    async def delete_run(self, name: str) -> None:
        """Forget a run that has ended; its artifacts stay."""
        await self._call(self._stub.DeleteRun, coordinator_pb2.DeleteRunRequest(name=name))

    def list_arms(self, parent: str) -> AsyncIterator[Arm]:
        """Yield the arms of a run in the order of its specification."""
        request = coordinator_pb2.ListArmsRequest(parent=parent)
        return pages(self._stub.ListArms, request, "arms", Arm, self._patience.call)

    async def get_arm(self, name: str) -> Arm:
        """Return one arm: `runs/{run}/arms/{arm}`."""
        return from_proto(Arm, await self._call(self._stub.GetArm, coordinator_pb2.GetArmRequest(name=name)))

    def list_generations(self, parent: str) -> AsyncIterator[Generation]:
        """Yield the generations of a run, of one of its arms, or of one seed, in order of arm, seed and number."""
        request = coordinator_pb2.ListGenerationsRequest(parent=parent)
        return pages(self._stub.ListGenerations, request, "generations", Generation, self._patience.call)

    async def get_generation(self, name: str) -> Generation:
        """Return one generation: `runs/{run}/arms/{arm}/seeds/{seed}/generations/{n}`."""
        request = coordinator_pb2.GetGenerationRequest(name=name)
        return from_proto(Generation, await self._call(self._stub.GetGeneration, request))

    async def _call(self, method: Any, request: Any) -> Any:
        return await call(method, request, self._patience.call)


def _target(operation: operations_pb2.Operation) -> str:
    metadata = operation_pb2.OperationMetadata()
    if not operation.metadata.Unpack(metadata) or not metadata.target:
        raise Internal("the coordinator did not say which run it has started; is it another version?")
    return metadata.target
