"""Client of the generator."""

from __future__ import annotations

import grpc.aio

from ouroscope.client.arguments import encoded, reference, request_of
from ouroscope.client.calls import call
from ouroscope.client.long_work import LongCalls, OnProgress, Patience
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import (
    BackendInfo,
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
from ouroscope.v1 import generator_pb2, generator_pb2_grpc
from ouroscope.wire import from_proto


class GeneratorClient:
    """Asks a generator. Long calls return when the work is done; all raise `ouroscope.errors` classes."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        self._long = LongCalls(channel, self._patience)

    async def import_model(
        self, source: str, *, base: ArtifactRef | str | None = None, on_progress: OnProgress | None = None
    ) -> ModelInfo:
        """Bring a model (embedded name, directory on the generator's machine, Hugging Face id) into the store.

        `base` is the stored model that an adapter in `source` was made for.
        """
        given = {} if base is None else {"base": reference(base, "base")}
        request = request_of(generator_pb2.ImportModelRequest, source=source, **given)
        return await self._long.finish(self._stub.ImportModel, request, ModelInfo, on_progress)

    async def get_model(self, model: ArtifactRef | str) -> ModelInfo:
        """Return what is known of a stored model."""
        request = request_of(generator_pb2.GetModelRequest, model=reference(model, "model"))
        return from_proto(ModelInfo, await call(self._stub.GetModel, request, self._patience.call))

    async def prepare_prompts(self, request: PreparePrompts, on_progress: OnProgress | None = None) -> Generated:
        """Cut a human corpus into windows with a real prefix."""
        message = encoded(request, PreparePrompts)
        return await self._long.finish(self._stub.PreparePrompts, message, Generated, on_progress)

    async def generate(self, request: Generate, on_progress: OnProgress | None = None) -> Generated:
        """Let a model continue the real prefix of every document of a corpus."""
        message = encoded(request, Generate)
        return await self._long.finish(self._stub.Generate, message, Generated, on_progress)

    async def score(self, request: Score, on_progress: OnProgress | None = None) -> Scored:
        """Ask a model for its probabilities."""
        message = encoded(request, Score)
        return await self._long.finish(self._stub.Score, message, Scored, on_progress)

    async def evaluate_tasks(self, request: EvaluateTasks, on_progress: OnProgress | None = None) -> EvaluatedTasks:
        """Let a model do tasks of lm-evaluation-harness."""
        message = encoded(request, EvaluateTasks)
        return await self._long.finish(self._stub.EvaluateTasks, message, EvaluatedTasks, on_progress)

    async def edit(self, request: Edit, on_progress: OnProgress | None = None) -> Generated:
        """Let a model draw the tokens of a text anew that it finds too easy."""
        return await self._long.finish(self._stub.Edit, encoded(request, Edit), Generated, on_progress)

    async def classify(self, request: Classify, on_progress: OnProgress | None = None) -> Classified:
        """Ask a text classifier which documents machines wrote."""
        return await self._long.finish(self._stub.Classify, encoded(request, Classify), Classified, on_progress)

    async def list_backends(self) -> tuple[BackendInfo, ...]:
        """Return the backends and what each can do, the one in the generator's process first."""
        answer = await call(self._stub.ListBackends, generator_pb2.ListBackendsRequest(), self._patience.call)
        return tuple(from_proto(BackendInfo, backend) for backend in answer.backends)
