"""google.longrunning over a real server: the life of an operation, seen with bare stubs."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from ouroscope import errors
from ouroscope.client.calls import call
from ouroscope.records.training import FineTuned
from ouroscope.rpc.errors import error_from_status
from ouroscope.v1 import operation_pb2, trainer_pb2, trainer_pb2_grpc
from ouroscope.wire import from_proto, to_proto


class Toy:
    """Stubs of one toy service."""

    def __init__(self, service: Any, channel: grpc.aio.Channel, ask: Callable[..., Any]) -> None:
        self.service = service
        self.trainer = trainer_pb2_grpc.TrainerServiceStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)
        self._ask = ask

    async def start(self, seed: int = 0, request_id: str = "") -> Any:
        request = to_proto(self._ask(seed))
        request.request_id = request_id
        return await call(self.trainer.FineTune, request, 10.0)

    async def get(self, name: str) -> Any:
        return await call(self.operations.GetOperation, operations_pb2.GetOperationRequest(name=name), 10.0)

    async def wait(self, name: str, seconds: float = 10.0) -> Any:
        timeout = Duration()
        timeout.FromMilliseconds(round(seconds * 1000))
        request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
        return await call(self.operations.WaitOperation, request, 20.0)

    async def cancel(self, name: str) -> None:
        await call(self.operations.CancelOperation, operations_pb2.CancelOperationRequest(name=name), 10.0)

    async def delete(self, name: str) -> None:
        await call(self.operations.DeleteOperation, operations_pb2.DeleteOperationRequest(name=name), 10.0)

    async def list(self, size: int = 0, token: str = "") -> Any:
        request = operations_pb2.ListOperationsRequest(page_size=size, page_token=token)
        return await call(self.operations.ListOperations, request, 10.0)


def metadata_of(operation: Any) -> operation_pb2.OperationMetadata:
    metadata = operation_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def answer_of(operation: Any) -> FineTuned:
    message = trainer_pb2.FineTuned()
    assert operation.response.Unpack(message)
    return from_proto(FineTuned, message)


@pytest.fixture
async def toy(start_toy, connect, training, ask) -> Toy:
    service = await start_toy(training)
    return Toy(service, connect(service.address), ask)


async def test_an_operation_goes_from_started_to_done(toy, training):
    started = await toy.start()
    await training.has_begun()
    assert not started.done
    going = await toy.get(started.name)
    assert not going.done
    metadata = metadata_of(going)
    assert (metadata.method, metadata.progress.stage, metadata.progress.done) == ("FineTune", "train", 1)
    assert metadata.progress.loss == 2.0
    assert metadata.update_time.ToNanoseconds() >= metadata.create_time.ToNanoseconds()
    assert started.name.endswith(metadata.request_digest)
    training.go.set()
    done = await toy.wait(started.name)
    assert done.done
    assert answer_of(done).steps == 200
    assert metadata_of(done).progress.done == 200


async def test_the_same_request_is_the_same_operation(toy, training):
    training.go.set()
    first = await toy.start(seed=1)
    second = await toy.start(seed=1)
    other = await toy.start(seed=2)
    assert first.name == second.name != other.name
    await toy.wait(first.name)
    await toy.wait(other.name)
    assert training.calls == 2


async def test_a_request_that_was_answered_before_is_answered_at_once_by_a_new_process(
    toy, training, start_toy, connect, ask
):
    training.go.set()
    started = await toy.start()
    done = await toy.wait(started.name)
    await toy.service.server.stop(grace=1.0)
    again = await start_toy(training)
    repeated = await Toy(again, connect(again.address), ask).start()
    assert repeated.done
    assert (repeated.name, answer_of(repeated)) == (done.name, answer_of(done))
    assert training.calls == 1


async def test_a_request_id_makes_a_call_idempotent_and_belongs_to_one_request(toy, training):
    request_id = str(uuid.uuid4())
    first = await toy.start(seed=1, request_id=request_id)
    assert (await toy.start(seed=1, request_id=request_id)).name == first.name
    with pytest.raises(errors.AlreadyExists):
        await toy.start(seed=2, request_id=request_id)
    with pytest.raises(errors.InvalidRequest) as caught:
        await toy.start(seed=2, request_id="mine")
    assert [problem.field for problem in caught.value.problems] == ["request_id"]
    training.go.set()


async def test_a_wait_answers_at_its_timeout_with_what_is_known(toy, training):
    started = await toy.start()
    began = time.monotonic()
    operation = await toy.wait(started.name, seconds=0.2)
    assert time.monotonic() - began > 0.15
    assert not operation.done
    training.go.set()


async def test_a_wait_answers_before_the_deadline_of_the_call(toy, training):
    started = await toy.start()
    request = operations_pb2.WaitOperationRequest(name=started.name)
    assert not (await call(toy.operations.WaitOperation, request, 1.0)).done
    training.go.set()


async def test_a_cancelled_operation_ends_with_the_status(toy, training):
    started = await toy.start()
    await training.has_begun()
    await toy.cancel(started.name)
    operation = await toy.wait(started.name)
    assert operation.error.code == grpc.StatusCode.CANCELLED.value[0]
    assert isinstance(error_from_status(operation.error), errors.Cancelled)


async def test_a_failed_operation_carries_the_error_with_its_data(start_toy, connect, ask):
    def diverge(store: Any, asked: Any, context: Any) -> Any:
        raise errors.TrainingDiverged("the loss is NaN at step 3; lower learning_rate", step="3")

    service = await start_toy(diverge)
    toy = Toy(service, connect(service.address), ask)
    operation = await toy.wait((await toy.start()).name)
    assert operation.done
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in operation.error.details)
    assert (info.reason, info.domain, dict(info.metadata)) == ("TRAINING_DIVERGED", "ouroscope.dev", {"step": "3"})
    assert "lower learning_rate" in operation.error.message


async def test_an_invalid_request_starts_nothing(toy, training):
    with pytest.raises(errors.InvalidRequest) as caught:
        await call(toy.trainer.FineTune, trainer_pb2.FineTuneRequest(), 10.0)
    assert {problem.field for problem in caught.value.problems} == {"model", "recipe"}
    assert not (await toy.list()).operations


async def test_an_unknown_operation_is_not_found(toy):
    for asked in (toy.get, toy.wait, toy.cancel, toy.delete):
        with pytest.raises(errors.NotFound):
            await asked("operations/nothing")


async def test_a_list_is_read_page_by_page_the_newest_first(toy, training):
    training.go.set()
    names = [(await toy.start(seed)).name for seed in range(5)]
    first = await toy.list(size=2)
    # What starts between two pages moves nothing.
    await toy.start(seed=9)
    second = await toy.list(size=2, token=first.next_page_token)
    third = await toy.list(size=2, token=second.next_page_token)
    seen = [operation.name for page in (first, second, third) for operation in page.operations]
    assert seen == names[::-1]
    assert third.next_page_token == ""


@pytest.mark.parametrize("token", ["nonsense", "MTpydW5z", "MjozNA==", "ü"])
async def test_a_made_up_page_token_is_refused(toy, token):
    with pytest.raises(errors.InvalidRequest):
        await toy.list(token=token)


async def test_a_negative_page_size_is_refused(toy):
    with pytest.raises(errors.InvalidRequest, match="page_size"):
        await toy.list(size=-1)


async def test_a_finished_operation_can_be_deleted_and_its_answer_stays(toy, training):
    started = await toy.start()
    with pytest.raises(errors.PreconditionFailed):
        await toy.delete(started.name)
    training.go.set()
    await toy.wait(started.name)
    await toy.delete(started.name)
    with pytest.raises(errors.NotFound):
        await toy.get(started.name)
    assert (await toy.start()).done


async def test_stopping_the_service_lets_waiting_callers_go_with_a_reason_to_ask_again(toy, training):
    started = await toy.start()
    await training.has_begun()
    waiting = asyncio.create_task(toy.wait(started.name))
    while not (await toy.get(started.name)).metadata.ByteSize():
        await asyncio.sleep(0)
    await toy.service.server.stop(grace=2.0)
    outcome = await asyncio.gather(waiting, return_exceptions=True)
    error = outcome[0] if isinstance(outcome[0], Exception) else error_from_status(outcome[0].error)
    assert isinstance(error, errors.Unavailable)
