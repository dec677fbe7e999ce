"""A real server on a real port: errors, health, reflection, limits, drain, metrics."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from ouroscope import errors
from ouroscope.client.calls import call, stream
from ouroscope.errors import InvalidRequest, LimitExceeded, OuroscopeError, PreconditionFailed
from ouroscope.rpc.errors import HIDDEN, STATUS_BY_ERROR, rpc_errors
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import coordinator_pb2, coordinator_pb2_grpc, run_pb2, trainer_pb2, trainer_pb2_grpc
from ouroscope.wire import to_proto

COORDINATOR = "ouroscope.v1.CoordinatorService"
TRAINER = "ouroscope.v1.TrainerService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Coordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Answers what the test says, or fails with it; a stream fails after its first answer."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GetRun(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            if self.failure is not None:
                raise self.failure
            return run_pb2.Run(name=request.name)

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async with rpc_errors(context):
            yield run_pb2.RunEvent(run=request.name)
            if self.failure is not None:
                raise self.failure
            self.entered.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            yield run_pb2.RunEvent(run="last")


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


def adding(servicer: Coordinator) -> Callable[[grpc.aio.Server], Sequence[str]]:
    def add(server: grpc.aio.Server) -> Sequence[str]:
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(servicer, server)
        return (COORDINATOR,)

    return add


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


@pytest.fixture
async def server(coordinator, metrics) -> AsyncIterator[RunningServer]:
    running = await serve(adding(coordinator), "127.0.0.1:0", metrics=metrics)
    yield running
    await running.stop(grace=0.0)


@pytest.fixture
def channel(server, connect) -> grpc.aio.Channel:
    return connect(server.address)


@pytest.fixture
def stub(channel) -> Any:
    return coordinator_pb2_grpc.CoordinatorServiceStub(channel)


def get(name: str = "runs/a") -> coordinator_pb2.GetRunRequest:
    return coordinator_pb2.GetRunRequest(name=name)


def watch(name: str = "runs/a") -> coordinator_pb2.WatchRunRequest:
    return coordinator_pb2.WatchRunRequest(name=name)


async def events(stub: Any) -> list[str]:
    return [event.run async for event in stream(stub.WatchRun, watch())]


# Errors


@pytest.mark.parametrize("kind", sorted(STATUS_BY_ERROR, key=lambda kind: kind.__name__))
async def test_every_error_arrives_as_itself_from_a_unary_call(stub, coordinator, kind):
    coordinator.failure = kind("what to do: ändern", where="here")
    # Not Unavailable's retries, only its arrival.
    with pytest.raises(kind, match="what to do: ändern") as caught:
        await call(stub.GetRun, get(), 10.0)
    assert type(caught.value) is kind
    assert dict(caught.value.metadata) == {"where": "here"}


@pytest.mark.parametrize("kind", sorted(STATUS_BY_ERROR, key=lambda kind: kind.__name__))
async def test_every_error_arrives_as_itself_in_the_middle_of_a_stream(stub, coordinator, kind):
    coordinator.failure = kind("what to do", where="here")
    arrived = []
    watching = stream(stub.WatchRun, watch())
    arrived.append((await anext(watching)).run)
    with pytest.raises(kind, match="what to do") as caught:
        await anext(watching)
    assert arrived == ["runs/a"]
    assert type(caught.value) is kind


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_text_of_an_unexpected_error_stays_in_the_log(stub, coordinator, streaming):
    coordinator.failure = RuntimeError("secret text")
    with capture_logs() as logs, pytest.raises(errors.Internal) as caught:
        await (events(stub) if streaming else call(stub.GetRun, get(), 10.0))
    assert caught.value.message == HIDDEN
    assert [line["exc_info"] for line in logs if line["event"] == "rpc.unexpected_error"] == [coordinator.failure]


async def test_five_hundred_problems_still_arrive_as_a_bad_request(stub, coordinator):
    problems = [errors.FieldProblem(f"arms[{n}].name", "must be lower case") for n in range(500)]
    coordinator.failure = InvalidRequest("; ".join(p.description for p in problems), problems)
    with pytest.raises(InvalidRequest) as caught:
        await call(stub.GetRun, get(), 10.0)
    assert caught.value.problems[0].field == "arms[0].name"


async def test_a_method_that_the_service_lacks_is_told_in_our_words(channel):
    with pytest.raises(errors.CapabilityMissing, match="another service or another version"):
        await call(trainer_pb2_grpc.TrainerServiceStub(channel).FineTune, trainer_pb2.FineTuneRequest(), 10.0)


async def test_a_service_that_is_not_there_is_told_in_our_words(connect):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(connect(f"127.0.0.1:{port}"))
    with pytest.raises(errors.Unavailable, match=f"is it running.*{port}"):
        await call(stub.GetRun, get(), 10.0)


async def test_a_deadline_that_passes_is_told_and_ends_the_work_of_the_service(stub, coordinator):
    with pytest.raises(errors.DeadlineExceeded):
        [event async for event in stream(stub.WatchRun, watch(), timeout=0.2)]
    await asyncio.wait_for(coordinator.cancelled.wait(), 60.0)


async def test_a_caller_that_leaves_ends_the_work_of_the_service(stub, coordinator):
    watching = stream(stub.WatchRun, watch())
    await anext(watching)
    await coordinator.entered.wait()
    await watching.aclose()
    await asyncio.wait_for(coordinator.cancelled.wait(), 60.0)


async def test_a_message_over_the_limit_is_refused_and_the_service_goes_on(stub):
    with pytest.raises(LimitExceeded, match="send less"):
        await call(stub.GetRun, get("x" * (5 * 1024 * 1024)), 10.0)
    assert (await call(stub.GetRun, get("x" * (4 * 1024 * 1024)), 10.0)).name.startswith("x")


# Health and reflection


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return (await health_pb2_grpc.HealthStub(channel).Check(request)).status


async def test_every_service_and_the_server_as_a_whole_are_healthy(channel):
    assert [await health_of(channel, name) for name in ("", COORDINATOR)] == [SERVING, SERVING]


async def test_the_health_of_an_unknown_service_is_not_found(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_of(channel, "ouroscope.v1.Nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services_and_their_files(channel, version):
    # The messages of both versions are alike on the wire; the package only ships stubs of the older.
    talk = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    async def questions() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=COORDINATOR)

    listed, file = [answer async for answer in talk(questions())]
    names = {service.name for service in listed.list_services_response.service}
    assert {COORDINATOR, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names
    assert file.file_descriptor_response.file_descriptor_proto
    assert reflection_pb2_grpc  # the registration of v1 rests on this package


async def test_health_says_not_serving_before_the_drain_and_calls_at_work_are_finished(
    server, stub, channel, coordinator
):
    working = asyncio.create_task(events(stub))
    await coordinator.entered.wait()
    observed = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=COORDINATOR))
    assert (await observed.read()).status == SERVING
    stopping = asyncio.create_task(server.stop(grace=600.0))
    assert (await observed.read()).status == NOT_SERVING
    assert not working.done()
    observed.cancel()
    coordinator.go.set()
    assert await working == ["runs/a", "last"]
    await asyncio.wait_for(stopping, 60.0)


async def test_during_the_notice_new_calls_are_still_answered(server, stub, channel):
    stopping = asyncio.create_task(server.stop(grace=1.0, notice=0.5))
    while await health_of(channel, "") == SERVING:
        await asyncio.sleep(0)
    assert (await call(stub.GetRun, get(), 5.0)).name == "runs/a"
    await stopping


async def test_a_call_that_does_not_end_is_cut_after_the_grace(server, stub, coordinator):
    working = asyncio.create_task(events(stub))
    await coordinator.entered.wait()
    await asyncio.wait_for(server.stop(grace=0.2), 60.0)
    with pytest.raises(OuroscopeError):
        await working


async def test_stopping_twice_is_harmless(server):
    await asyncio.gather(server.stop(grace=0.0), server.stop(grace=0.0))
    await server.wait_stopped()


async def test_what_is_closed_on_drain_cannot_spoil_it(coordinator):
    closed = []

    async def good() -> None:
        closed.append("good")

    async def bad() -> None:
        raise RuntimeError("cannot close")

    server = await serve(adding(coordinator), "127.0.0.1:0", on_drain=(bad, good))
    with capture_logs() as logs:
        await server.stop(grace=0.0)
    assert closed == ["good"]
    assert "rpc.drain_failed" in [line["event"] for line in logs]


# Addresses


async def test_a_port_in_use_is_told_with_what_to_do(coordinator, server, capfd):
    with pytest.raises(PreconditionFailed, match=f"port {server.port} is in use; choose another with --address"):
        await serve(adding(coordinator), server.address)
    assert capfd.readouterr().err == ""


async def test_the_option_that_sets_the_address_is_named(coordinator, server):
    with pytest.raises(PreconditionFailed, match="with OURO_TOY_ADDRESS"):
        await serve(adding(coordinator), server.address, option="OURO_TOY_ADDRESS")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"])
async def test_a_public_address_is_refused_unless_allowed(coordinator, address):
    with pytest.raises(PreconditionFailed, match="other machines"):
        await serve(adding(coordinator), address)


async def test_a_public_address_can_be_allowed(coordinator):
    server = await serve(adding(coordinator), "0.0.0.0:0", allow_public=True)
    assert server.port > 0
    await server.stop(grace=0.0)


async def test_an_address_of_another_machine_is_told(coordinator):
    with pytest.raises(PreconditionFailed, match="choose an address of this machine"):
        await serve(adding(coordinator), "192.0.2.1:0", allow_public=True)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "127.0.0.1:", ":50051", "127.0.0.1:99999", "127.0.0.1:http", "a:-1"]
)
async def test_what_is_not_an_address_is_refused(coordinator, address):
    with pytest.raises(InvalidRequest, match="must be host:port"):
        await serve(adding(coordinator), address)


# Metrics


def value(metrics: ServiceMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"grpc_service": COORDINATOR, **labels})


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not condition():
            await asyncio.sleep(0.01)


async def test_calls_are_counted_by_their_status(stub, coordinator, metrics):
    await call(stub.GetRun, get(), 10.0)
    coordinator.failure = errors.NotFound("gone")
    with pytest.raises(errors.NotFound):
        await call(stub.GetRun, get(), 10.0)
    with pytest.raises(errors.NotFound):
        await events(stub)
    counted = "grpc_server_handled_total"
    await wait_until(lambda: value(metrics, counted, grpc_method="WatchRun", grpc_code="NOT_FOUND") == 1)
    assert value(metrics, counted, grpc_method="GetRun", grpc_code="OK") == 1
    assert value(metrics, counted, grpc_method="GetRun", grpc_code="NOT_FOUND") == 1
    assert value(metrics, "grpc_server_handling_seconds_count", grpc_method="GetRun") == 2


async def test_calls_at_work_are_counted_and_a_cancelled_one_is_cancelled(stub, coordinator, metrics):
    watching = stream(stub.WatchRun, watch())
    await anext(watching)
    assert value(metrics, "grpc_server_in_flight", grpc_method="WatchRun") == 1
    await watching.aclose()
    await wait_until(lambda: value(metrics, "grpc_server_in_flight", grpc_method="WatchRun") == 0)
    assert value(metrics, "grpc_server_handled_total", grpc_method="WatchRun", grpc_code="CANCELLED") == 1


async def test_names_that_callers_make_up_are_not_counted(channel, metrics):
    nothing = channel.unary_unary("/made.Up/Name", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(errors.CapabilityMissing):
        await call(nothing, b"", 10.0)
    assert not [s for family in metrics.registry.collect() for s in family.samples if "made.Up" in s.labels.values()]


# A whole process

PROCESS = """
import asyncio, sys
from ouroscope.rpc.server import run_until_signalled, serve
from ouroscope.telemetry.logs import configure_logs

