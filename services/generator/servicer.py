"""The generator on the wire: decode, start the work, encode. Holds no rule of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2

from ouroscope.operations.servicer import Operations
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import (
    Classified,
    Classify,
    Edit,
    EvaluatedTasks,
    EvaluateTasks,
    Generate,
    Generated,
    ModelInfo,
    PreparePrompts,
    Score,
    Scored,
)
from ouroscope.rpc.errors import rpc_errors
from ouroscope.v1 import generator_pb2, generator_pb2_grpc
from ouroscope.wire import from_proto, to_proto
from services.generator.jobs import Jobs


@dataclass(frozen=True, slots=True)
class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """ouroscope.v1.GeneratorService over `Jobs`."""

    jobs: Jobs
    operations: Operations

    async def ImportModel(self, request: generator_pb2.ImportModelRequest, context: Any) -> operations_pb2.Operation:
        """Bring a model into the store."""
        async with rpc_errors(context):
            base = from_proto(ArtifactRef, request.base) if request.HasField("base") else None
            found, work = await asyncio.to_thread(self.jobs.import_model, request.source, base)
            return await self._start("ImportModel", found, ModelInfo, work, request)

    async def GetModel(self, request: generator_pb2.GetModelRequest, context: Any) -> generator_pb2.ModelInfo:
        """Say what is known of a stored model."""
        async with rpc_errors(context):
            info = await asyncio.to_thread(self.jobs.get_model, from_proto(ArtifactRef, request.model))
            answer: generator_pb2.ModelInfo = to_proto(info)
            return answer

    async def PreparePrompts(
        self, request: generator_pb2.PreparePromptsRequest, context: Any
    ) -> operations_pb2.Operation:
        """Cut a human corpus into windows."""
        async with rpc_errors(context):
            asked, work = await asyncio.to_thread(self.jobs.prepare_prompts, from_proto(PreparePrompts, request))
            return await self._start("PreparePrompts", asked, Generated, work, request)

    async def Generate(self, request: generator_pb2.GenerateRequest, context: Any) -> operations_pb2.Operation:
        """Continue the real prefix of every document of a corpus."""
        async with rpc_errors(context):
            asked, work = await asyncio.to_thread(self.jobs.generate, from_proto(Generate, request))
            return await self._start("Generate", asked, Generated, work, request)

    async def Score(self, request: generator_pb2.ScoreRequest, context: Any) -> operations_pb2.Operation:
        """Ask a model for its probabilities."""
        async with rpc_errors(context):
            asked, work = await asyncio.to_thread(self.jobs.score, from_proto(Score, request))
            return await self._start("Score", asked, Scored, work, request)

    async def EvaluateTasks(
        self, request: generator_pb2.EvaluateTasksRequest, context: Any
    ) -> operations_pb2.Operation:
        """Let a model do tasks of lm-evaluation-harness."""
        async with rpc_errors(context):
            asked, work = await asyncio.to_thread(self.jobs.evaluate_tasks, from_proto(EvaluateTasks, request))
            return await self._start("EvaluateTasks", asked, EvaluatedTasks, work, request)

    async def Edit(self, request: generator_pb2.EditRequest, context: Any) -> operations_pb2.Operation:
        """Let a model draw the tokens of a text anew that it finds too easy."""
        async with rpc_errors(context):
            asked, work = await asyncio.to_thread(self.jobs.edit, from_proto(Edit, request))
            return await self._start("Edit", asked, Generated, work, request)

    async def Classify(self, request: generator_pb2.ClassifyRequest, context: Any) -> operations_pb2.Operation:
        """Ask a text classifier which documents machines wrote."""
        async with rpc_errors(context):
            asked, work = await asyncio.to_thread(self.jobs.classify, from_proto(Classify, request))
            return await self._start("Classify", asked, Classified, work, request)

    async def ListBackends(
        self, request: generator_pb2.ListBackendsRequest, context: Any
    ) -> generator_pb2.ListBackendsResponse:
        """Say which backends there are and what each can do."""
        async with rpc_errors(context):
            found = await asyncio.to_thread(self.jobs.backends.infos)
            return generator_pb2.ListBackendsResponse(backends=map(to_proto, found))

    async def _start(self, method: str, asked: Any, answer: type[Any], work: Any, request: Any) -> Any:
        return await self.operations.start(method, asked, answer, work, request_id=request.request_id)
