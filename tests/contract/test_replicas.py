"""Long work at a service with several replicas: one of them does it, whoever asks, and another when it is gone."""

from __future__ import annotations

import asyncio

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

from ouroscope import errors
from ouroscope.client import Patience, TrainerClient


@pytest.fixture
async def replicas(start_toy, training):
    return [await start_toy(training) for _ in range(2)]


@pytest.fixture
def address(replicas) -> str:
    """What a headless Service resolves to: the addresses of all."""
    return "ipv4:" + ",".join(one.address for one in replicas)


def at_work(replicas):
    """Return those that know an operation."""
    return [one for one in replicas if one.table.list()]


async def test_everything_about_one_piece_of_work_reaches_the_replica_that_does_it(
    replicas, address, connect, training, ask
):
    client, told = TrainerClient(connect(address)), asyncio.Queue()
    working = [asyncio.create_task(client.fine_tune(ask(seed), told.put)) for seed in range(6)]
    # The first two at work have told how far they are; others wait for a thread of their replica.
    await asyncio.wait_for(told.get(), 60.0)
    for _ in range(3):
        for one in working:
            assert not one.done(), "it was looked at again and again, and never given up"
        await asyncio.sleep(0.6)  # longer than between two looks
    training.go.set()
    assert [(await one).model.digest for one in working] == [f"{seed:064x}" for seed in range(6)]
    assert training.calls == 6, "nothing was done twice"
    assert sum(len(one.table.list()) for one in replicas) == 6, "nothing was asked of two"


async def test_callers_that_ask_the_same_share_one_piece_of_work(replicas, address, connect, training, ask):
    callers = [TrainerClient(connect(address)) for _ in range(4)]
    working = [asyncio.create_task(one.fine_tune(ask())) for one in callers]
    await training.has_begun()
    training.go.set()
    assert len({(await one).model for one in working}) == 1
    assert training.calls == 1
    assert len(at_work(replicas)) == 1


async def test_work_of_a_replica_that_is_gone_is_done_by_another(replicas, address, connect, training, ask):
    working = asyncio.create_task(TrainerClient(connect(address)).fine_tune(ask()))
    await training.has_begun()
    [first] = at_work(replicas)
    training.go.set()
    await first.server.stop(grace=0.0)
    assert (await asyncio.wait_for(working, 60.0)).steps == 200
    [second] = [one for one in replicas if one is not first]
    assert len(second.table.list()) <= 1, "the answer of the first, or the work anew"


async def test_who_gives_up_cancels_the_work_where_it_is_done(replicas, address, connect, training, ask):
    with pytest.raises(errors.DeadlineExceeded):
        await TrainerClient(connect(address), Patience(work=1.0)).fine_tune(ask())
    [one] = at_work(replicas)
    [task] = one.table.list()
    assert isinstance((await one.table.wait(task.name, 60.0)).error, errors.Cancelled)


async def test_calls_about_nothing_in_particular_go_to_all_replicas(replicas, address, connect):
    operations = operations_pb2_grpc.OperationsStub(connect(address))
    channels = [operations_pb2_grpc.OperationsStub(connect(one.address)) for one in replicas]
    for stub in (operations, *channels):
        assert not (await stub.ListOperations(operations_pb2.ListOperationsRequest())).operations
