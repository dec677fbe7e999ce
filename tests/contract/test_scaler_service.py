"""What KEDA asks, asked as KEDA does: by its names, on a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from ouroscope.records.runs import RunState, StageTime
from ouroscope.rpc.server import serve
from ouroscope.v1 import externalscaler_pb2 as scaler_pb2
from ouroscope.v1 import externalscaler_pb2_grpc
from services.coordinator import scaler_servicer
from services.coordinator.board import Board
from services.coordinator.plan import Lane
from services.coordinator.scaler_servicer import ScalerServicer
from services.coordinator.service import SCALER_SERVICE_NAME
from tests.unit.coordinator.conftest import a_run
from tests.unit.coordinator.fakes import small_spec

RUN = a_run(small_spec(), state=RunState.RUNNING)
LANE = Lane("r", "replace", 0)


@pytest.fixture
def board() -> Board:
    made = Board()
    made.open(RUN)
    return made


@pytest.fixture
async def keda(board: Board, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A stub of a coordinator's scaler."""
    monkeypatch.setattr(scaler_servicer, "LOOK", 0.01)

    def add(server: grpc.aio.Server) -> tuple[str, ...]:
        externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(ScalerServicer(board), server)
        return (SCALER_SERVICE_NAME,)

    server = await serve(add, "127.0.0.1:0", on_drain=[board.close])
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield externalscaler_pb2_grpc.ExternalScalerStub(channel)
    await server.stop(grace=5.0)


def scaled(worker: str, **metadata: str) -> scaler_pb2.ScaledObjectRef:
    return scaler_pb2.ScaledObjectRef(name="x", namespace="lab", scalerMetadata={"worker": worker, **metadata})


async def value_of(keda: Any, worker: str) -> tuple[float, int, bool]:
    request = scaler_pb2.GetMetricsRequest(scaledObjectRef=scaled(worker), metricName="stages")
    (value,) = (await keda.GetMetrics(request)).metricValues
    assert value.metricName == "stages"
    return value.metricValueFloat, value.metricValue, (await keda.IsActive(scaled(worker))).result


def test_the_service_has_the_name_and_the_methods_that_keda_calls() -> None:
    service = scaler_pb2.DESCRIPTOR.services_by_name["ExternalScaler"]
    assert service.full_name == "externalscaler.ExternalScaler"
    assert {method.name for method in service.methods} == {"IsActive", "StreamIsActive", "GetMetricSpec", "GetMetrics"}
    numbers = {
        message.name: {field.name: field.number for field in message.fields}
        for message in scaler_pb2.DESCRIPTOR.message_types_by_name.values()
    }
    # Of KEDA's published interface: old versions read the whole numbers, new ones the others.
    assert numbers == {
        "ScaledObjectRef": {"name": 1, "namespace": 2, "scalerMetadata": 3},
        "IsActiveResponse": {"result": 1},
        "GetMetricSpecResponse": {"metricSpecs": 1},
        "MetricSpec": {"metricName": 1, "targetSize": 2, "targetSizeFloat": 3},
        "GetMetricsRequest": {"scaledObjectRef": 1, "metricName": 2},
        "GetMetricsResponse": {"metricValues": 1},
        "MetricValue": {"metricName": 1, "metricValue": 2, "metricValueFloat": 3},
    }


async def test_work_for_one_worker_wakes_that_worker_alone(keda: Any, board: Board) -> None:
    assert await value_of(keda, "trainer") == (0.0, 0, False)
    board.begin(RUN.name, LANE, 0, "fine_tune")
    assert await value_of(keda, "trainer") == (1.0, 1, True)
    assert await value_of(keda, "generator") == (0.0, 0, False)


@pytest.mark.parametrize(("share", "whole", "exact"), [("", 1, 1.0), ("2.5", 3, 2.5), ("1e300", 2**63 - 1, 1e300)])
async def test_one_replica_is_to_have_what_the_trigger_says(keda: Any, share: str, whole: int, exact: float) -> None:
    given = {"stagesPerReplica": share} if share else {}
    (spec,) = (await keda.GetMetricSpec(scaled("generator", **given))).metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("stages", whole, exact)


async def test_who_listens_hears_of_every_change_and_is_let_go_when_the_coordinator_stops(
    keda: Any, board: Board
) -> None:
    listening = keda.StreamIsActive(scaled("generator"))
    assert not (await listening.read()).result
    board.begin(RUN.name, LANE, 0, "score")
    assert (await listening.read()).result
    board.finish(RUN.name, LANE, 0, StageTime(stage="score", seconds=1.0))
    assert not (await listening.read()).result
    await board.close()
    async with asyncio.timeout(30):
        assert await listening.read() is grpc.aio.EOF


@pytest.mark.parametrize("method", ["IsActive", "GetMetricSpec", "GetMetrics", "StreamIsActive"])
async def test_a_trigger_that_names_no_worker_is_told_which_there_are(keda: Any, method: str) -> None:
    request: Any = scaled("analyser")
    if method == "GetMetrics":
        request = scaler_pb2.GetMetricsRequest(scaledObjectRef=request)
    called = getattr(keda, method)(request)
    with pytest.raises(grpc.aio.AioRpcError, match="generator, trainer, analyzer") as caught:
        await (called.read() if method == "StreamIsActive" else called)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
