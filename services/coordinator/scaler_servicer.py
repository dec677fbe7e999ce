"""KEDA's ExternalScaler over gRPC: decode, call, encode. Its names are KEDA's, which asks for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

from ouroscope.rpc.errors import rpc_errors
from ouroscope.v1 import externalscaler_pb2 as scaler_pb2
from ouroscope.v1 import externalscaler_pb2_grpc
from services.coordinator.board import Board
from services.coordinator.scaling import STAGES, Scaled, demand, read_scaled

LOOK = 1.0
"""Seconds between two looks at whether there is work, for those who listen."""


class ScalerServicer(externalscaler_pb2_grpc.ExternalScalerServicer):
    """Tells how many replicas of a worker there is work for."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def IsActive(self, request: scaler_pb2.ScaledObjectRef, context: Any) -> scaler_pb2.IsActiveResponse:
        """Tell whether there is any work."""
        async with rpc_errors(context):
            return scaler_pb2.IsActiveResponse(result=self._demand(_scaled(request)) > 0)

    async def StreamIsActive(
        self, request: scaler_pb2.ScaledObjectRef, context: Any
    ) -> AsyncIterator[scaler_pb2.IsActiveResponse]:
        """Tell it at first and whenever it changes, until the coordinator shuts down."""
        async with rpc_errors(context):
            scaled, told = _scaled(request), None
            while not self._board.closed:
                active = self._demand(scaled) > 0
                if active != told:
                    yield scaler_pb2.IsActiveResponse(result=active)
                    told = active
                await asyncio.sleep(LOOK)

    async def GetMetricSpec(
        self, request: scaler_pb2.ScaledObjectRef, context: Any
    ) -> scaler_pb2.GetMetricSpecResponse:
        """Tell what is measured."""
        async with rpc_errors(context):
            share = _scaled(request).stages_per_replica
            spec = scaler_pb2.MetricSpec(
                metricName=STAGES, targetSize=min(math.ceil(share), 2**63 - 1), targetSizeFloat=share
            )
            return scaler_pb2.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(self, request: scaler_pb2.GetMetricsRequest, context: Any) -> scaler_pb2.GetMetricsResponse:
        """Tell how much there is now."""
        async with rpc_errors(context):
            now = self._demand(_scaled(request.scaledObjectRef))
            value = scaler_pb2.MetricValue(metricName=STAGES, metricValue=now, metricValueFloat=now)
            return scaler_pb2.GetMetricsResponse(metricValues=[value])

    def _demand(self, scaled: Scaled) -> int:
        return demand(scaled.worker, self._board.stages())


def _scaled(request: scaler_pb2.ScaledObjectRef) -> Scaled:
    return read_scaled(request.scalerMetadata)