async def start():
    if sys.argv[1] == "slow":
        print("starting", flush=True)
        await asyncio.sleep(60)
    server = await serve(lambda server: (), sys.argv[2])
    print(server.address, flush=True)
    return server

configure_logs(json=False)
sys.exit(run_until_signalled(start, grace=1.0))
"""


async def process(root: Path, *arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    environ = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", PROCESS, *arguments]
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environ)


async def first_line(running: asyncio.subprocess.Process) -> str:
    assert running.stdout is not None
    return (await asyncio.wait_for(running.stdout.readline(), 120.0)).decode().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_process(root, connect, number):
    running = await process(root, "quick", "127.0.0.1:0")
    channel = connect(await first_line(running))
    assert await health_of(channel, "") == SERVING
    running.send_signal(number)
    await asyncio.wait_for(running.communicate(), 120.0)
    assert running.returncode == 0


async def test_a_signal_does_not_wait_for_a_slow_start(root):
    running = await process(root, "slow", "127.0.0.1:0")
    assert await first_line(running) == "starting"
    running.send_signal(signal.SIGTERM)
    await asyncio.wait_for(running.communicate(), 120.0)
    assert running.returncode == 0


async def test_a_process_that_cannot_start_says_why_in_one_line(root, server):
    running = await process(root, "quick", server.address)
    out, err = await asyncio.wait_for(running.communicate(), 120.0)
    assert running.returncode == 1
    assert out == b""
    (line,) = err.decode().splitlines()
    assert f"port {server.port} is in use; choose another" in line


# A busy service


async def test_two_hundred_calls_are_answered_while_a_task_computes_in_pure_python(start_toy, connect, training, ask):
    def compute(store: Any, asked: Any, context: Any) -> Any:
        training.entered.set()
        while True:
            sum(range(1000))
            context.check()

    toy = await start_toy(compute)
    channel = connect(toy.address)
    operation = await trainer_pb2_grpc.TrainerServiceStub(channel).FineTune(to_proto(ask()))
    await training.has_begun()
    operations = operations_pb2_grpc.OperationsStub(channel)
    request = operations_pb2.GetOperationRequest(name=operation.name)
    answers = await asyncio.gather(*(call(operations.GetOperation, request, 120.0) for _ in range(200)))
    assert {answer.done for answer in answers} == {False}
    assert await health_of(channel, TRAINER) == SERVING
