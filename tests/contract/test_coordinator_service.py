"""CoordinatorService over a real port, with durable runs and stand-in workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2, operations_pb2_grpc

from ouroscope.canonical import to_plain
from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.client.calls import call
from ouroscope.errors import (
    AlreadyExists,
    Cancelled,
    CapabilityMissing,
    InvalidRequest,
    NotFound,
    OuroscopeError,
    PreconditionFailed,
)
from ouroscope.records.runs import ArmSpec, DatasetSpec, Run, RunEvent, RunSpec, RunState
from ouroscope.rpc.errors import error_from_status
from ouroscope.store import ArtifactStore
from ouroscope.v1 import coordinator_pb2, coordinator_pb2_grpc, operation_pb2, run_pb2
from ouroscope.wire import to_proto
from services.coordinator import plan, service
from services.coordinator.board import Board
from services.coordinator.database import open_history, open_readonly
from services.coordinator.dataset.preparing import prepare
from services.coordinator.loop import run_arm
from services.coordinator.patience import Patiently
from services.coordinator.service import RunningCoordinator
from services.coordinator.stages import LaneStages, Setup
from tests.unit.coordinator.conftest import a_run, not_durable
from tests.unit.coordinator.drive import driven_spec
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Place:
    """A running coordinator and what a test needs of it."""

    home: Path
    coordinator: RunningCoordinator
    channel: grpc.aio.Channel
    client: CoordinatorClient
    team: Team
    human: DatasetSpec
    count: int = 0

    def spec(self, **changes: Any) -> RunSpec:
        """Return a specification whose work nobody has done before."""
        self.count += 1
        return small_spec(**{"generations": 1, "dataset": self.human, "seed": self.count, **changes})

    async def finished(self, name: str) -> tuple[Run, list[RunEvent]]:
        """Follow a run to its end."""
        events = [event async for event in self.client.watch_run(name)]
        return await self.client.get_run(name), events


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    home = tmp_path_factory.mktemp("home")
    team = Team(home / "workers")
    coordinator = await service.start(home, ArtifactStore(str(home / "store")), workers=team.workers)
    async with open_channel(coordinator.address) as channel:
        yield Place(home, coordinator, channel, CoordinatorClient(channel), team, write_dataset(home))
    await coordinator.stop(grace=1.0)


@pytest.fixture(autouse=True)
def swift(place: Place) -> Iterator[None]:
    """No test leaves slow workers, or a full disk, to the next."""
    yield
    place.team.pause = 0.0
    for full in place.team.folder.glob("full-*"):
        full.unlink()


async def wait_until(condition: Callable[[], bool]) -> None:
    """Return once something is true."""
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_run_goes_from_its_specification_to_verdicts(place: Place) -> None:
    spec = place.spec(generations=2)
    accepted = await place.client.create_run(spec, "whole")
    assert (accepted.name, accepted.spec) == ("runs/whole", spec)
    run, events = await place.finished(accepted.name)
    assert run.state is RunState.SUCCEEDED
    assert run.generations_done == run.generations_total == 6
    assert {verdict.arm for verdict in run.verdicts} == {"human", "replace"}
    assert (run.base_perplexity, run.unigram_perplexity, run.uniform_perplexity) == (261.5, 900.0, 4000.0)
    assert events[-1].state is RunState.SUCCEEDED
    told = {event.finished_generation.name for event in events if event.finished_generation}
    generations = [one async for one in place.client.list_generations("runs/whole")]
    assert told == {one.name for one in generations}
    assert len(generations) == 6


async def test_watching_a_run_that_has_ended_tells_its_generations_and_its_end(place: Place) -> None:
    run, _ = await place.finished((await place.client.create_run(place.spec())).name)
    _, again = await place.finished(run.name)
    assert [event.finished_generation is not None for event in again] == [True] * 4 + [False]
    assert (again[-1].state, again[-1].run_done) == (RunState.SUCCEEDED, 1.0)


async def test_how_much_is_done_only_grows_and_the_time_left_is_told(place: Place) -> None:
    place.team.pause = 0.02
    _, events = await place.finished((await place.client.create_run(place.spec())).name)
    fresh = [event.run_done for event in events if not event.finished_generation]
    assert fresh == sorted(fresh)
    assert any(event.seconds_left is not None for event in events)


async def test_arms_and_generations_can_be_asked_for_one_by_one_and_in_pages(place: Place) -> None:
    run, _ = await place.finished((await place.client.create_run(place.spec())).name)
    arms = [arm async for arm in place.client.list_arms(run.name)]
    assert [arm.spec for arm in arms] == list(run.spec.arms)
    assert await place.client.get_arm(arms[1].name) == arms[1]
    one_seed = [g async for g in place.client.list_generations(f"{run.name}/arms/replace/seeds/0")]
    assert [generation.number for generation in one_seed] == [0, 1]
    assert await place.client.get_generation(one_seed[1].name) == one_seed[1]
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(place.channel)
    paged, token = list[str](), ""
    while True:
        request = coordinator_pb2.ListGenerationsRequest(parent=run.name, page_size=3, page_token=token)
        page = await stub.ListGenerations(request)
        paged += [generation.name for generation in page.generations]
        token = page.next_page_token
        if not token:
            break
    assert paged == sorted(paged)
    assert len(paged) == 4


async def test_runs_are_listed_newest_first_and_paged_through(place: Place) -> None:
    made = [(await place.client.create_run(place.spec())).name for _ in range(3)]
    for name in made:
        await place.finished(name)
    stub, listed, token = coordinator_pb2_grpc.CoordinatorServiceStub(place.channel), list[str](), ""
    while len(listed) < 3:
        page = await stub.ListRuns(coordinator_pb2.ListRunsRequest(page_size=1, page_token=token))
        listed += [run.name for run in page.runs]
        token = page.next_page_token
    assert listed == made[::-1]


async def test_a_request_id_makes_one_run_however_often_it_is_sent(place: Place) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(place.channel)
    key, spec = str(uuid.uuid4()), place.spec()
    request = coordinator_pb2.CreateRunRequest(spec=to_proto(spec), request_id=key)
    one, again = await call(stub.CreateRun, request, 10), await call(stub.CreateRun, request, 10)
    assert one.name == again.name
    other = coordinator_pb2.CreateRunRequest(spec=to_proto(place.spec()), request_id=key)
    with pytest.raises(AlreadyExists, match="make a new one"):
        await call(stub.CreateRun, other, 10)
    metadata = operation_pb2.OperationMetadata()
    one.metadata.Unpack(metadata)
    await place.finished(metadata.target)


async def test_what_cannot_be_run_is_refused_with_every_problem_and_leaves_nothing(place: Place) -> None:
    before = [run.name async for run in place.client.list_runs()]
    arms = (ArmSpec(name="a", protocol="replase"), ArmSpec(name="b", protocol="humna"))
    with pytest.raises(InvalidRequest, match="did you mean replace") as caught:
        await place.client.create_run(place.spec(arms=arms))
    assert [problem.field for problem in caught.value.problems] == ["arms[0].protocol", "arms[1].protocol"]
    with pytest.raises(NotFound, match="give a path that exists"):
        await place.client.create_run(place.spec(dataset=DatasetSpec(source="/no/such/file.jsonl")))
    with pytest.raises(InvalidRequest, match="lower-case"):
        await place.client.create_run(place.spec(), "Not A Name")
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(place.channel)
    with pytest.raises(InvalidRequest, match="spec: is required"):
        await call(stub.CreateRun, coordinator_pb2.CreateRunRequest(), 10)
    with pytest.raises(InvalidRequest, match="request_id"):
        await call(stub.CreateRun, coordinator_pb2.CreateRunRequest(spec=to_proto(place.spec()), request_id="x"), 10)
    assert [run.name async for run in place.client.list_runs()] == before


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda client: client.get_run("runs/nothing"), NotFound),
        (lambda client: client.get_run("nothing"), InvalidRequest),
        (lambda client: client.cancel_run("runs/nothing"), NotFound),
        (lambda client: client.resume_run("runs/nothing"), NotFound),
        (lambda client: client.delete_run("runs/nothing"), NotFound),
        (lambda client: client.get_arm("runs/nothing/arms/a"), NotFound),
        (lambda client: client.get_arm("runs/nothing"), InvalidRequest),
        (lambda client: client.get_generation("runs/nothing/arms/a/seeds/0/generations/1"), NotFound),
        (lambda client: client.get_generation("runs/nothing/arms/a/seeds/0"), InvalidRequest),
        (lambda client: client.get_generation("runs/nothing/arms/a/seeds/x/generations/1"), InvalidRequest),
    ],
)
async def test_names_of_nothing_and_names_that_are_none_are_told_apart(
    place: Place, ask: Callable[[CoordinatorClient], Any], kind: type[OuroscopeError]
) -> None:
    with pytest.raises(kind):
        await ask(place.client)


async def test_the_operation_of_a_run_is_the_run(place: Place) -> None:
    operations = operations_pb2_grpc.OperationsStub(place.channel)
    name = (await place.client.create_run(place.spec(), "as-operation")).name
    waited = await operations.WaitOperation(operations_pb2.WaitOperationRequest(name="operations/runs-as-operation"))
    await place.finished(name)
    got = await operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/runs-as-operation"))
    assert waited.done
    assert got.done
    answer = run_pb2.Run()
    assert got.response.Unpack(answer)
    assert (answer.name, answer.generations_done) == ("runs/as-operation", 4)
    listed = await operations.ListOperations(operations_pb2.ListOperationsRequest(page_size=2))
    assert listed.operations[0].name == "operations/runs-as-operation"
    assert listed.next_page_token
    with pytest.raises(CapabilityMissing, match="delete the run"):
        await call(operations.DeleteOperation, operations_pb2.DeleteOperationRequest(name=got.name), 10)
    with pytest.raises(NotFound):
        await call(operations.GetOperation, operations_pb2.GetOperationRequest(name="operations/else"), 10)


async def test_a_cancelled_run_stops_its_workers_and_goes_on_where_it_was_when_it_is_resumed(place: Place) -> None:
    place.team.pause, before = 30.0, len(place.team.journal)
    name = (await place.client.create_run(place.spec(), "stopped")).name
    await wait_until(lambda: any(lock.locked() for lock in place.team.at_work.values()))
    cancelled = await place.client.cancel_run(name)
    assert cancelled.state is RunState.CANCELLED
    await wait_until(lambda: place.team.cancelled != [])
    assert (await place.client.cancel_run(name)).state is RunState.CANCELLED
    operations = operations_pb2_grpc.OperationsStub(place.channel)
    operation = await operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/runs-stopped"))
    assert isinstance(error_from_status(operation.error), Cancelled)
    place.team.pause = 0.0
    assert (await place.client.resume_run(name)).state is RunState.RUNNING
    run, _ = await place.finished(name)
    assert run.state is RunState.SUCCEEDED
    done = place.team.journal[before:]
    assert len(done) == len(set(done))


async def test_a_run_that_failed_says_where_and_what_to_do_and_goes_on_when_it_is_resumed(place: Place) -> None:
    (place.team.folder / "full-fine_tune").touch()
    before = len(place.team.journal)
    name = (await place.client.create_run(place.spec(), "unlucky")).name
    run, events = await place.finished(name)
    assert (run.state, events[-1].state) == (RunState.FAILED, RunState.FAILED)
    assert run.error is not None
    assert "generation 0, fine_tune: the disk is full; make room. To go on: ouroscope runs resume unlucky" in run.error
    assert run.error.startswith("arm ")
    states = {one.state async for one in place.client.list_generations(name)}
    assert states == {RunState.FAILED}
    (place.team.folder / "full-fine_tune").unlink()
    await place.client.resume_run(name)
    run, _ = await place.finished(name)
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    done = place.team.journal[before:]
    assert len(done) == len(set(done))
    with pytest.raises(PreconditionFailed, match="nothing to resume"):
        await place.client.resume_run(name)


async def test_a_run_can_be_deleted_when_it_has_ended_and_its_name_is_free_again(place: Place) -> None:
    place.team.pause = 30.0
    spec = place.spec()
    name = (await place.client.create_run(spec, "short-lived")).name
    with pytest.raises(PreconditionFailed, match="cancel it first"):
        await place.client.delete_run(name)
    with pytest.raises(AlreadyExists):
        await place.client.create_run(spec, "short-lived")
    await place.client.cancel_run(name)
    await place.client.delete_run(name)
    with pytest.raises(NotFound):
        await place.client.get_run(name)
    place.team.pause = 0.0
    run, _ = await place.finished((await place.client.create_run(spec, "short-lived")).name)
    assert run.state is RunState.SUCCEEDED


async def test_a_run_whose_backend_is_not_there_fails_before_anything_is_done(place: Place) -> None:
    before = list(place.team.journal)
    run, _ = await place.finished((await place.client.create_run(place.spec(backend="pol"), "nowhere")).name)
    assert run.state is RunState.FAILED
    assert "the generator has no backend 'pol'; it has transformers" in (run.error or "")
    assert place.team.journal == before


async def test_what_should_not_have_happened_is_told_to_nobody_but_the_log(place: Place) -> None:
    place.team.trouble["fine_tune"] = RuntimeError("text of a document")
    run, _ = await place.finished((await place.client.create_run(place.spec(), "broken")).name)
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert "an internal error; see the log of the coordinator. To go on: ouroscope runs resume broken" in run.error
    assert "document" not in run.error


async def test_metrics_are_shown_while_runs_are_driven_and_others_can_read_the_tables(
    place: Place, program: Callable[[str], str]
) -> None:
    run, _ = await place.finished((await place.client.create_run(place.spec(), "measured")).name)
    with urllib.request.urlopen(place.coordinator.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    assert 'ouroscope_corpus_token_entropy_nats{arm="replace",run="measured"} 5.0' in text
    assert 'ouroscope_run_state{run="measured",state="SUCCEEDED"} 1.0' in text
    assert "grpc_server_handled_total" in text
    checked = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    reader = open_readonly(place.home)
    assert run in await reader.runs(100)
    await reader.close()


async def test_a_process_has_one_coordinator_and_a_home_too(place: Place, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    with pytest.raises(PreconditionFailed, match="this process has a coordinator already"):
        await service.start(tmp_path, store, workers=place.team.workers)
    with pytest.raises(PreconditionFailed, match=f"process {os.getpid()}"):
        await service.start(place.home, store, workers=place.team.workers)
    assert not (tmp_path / "state" / "dbos.sqlite").exists()


async def expected_results(folder: Path, spec: RunSpec) -> dict[str, dict[str, Any]]:
    """Compute what a run gives when nothing disturbs it, without anything durable."""
    team, store = Team(folder / "workers"), ArtifactStore(str(folder / "store"))
    history, board = await open_history(folder), Board()
    await history.create_run("small", a_run(spec, "small"), None)
    model = (await team.import_model(spec.model)).model
    setup = Setup(model=model, dataset=prepare(store, spec, lambda _: None))

    async def lane(one: plan.Lane) -> None:
        tools = (team.workers, history, board, not_durable, Patiently(), history)
        await run_arm(plan.arm_named(spec, one.arm), one.seed, spec, LaneStages(one, spec, setup, *tools))

    await asyncio.gather(*(lane(one) for one in plan.lanes_of("small", spec)))
    kept = await history.generations("small")
    await history.close()
    return {one.generation.name: results(to_plain(one.generation)) for one in kept}


def results(generation: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on when or how often something was done."""
    return {name: value for name, value in generation.items() if name != "stages"}


async def test_a_killed_run_goes_on_by_itself_and_ends_as_if_nothing_had_happened(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.coordinator.drive", str(tmp_path)]
    first = subprocess.Popen([*command, "run", "0.05"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root)
    assert first.stdout is not None
    journal = tmp_path / "workers" / "journal"
    assert first.stdout.readline() == b'"started"\n'
    second = subprocess.run([*command, "run", "0"], capture_output=True, cwd=root, timeout=60)
    assert second.returncode == 1
    refused = json.loads(second.stdout)
    assert refused["reason"] == "PRECONDITION_FAILED"
    assert f"another coordinator (process {first.pid})" in refused["refused"]
    await wait_until(lambda: journal.exists() and len(journal.read_text().split()) >= 12)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = subprocess.run([*command, "recover", "0"], capture_output=True, cwd=root, timeout=60)
    told = json.loads(again.stdout.splitlines()[-1])
    assert told["state"] == "SUCCEEDED"
    assert len(told["journal"]) == len(set(told["journal"])), "something was done twice"
    expected = await expected_results(tmp_path / "undisturbed", driven_spec(tmp_path))
    assert {one["name"]: results(one) for one in told["generations"]} == expected
