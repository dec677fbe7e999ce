"""The trainer on the wire: decode, start the work, encode. Holds no rule of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.longrunning import operations_pb2

from ouroscope.operations.servicer import Operations
from ouroscope.operations.tasks import TaskContext
from ouroscope.records.training import CheckRecipe, FineTune, FineTuned
from ouroscope.rpc.errors import rpc_errors
from ouroscope.v1 import trainer_pb2, trainer_pb2_grpc
from ouroscope.wire import from_proto
from services.trainer.requests import METHOD, check_question, check_request


@dataclass(frozen=True, slots=True)
class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """ouroscope.v1.TrainerService."""

    train: Callable[[FineTune, TaskContext], FineTuned]
    check: Callable[[CheckRecipe], None]
    operations: Operations

    async def FineTune(self, request: trainer_pb2.FineTuneRequest, context: Any) -> operations_pb2.Operation:
        """Train a model further and publish the result."""
        async with rpc_errors(context):
            asked = check_request(from_proto(FineTune, request))
            work = partial(self.train, asked)
            return await self.operations.start(METHOD, asked, FineTuned, work, request_id=request.request_id)

    async def CheckRecipe(
        self, request: trainer_pb2.CheckRecipeRequest, context: Any
    ) -> trainer_pb2.CheckRecipeResponse:
        """Tell at once for what FineTune would refuse a recipe."""
        async with rpc_errors(context):
            await asyncio.to_thread(self.check, check_question(from_proto(CheckRecipe, request)))
            return trainer_pb2.CheckRecipeResponse()
