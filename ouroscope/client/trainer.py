"""Client of the trainer."""

from __future__ import annotations

import grpc.aio

from ouroscope.client.arguments import encoded
from ouroscope.client.calls import call
from ouroscope.client.long_work import LongCalls, OnProgress, Patience
from ouroscope.records.training import CheckRecipe, FineTune, FineTuned
from ouroscope.v1 import trainer_pb2_grpc


class TrainerClient:
    """Asks a trainer; raises `ouroscope.errors` classes."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        self._long = LongCalls(channel, self._patience)

    async def fine_tune(self, request: FineTune, on_progress: OnProgress | None = None) -> FineTuned:
        """Train a model further and return the next one once it is published."""
        message = encoded(request, FineTune)
        return await self._long.finish(self._stub.FineTune, message, FineTuned, on_progress)

    async def check_recipe(self, request: CheckRecipe) -> None:
        """Return if the trainer can do what `fine_tune` would be asked for; quick, since no weights are opened.

        Raises:
            InvalidRequest: the recipe does not fit the model; with everything that speaks against it.
            CapabilityMissing: the recipe fits, and this trainer lacks what it asks for.
        """
        await call(self._stub.CheckRecipe, encoded(request, CheckRecipe), self._patience.call)
