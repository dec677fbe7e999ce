"""The clients against real servers: long work to its end, through restarts, cancellation and failures."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

from ouroscope import errors
from ouroscope.client import AnalyzerClient, CoordinatorClient, GeneratorClient, Patience, TrainerClient
from ouroscope.client.sync import SyncAnalyzer
from ouroscope.operations.servicer import operation_to_proto
from ouroscope.operations.tasks import TaskState
from ouroscope.records.analysis import Compare, Comparison, Report, Verdict, VerdictReason
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.progress import Progress
from ouroscope.records.runs import ArmSpec, Run, RunEvent, RunSpec, RunState
from ouroscope.rpc.errors import rpc_errors
from ouroscope.rpc.server import MAX_RECEIVED_BYTES, RunningServer, serve
from ouroscope.v1 import analyzer_pb2, analyzer_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc
from ouroscope.wire import from_proto, to_proto

EMPTY_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
"""The first frame of a server of HTTP/2."""
REPORT = ArtifactRef(ArtifactKind.REPORT, "2" * 64)


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(60.0):
        while not condition():
            await asyncio.sleep(0.01)


# Long work


async def test_long_work_returns_its_answer(start_toy, connect, training, ask):
    toy = await start_toy(training)
    training.go.set()
    tuned = await TrainerClient(connect(toy.address)).fine_tune(ask(seed=5))
    assert (tuned.model.digest, tuned.steps) == (f"{5:064x}", 200)


async def test_progress_is_told_whenever_it_moves_and_at_the_end(start_toy, connect, training, ask):
    toy = await start_toy(training)
    told: list[Progress] = []

    def note(progress: Progress) -> None:
        told.append(progress)
        if progress.stage == "train":
            training.go.set()

    await TrainerClient(connect(toy.address)).fine_tune(ask(), note)
    assert [progress.done for progress in told if progress.stage] == [1, 200]
    assert len(told) == len(set(told))


async def test_progress_may_be_awaited(start_toy, connect, training, ask):
    toy = await start_toy(training)
    training.go.set()
    told: list[Progress] = []

    async def note(progress: Progress) -> None:
        await asyncio.sleep(0)
        told.append(progress)

    await TrainerClient(connect(toy.address)).fine_tune(ask(), note)
    assert told[-1].done == 200


async def test_a_callback_that_fails_ends_the_work_and_is_heard(start_toy, connect, training, ask):
    toy = await start_toy(training)

    def note(progress: Progress) -> None:
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        await TrainerClient(connect(toy.address)).fine_tune(ask(), note)
    await wait_until(lambda: toy.table.list()[0].done)
    assert isinstance(toy.table.list()[0].error, errors.Cancelled)


async def test_a_failure_of_the_work_arrives_as_itself(start_toy, connect, ask):
    def diverge(store: Any, asked: Any, context: Any) -> Any:
        raise errors.TrainingDiverged("lower learning_rate", step="3")

    toy = await start_toy(diverge)
    with pytest.raises(errors.TrainingDiverged, match="lower learning_rate") as caught:
        await TrainerClient(connect(toy.address)).fine_tune(ask())
    assert dict(caught.value.metadata) == {"step": "3"}


async def test_a_caller_that_is_cancelled_cancels_the_work(start_toy, connect, training, ask):
    toy = await start_toy(training)
    asking = asyncio.create_task(TrainerClient(connect(toy.address)).fine_tune(ask()))
    await training.has_begun()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await wait_until(lambda: toy.table.list()[0].done)
    assert isinstance(toy.table.list()[0].error, errors.Cancelled)


async def test_a_caller_that_is_cancelled_before_the_first_answer_leaves_no_work_behind(
    start_toy, connect, training, ask
):
    toy = await start_toy(training)
    asking = asyncio.create_task(TrainerClient(connect(toy.address)).fine_tune(ask()))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await wait_until(lambda: all(state.done for state in toy.table.list()))


async def test_work_that_takes_longer_than_the_caller_has_is_cancelled(start_toy, connect, training, ask):
    toy = await start_toy(training)
    client = TrainerClient(connect(toy.address), Patience(work=0.3))
    with pytest.raises(errors.DeadlineExceeded, match=r"longer than 0\.3 seconds"):
        await client.fine_tune(ask())
    await wait_until(lambda: toy.table.list()[0].done)


async def test_the_service_is_restarted_in_the_middle_and_the_client_goes_on(start_toy, connect, training, ask):
    first = await start_toy(training)
    asking = asyncio.create_task(TrainerClient(connect(first.address)).fine_tune(ask(), lambda progress: None))
    await training.has_begun()
    await first.server.stop(grace=0.5)
    training.entered.clear()
    training.go.set()
    await start_toy(training, address=first.address)
    tuned = await asyncio.wait_for(asking, 120.0)
    assert tuned.steps == 200
    assert training.calls == 2


async def test_a_caller_that_is_cancelled_after_a_restart_cancels_the_new_work(start_toy, connect, training, ask):
    first = await start_toy(training)
    asking = asyncio.create_task(TrainerClient(connect(first.address)).fine_tune(ask()))
    await training.has_begun()
    training.entered.clear()
    await first.server.stop(grace=0.5)
    second = await start_toy(training, address=first.address)
    await training.has_begun()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await wait_until(lambda: second.table.list()[0].done)
    assert isinstance(second.table.list()[0].error, errors.Cancelled)


async def test_a_service_that_dies_without_a_word_is_asked_again(start_toy, connect, training, ask):
    first = await start_toy(training)
    asking = asyncio.create_task(TrainerClient(connect(first.address)).fine_tune(ask()))
    await training.has_begun()
    await first.server._server.stop(0)  # no drain: connections are cut, the task is unknown to the next process
    training.go.set()
    await start_toy(training, address=first.address)
    assert (await asyncio.wait_for(asking, 120.0)).steps == 200


async def test_an_operation_that_the_service_has_forgotten_is_asked_for_again(start_toy, connect, training, ask):
    toy = await start_toy(training)
    asking = asyncio.create_task(TrainerClient(connect(toy.address)).fine_tune(ask(), lambda progress: None))
    await training.has_begun()
    training.go.set()
    name = toy.table.list()[0].name
    await toy.table.wait(name, 10.0)
    toy.table.forget(name)
    assert (await asyncio.wait_for(asking, 120.0)).steps == 200
    assert training.calls == 1


async def test_work_that_somebody_else_cancelled_is_asked_for_once_more_and_not_for_ever(
    start_toy, connect, training, ask
):
    toy = await start_toy(training)
    channel = connect(toy.address)
    asking = asyncio.create_task(TrainerClient(channel).fine_tune(ask()))
    operations = operations_pb2_grpc.OperationsStub(channel)
    for _ in range(2):
        await training.has_begun()
        training.entered.clear()
        name = toy.table.list()[0].name
        await operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))
    with pytest.raises(errors.Cancelled):
        await asyncio.wait_for(asking, 120.0)
    assert training.calls == 2


async def test_a_service_that_is_never_there_is_given_up_soon(connect):
    client = GeneratorClient(connect("127.0.0.1:1"), Patience(reach=0.5))
    with pytest.raises(errors.Unavailable, match="is it running"):
        await asyncio.wait_for(client.import_model("ouro-tiny"), 15.0)


async def test_a_service_that_starts_a_little_later_is_found(start_toy, connect, training, ask):
    training.go.set()
    early = await start_toy(training)
    address = early.address
    await early.server.stop(grace=0.0)
    asking = asyncio.create_task(TrainerClient(connect(address)).fine_tune(ask()))
    await asyncio.sleep(0.3)  # the client has been refused meanwhile; nothing shows when
    await start_toy(training, address=address)
    assert (await asyncio.wait_for(asking, 120.0)).steps == 200


# Streams of documents


class Analyzer(analyzer_pb2_grpc.AnalyzerServiceServicer):
    """Counts what it is sent; refuses a document that is called `bad`."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.options: analyzer_pb2.AnalysisOptions | None = None
        self.ended = asyncio.Event()

    async def Analyze(self, requests: Any, context: Any) -> Any:
        async with rpc_errors(context):
            documents: list[Document] = []
            try:
                async for request in requests:
                    self.options = request.options if request.HasField("options") else self.options
                    self.sizes.append(request.ByteSize())
                    documents += [from_proto(Document, message) for message in request.documents]
                    if any(document.id == "bad" for document in documents):
                        raise errors.InvalidRequest("document bad is empty")
            finally:
                self.ended.set()
            return to_proto(Report(analyzer_version="1", documents=len(documents), view=View.CONTINUATION))

    async def AnalyzePredictions(self, requests: Any, context: Any) -> Any:
        async with rpc_errors(context):
            async for _ in requests:
                pass
            return to_proto(Report(analyzer_version="1"))

    async def Compare(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            from_proto(Compare, request)
            verdict = Comparison(verdict=Verdict.STABLE, reason=VerdictReason.WITHIN_MARGIN, sentence="nothing moved")
            return to_proto(verdict)

    async def ExportNetwork(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async with rpc_errors(context):
            for piece in (b"{", request.construction.encode(), b"}"):
                yield analyzer_pb2.ExportNetworkResponse(content=piece)

    async def ListBaselines(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            start = int(request.page_token or 0)
            names = [f"baselines/b{n}" for n in range(start, min(start + 2, 5))]
            baselines = [{"name": n, "baseline": to_proto(REPORT), "analyzer_version": "1"} for n in names]
            token = str(start + 2) if start + 2 < 5 else ""
            return analyzer_pb2.ListBaselinesResponse(baselines=baselines, next_page_token=token)


@pytest.fixture
def analyzer() -> Analyzer:
    return Analyzer()


@pytest.fixture
async def analyzer_server(analyzer) -> AsyncIterator[RunningServer]:
    def add(server: grpc.aio.Server) -> Sequence[str]:
        analyzer_pb2_grpc.add_AnalyzerServiceServicer_to_server(analyzer, server)
        return ("ouroscope.v1.AnalyzerService",)

    running = await serve(add, "127.0.0.1:0")
    yield running
    await running.stop(grace=0.0)


@pytest.fixture
def client(analyzer_server, connect) -> AnalyzerClient:
    return AnalyzerClient(connect(analyzer_server.address))


def documents(count: int, size: int = 10) -> list[Document]:
    return [Document(id=f"d{n}", text="x" * size) for n in range(count)]


async def test_documents_travel_in_messages_under_one_mebibyte(client, analyzer):
    report = await client.analyze(
        documents(40, size=100_000), view=View.CONTINUATION, metrics=["mattr"], drawn_concepts=3
    )
    assert report.documents == 40
    assert max(analyzer.sizes) < 1024 * 1024
    # The options, then four messages of ten documents each at most.
    assert 5 <= len(analyzer.sizes) <= 6
    assert analyzer.options is not None
    assert (list(analyzer.options.metrics), analyzer.options.drawn_concepts) == (["mattr"], 3)


async def test_small_documents_share_a_message(client, analyzer):
    await client.analyze(documents(1000))
    assert len(analyzer.sizes) == 2


async def test_documents_may_come_from_an_asynchronous_source(client):
    async def source() -> AsyncIterator[Document]:
        for document in documents(25, size=100_000):
            yield document

    assert (await client.analyze(source())).documents == 25


async def test_no_document_at_all_is_for_the_service_to_judge(client):
    assert (await client.analyze([])).documents == 0


async def test_a_large_document_travels_alone_and_a_larger_one_is_refused_before_it_is_sent(client, analyzer):
    assert (
        await client.analyze([*documents(1), Document(id="big", text="x" * 4_000_000), *documents(1)])
    ).documents == 3
    assert max(analyzer.sizes) <= MAX_RECEIVED_BYTES
    with pytest.raises(errors.LimitExceeded, match=r"'huge' has \d+ bytes .* cut it into parts"):
        await client.analyze([Document(id="huge", text="x" * 5_000_000)])


async def test_a_refusal_in_the_middle_of_the_stream_arrives_as_itself(client):
    many = [*documents(20, size=100_000), Document(id="bad", text=""), *documents(200, size=100_000)]
    for _ in range(20):  # whether a message is being written at that moment is chance
        with pytest.raises(errors.InvalidRequest, match="document bad is empty"):
            await client.analyze(many)


async def test_a_source_that_fails_is_heard_and_ends_the_call(client, analyzer):
    def source() -> Any:
        yield from documents(20, size=100_000)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await client.analyze(source())
    await asyncio.wait_for(analyzer.ended.wait(), 60.0)


async def test_a_streamed_file_is_put_together(client):
    assert await client.export_network(REPORT, construction="syntactic") == b"{syntactic}"
    with pytest.raises(errors.InvalidRequest, match="graphml"):
        await client.export_network(REPORT, network_format="dot")


async def test_a_list_is_read_over_all_its_pages(client):
    assert [baseline.name async for baseline in client.list_baselines()] == [f"baselines/b{n}" for n in range(5)]


async def test_the_analyzer_can_be_asked_without_a_loop(analyzer_server):
    def ask() -> tuple[int, str]:
        with SyncAnalyzer(analyzer_server.address) as analyzer:
            verdict = analyzer.compare(Compare(baseline=REPORT, candidate=REPORT)).sentence
            return analyzer.analyze(documents(3)).documents, verdict

    assert await asyncio.to_thread(ask) == (3, "nothing moved")


async def test_errors_arrive_as_themselves_without_a_loop_too(analyzer_server):
    def ask() -> None:
        with SyncAnalyzer(analyzer_server.address) as analyzer:
            analyzer.list_metrics()

    with pytest.raises(errors.CapabilityMissing):
        await asyncio.to_thread(ask)


# What callers get wrong


SOME = str(REPORT)
NO_REFERENCE = r"expected ArtifactRef or 'kind/digest', got int"
WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a reference that is none": (lambda a: a.create_baseline("ok", "report/000"), r"report: a digest is 64"),
    "a number as a reference": (lambda a: a.create_baseline("ok", 5), f"report: {NO_REFERENCE}"),
    "a number as a name": (lambda a: a.create_baseline(7, SOME), r"baseline_id: expected str, got int"),
    "half a character in a name": (lambda a: a.get_baseline("\ud800"), r"name: half of a surrogate pair"),
    "a corpus that is none": (lambda a: a.export_network("corpus/..."), r"corpus: a digest is 64"),
    "a corpus by its name": (lambda a: a.network("news"), r"corpus: 'news' is not a reference; write it as"),
    "a word as a view": (lambda a: a.export_network(SOME, view="whole"), r"view: expected View, got str"),
    "a word as a number": (lambda a: a.export_network(SOME, concepts="9"), r"concepts: expected int, got str"),
    "a number as a format": (lambda a: a.export_network(SOME, network_format=3), r"network_format: use .* got '3'"),
    "a text": (lambda a: a.analyze("hello"), r"documents: expected an iterable of Document, got str"),
    "one document": (lambda a: a.analyze(documents(1)[0]), r"documents: expected an iterable of .* got Document"),
    "nothing": (lambda a: a.analyze(None), r"documents: expected an iterable of Document, got NoneType"),
    "texts": (lambda a: a.analyze([*documents(1), "hello"]), r"documents\[1\]: expected Document, got str"),
    "half a character": (
        lambda a: a.analyze([Document(id="a", text="ab\ud800")]),
        r"documents\[0\].text: half of a surrogate pair at character 2",
    ),
    "one metric": (lambda a: a.analyze([], metrics="types"), r"metrics: expected a list of str, got str"),
    "a number as a metric": (lambda a: a.analyze([], metrics=[5]), r"metrics: expected a list of str, got one with"),
    "one field": (lambda a: a.analyze([], fields="rungs"), r"fields: expected a list of str, got str"),
    "documents as predictions": (
        lambda a: a.analyze_predictions(documents(1)),
        r"next_tokens\[0\]: expected NextToken, got Document",
    ),
    "documents as inputs": (
        lambda a: a.analyze_inputs(documents(1)),
        r"inputs\[0\]: expected Inputs, got Document",
    ),
    "a text as predictions": (lambda a: a.analyze([], "hello"), r"next_tokens: expected an iterable of NextToken"),
    "no comparison": (lambda a: a.compare(SOME), r"request: expected Compare, got str"),
    "words in a comparison": (lambda a: a.compare(Compare(baseline=SOME, candidate=REPORT)), r"baseline: expected"),
    "no request": (lambda a: a.analyze_corpus(SOME), r"request: expected AnalyzeCorpus, got str"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_value_of_the_wrong_type_is_an_invalid_request_that_says_what_was_expected(
    client, analyzer_server, wrong
):
    ask, told = WRONG[wrong]

    def ask_without_a_loop() -> None:
        with SyncAnalyzer(analyzer_server.address) as analyzer:
            ask(analyzer)

    with pytest.raises(errors.InvalidRequest, match=f"^{told}") as caught:
        await ask(client)
    assert caught.value.problems
    with pytest.raises(errors.InvalidRequest, match=f"^{told}"):
        await asyncio.to_thread(ask_without_a_loop)


async def test_a_class_that_the_wire_does_not_know_is_refused_even_if_it_is_a_document(client):
    class Mine(Document):
        pass

    with pytest.raises(errors.InvalidRequest, match=r"documents\[0\]: expected Document, got Mine"):
        await client.analyze([Mine(id="a", text="b")])


async def test_a_wrong_document_late_in_the_stream_is_told_too(client):
    many = [*documents(40, size=100_000), Document(id="late", text="\ud800")]
    with pytest.raises(errors.InvalidRequest, match=r"^documents\[40\].text: half of a surrogate pair"):
        await client.analyze(many)


async def test_a_reference_may_be_written_out(client):
    assert await client.export_network(SOME, construction="cooccurrence") == b"{cooccurrence}"


@pytest.mark.parametrize(("id", "text"), [("a", None), (5, "text"), ("a", b"text")])
def test_a_document_without_a_text_is_an_invalid_request(id, text):
    with pytest.raises(errors.InvalidRequest, match="expected to be str, got"):
        Document(id=id, text=text)


async def test_requests_of_the_other_clients_are_looked_at_too(connect):
    channel = connect("127.0.0.1:1")
    with pytest.raises(errors.InvalidRequest, match=r"^request: expected FineTune, got str"):
        await TrainerClient(channel).fine_tune("model/1")
    with pytest.raises(errors.InvalidRequest, match=r"^request: expected Generate, got NoneType"):
        await GeneratorClient(channel).generate(None)
    with pytest.raises(errors.InvalidRequest, match=r"^model: "):
        await GeneratorClient(channel).get_model("ouro-tiny")
    with pytest.raises(errors.InvalidRequest, match=r"^spec: expected RunSpec, got dict"):
        await CoordinatorClient(channel).create_run({})


def break_in_every_call(listener: socket.socket) -> None:
    """Be a server that greets, waits for the call and leaves, until nobody listens any more."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(1)
                connection.sendall(EMPTY_SETTINGS)
                heard = b""
                while b"GetBaseline" not in heard and (more := connection.recv(65_536)):
                    heard += more


async def test_a_connection_that_breaks_in_a_call_is_told_as_that(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(asyncio.to_thread(break_in_every_call, listener))
        client = AnalyzerClient(connect(f"127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(errors.Unavailable, match="the connection to the service broke; ask again"):
            await client.get_baseline("baselines/a")
        # Wakes who waits for the next caller.
        listener.shutdown(socket.SHUT_RDWR)
        await serving


# Runs


class Coordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Watches break once before the run ends; runs that are created are only named."""

    def __init__(self) -> None:
        self.watched = 0

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async with rpc_errors(context):
            self.watched += 1
            yield self._event(0.25 * self.watched)
            if self.watched == 1:
                raise errors.Unavailable("restarting")
            yield self._event(1.0)

    def _event(self, done: float) -> Any:
        return to_proto(RunEvent(run="runs/a", time=datetime.now(UTC), state=RunState.RUNNING, run_done=done))

    async def CreateRun(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            now, name = datetime.now(UTC), request.run_id or f"{request.spec.name}-1"
            return operation_to_proto(
                TaskState(
                    name=f"operations/{name}",
                    number=1,
                    method="CreateRun",
                    digest="",
                    target=f"runs/{name}",
                    create_time=now,
                    update_time=now,
                )
            )

    async def GetRun(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            spec = RunSpec(name="toy", arms=(ArmSpec(name="a", protocol="replace"),))
            now = datetime.now(UTC)
            return to_proto(Run(name=request.name, spec=spec, state=RunState.PENDING, create_time=now, update_time=now))

    async def ListArms(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            arm = {"name": f"{request.parent}/arms/a", "spec": {"name": "a", "protocol": "replace"}}
            return coordinator_pb2.ListArmsResponse(arms=[arm])


@pytest.fixture
async def runs(connect) -> AsyncIterator[CoordinatorClient]:
    def add(server: grpc.aio.Server) -> Sequence[str]:
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(Coordinator(), server)
        return ("ouroscope.v1.CoordinatorService",)

    running = await serve(add, "127.0.0.1:0")
    yield CoordinatorClient(connect(running.address), Patience(reach=0.0, back=60.0))
    await running.stop(grace=0.0)


async def test_watching_a_run_survives_a_restart_of_the_coordinator(runs):
    assert [event.run_done async for event in runs.watch_run("runs/a")] == [0.25, 0.5, 1.0]


async def test_a_coordinator_that_does_not_come_back_is_told_after_a_while(runs):
    runs._patience = Patience(reach=60.0, back=0.0)
    events = runs.watch_run("runs/a")
    assert (await anext(events)).run_done == 0.25
    with pytest.raises(errors.Unavailable):
        await anext(events)


async def test_arms_are_records(runs):
    assert [(arm.name, arm.verdict) async for arm in runs.list_arms("runs/a")] == [("runs/a/arms/a", None)]


async def test_a_run_is_returned_as_soon_as_it_is_accepted_whoever_names_it(runs):
    spec = RunSpec(name="toy", arms=(ArmSpec(name="a", protocol="replace"),))
    assert (await runs.create_run(spec)).name == "runs/toy-1"
    assert (await runs.create_run(spec, "mine")).name == "runs/mine"
