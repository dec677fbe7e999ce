"""Client of the trainer."""

from __future__ import annotations

import grpc.aio

from ouroscope.client.arguments import encoded
from ouroscope.client.long_work import LongCalls, OnProgress, Patience
from ouroscope.records.training import FineTune, FineTuned
from ouroscope.v1 import trainer_pb2_grpc


class TrainerClient:
    """Asks a trainer; raises `ouroscope.errors` classes."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience | None = None) -> None:
        self._stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        self._long = LongCalls(channel, patience or Patience())

    async def fine_tune(self, request: FineTune, on_progress: OnProgress | None = None) -> FineTuned:
        """Train a model further and return the next one once it is published."""
        message = encoded(request, FineTune)
        return await self._long.finish(self._stub.FineTune, message, FineTuned, on_progress)
