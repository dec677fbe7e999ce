"""What other services rely on: masks, limits, cancelling, callers that die, many callers at once, hostile text."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc.aio
import networkx as nx
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouroscope.client import AnalyzerClient, SyncAnalyzer
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import CapabilityMissing, InvalidRequest, LimitExceeded
from ouroscope.records.analysis import AnalyzeCorpus, Compare, Report
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.monitors import Inputs
from ouroscope.records.predictions import NextToken
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import analyzer_pb2, analyzer_pb2_grpc
from services.analyzer.export import NetworkFormat
from services.analyzer.service import SERVICE_NAME, start
from services.analyzer.session import Limits, Session
from services.analyzer.side import Side
from services.analyzer.watch import Watch
from tests.unit.analyzer.corpora import prose

FEW = ("types", "mattr", "cooccurrence_nodes")
WORK_SECONDS = 2.0
"""Processor time in which work has ended after its caller has gone: twice what is promised, for all else that runs."""


def documents(count: int = 300, *, words: int = 50, vocabulary: int = 2_000) -> list[Document]:
    return [Document(id=str(n), text=text) for n, text in enumerate(prose(count, words, 0, vocabulary))]


def of(report: Report) -> ArtifactRef:
    assert report.report is not None
    return report.report


async def endless() -> AsyncIterator[Document]:
    """Yield documents for as long as somebody takes them."""
    several = documents()
    while True:
        for document in several:
            yield document


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def at_work() -> set[str]:
    """The modules of the analyzer in which threads of streaming calls are now; none where they have nothing to do."""
    frames, found = sys._current_frames(), set()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0) if thread.name.startswith("analyze-") else None
        while frame is not None:
            code = Path(frame.f_code.co_filename)
            found |= {code.stem} if "analyzer" in code.parts else set()
            frame = frame.f_back
    return found


def measuring() -> bool:
    return "analysis" in at_work()


async def work_stops() -> None:
    """Wait until nobody works for a caller. Counts processor time: on a busy machine all is late, but not more."""
    before = time.process_time()
    await until(lambda: not at_work())
    assert time.process_time() - before < WORK_SECONDS


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


@pytest.fixture
async def address(store, metrics) -> AsyncIterator[str]:
    server = await start(store, metrics=metrics)
    yield server.address
    await server.stop(grace=0.0)


@pytest.fixture
def analyzer(address, connect) -> AnalyzerClient:
    return AnalyzerClient(connect(address))


@pytest.fixture
def stub(address, connect) -> Any:
    return analyzer_pb2_grpc.AnalyzerServiceStub(connect(address))


# Masks


async def test_a_mask_changes_what_is_sent_and_not_what_is_published(analyzer):
    whole = await analyzer.analyze(documents(), metrics=FEW, drawn_concepts=5)
    part = await analyzer.analyze(documents(), metrics=FEW, drawn_concepts=5, fields=["report", "rungs.metrics.value"])
    assert of(part) == of(whole)
    assert [(m.id, m.value) for m in part.metrics] == [(m.id, m.value) for m in whole.metrics]
    assert (part.drawing, part.documents, part.left_out) == (None, 0, ())
    assert {metric.replicates for metric in part.metrics} == {()}


async def test_undefined_values_keep_their_reason_behind_a_mask(analyzer):
    part = await analyzer.analyze([Document(id="1", text="one")], metrics=FEW, fields=["rungs.metrics.value"])
    assert [metric for metric in part.metrics if metric.value is None and metric.undefined_because]


async def test_masks_of_predictions_and_of_comparisons(analyzer):
    tokens = [NextToken(prompt_id=str(n), cluster=str(n), top_probabilities=(0.3,), entropy=2.0) for n in range(40)]
    known = await analyzer.analyze_predictions(tokens, fields=["prompts"])
    assert (known.prompts, known.model_metrics) == (40, ())
    report = of(await analyzer.analyze(documents(), metrics=FEW))
    told = await analyzer.compare(Compare(baseline=report, candidate=report), fields=["sentence"])
    assert told.sentence
    assert (told.families, told.metrics) == ((), ())


@pytest.mark.parametrize("path", ["tokenz", "rungs.metrics.valu", "documents.count", ""])
async def test_a_path_that_leads_nowhere_is_refused_before_anything_is_measured(analyzer, store, path):
    with pytest.raises(InvalidRequest, match="has no field") as refused:
        await analyzer.analyze(documents(), fields=["documents", path])
    assert refused.value.problems[0].field == "options.read_mask"
    report = ArtifactRef(kind=ArtifactKind.REPORT, digest="0" * 64)
    with pytest.raises(InvalidRequest, match="has no field") as refused:
        await analyzer.compare(Compare(baseline=report, candidate=report), fields=["verdict", path])
    assert refused.value.problems[0].field == "read_mask"


# The clients


async def test_the_blocking_client_has_every_method_of_the_other():
    def names(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert names(SyncAnalyzer) - names(AnalyzerClient) == {"close"}
    assert names(AnalyzerClient) - names(SyncAnalyzer) == {"connect"}


async def test_both_clients_say_the_same(address, store):
    corpus = write_corpus(store, documents())
    tokens = [NextToken(prompt_id=str(n), cluster=str(n), top_probabilities=(0.3,), entropy=2.0) for n in range(40)]

    def blocking() -> list[Any]:
        with SyncAnalyzer(address) as analyzer:
            report = analyzer.analyze(documents(), metrics=FEW)
            first = analyzer.create_baseline("first", of(report))
            listed = analyzer.list_baselines()
            analyzer.delete_baseline("baselines/first")
            return [
                report,
                analyzer.analyze(documents(), tokens, metrics=FEW),
                analyzer.analyze_inputs([Inputs(documents=tuple(documents()), next_tokens=tuple(tokens))]),
                analyzer.analyze_predictions(tokens),
                analyzer.analyze_corpus(AnalyzeCorpus(corpus=corpus, metrics=FEW)),
                analyzer.compare(Compare(baseline=of(report), candidate=of(report))),
                first,
                listed,
                analyzer.export_network(corpus, network_format="graphml", concepts=5),
                sorted(analyzer.network(corpus, concepts=9).edges(data="weight")),
                analyzer.list_metrics(),
            ]

    async def awaited() -> list[Any]:
        async with AnalyzerClient.connect(address) as analyzer:
            report = await analyzer.analyze(documents(), metrics=FEW)
            first = await analyzer.create_baseline("first", of(report))
            listed = tuple([baseline async for baseline in analyzer.list_baselines()])
            await analyzer.delete_baseline("baselines/first")
            graph = await analyzer.network(corpus, concepts=9)
            return [
                report,
                await analyzer.analyze(documents(), tokens, metrics=FEW),
                await analyzer.analyze_inputs([Inputs(documents=tuple(documents()), next_tokens=tuple(tokens))]),
                await analyzer.analyze_predictions(tokens),
                await analyzer.analyze_corpus(AnalyzeCorpus(corpus=corpus, metrics=FEW)),
                await analyzer.compare(Compare(baseline=of(report), candidate=of(report))),
                first,
                listed,
                await analyzer.export_network(corpus, network_format="graphml", concepts=5),
                sorted(graph.edges(data="weight")),
                await analyzer.list_metrics(),
            ]

    assert await asyncio.to_thread(blocking) == await awaited()


async def test_a_network_is_a_graph_of_networkx(analyzer, store):
    graph = await analyzer.network(write_corpus(store, documents()), concepts=20)
    assert isinstance(graph, nx.Graph)
    assert len(graph) == 20
    assert all(weight > 0 for _, _, weight in graph.edges(data="weight"))


async def test_without_networkx_a_graph_is_refused_with_what_to_do(analyzer, store, monkeypatch):
    corpus = write_corpus(store, documents())
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(CapabilityMissing, match="pip install networkx"):
        await analyzer.network(corpus)


async def test_a_network_is_written_in_every_format_of_the_contract(analyzer, store):
    corpus = write_corpus(store, documents())
    names = [value.name for value in analyzer_pb2.NetworkFormat.DESCRIPTOR.values[1:]]
    assert [f"NETWORK_FORMAT_{form.name}" for form in NetworkFormat] == names
    written = [await analyzer.export_network(corpus, network_format=form.value, concepts=5) for form in NetworkFormat]
    assert [content[:1] for content in written] == [b"{", b"<", b"<"]
    with pytest.raises(InvalidRequest, match="svg"):
        await analyzer.export_network(corpus, network_format="png")


# Limits


@pytest.mark.parametrize(
    ("limits", "unit", "limit"),
    [
        (Limits(documents=250), "documents", "250"),
        (Limits(bytes=50_000), "bytes", "50000"),
        (Limits(tokens=9_000), "tokens", "9000"),
    ],
)
async def test_too_much_in_one_stream_is_refused_with_the_unit(store, connect, limits, unit, limit):
    server = await start(store, limits=limits)
    try:
        stub = analyzer_pb2_grpc.AnalyzerServiceStub(connect(server.address))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Analyze(messages_of(documents()))
        with pytest.raises(LimitExceeded, match=unit):
            await AnalyzerClient(connect(server.address)).analyze(documents())
    finally:
        await server.stop(grace=0.0)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_info(refused.value).metadata == {"unit": unit, "limit": limit}


async def test_a_stream_is_refused_while_it_goes_on_and_not_at_its_end(store, connect):
    server = await start(store, limits=Limits(tokens=9_000))
    try:
        with pytest.raises(LimitExceeded, match="9,000 tokens"):
            await AnalyzerClient(connect(server.address)).analyze(endless())
    finally:
        await server.stop(grace=0.0)


def messages_of(sent: list[Document], size: int = 50) -> AsyncIterator[analyzer_pb2.AnalyzeRequest]:
    async def messages() -> AsyncIterator[analyzer_pb2.AnalyzeRequest]:
        for start_ in range(0, len(sent), size):
            batch = [{"id": document.id, "text": document.text} for document in sent[start_ : start_ + size]]
            yield analyzer_pb2.AnalyzeRequest(documents=batch)

    return messages()


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    (encoded,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(encoded).details[0].Unpack(info)
    return info


# Callers that leave


async def test_cancelling_while_documents_are_sent_stops_the_work(analyzer, monkeypatch):
    folded: list[int] = []
    fold = Session.fold_documents

    def counted(session: Session, batch: Any, size: int) -> None:
        folded.append(len(batch))
        fold(session, batch, size)

    monkeypatch.setattr(Session, "fold_documents", counted)
    call = asyncio.create_task(analyzer.analyze(endless()))
    await until(lambda: len(folded) > 3)
    call.cancel()
    await asyncio.wait({call})
    await work_stops()
    before = sum(folded)
    await analyzer.analyze(documents(), metrics=FEW)
    assert sum(folded) == before + 300


async def test_cancelling_while_the_report_is_made_stops_the_work(analyzer, metrics, store):
    call = asyncio.create_task(analyzer.analyze(documents(2_500, vocabulary=6_000)))
    await until(measuring)
    call.cancel()
    await asyncio.wait({call})
    await work_stops()
    assert in_flight(metrics) == 0
    assert not list(store.list(ArtifactKind.REPORT))


DYING = """
import asyncio, sys
from ouroscope.client import AnalyzerClient
from ouroscope.records.documents import Document
from ouroscope.records.monitors import Inputs


async def endless():
    number = 0
    while True:
        number += 1
        yield Document(id=str(number), text=f"document {number} of a caller that will die")
        if number == 20_000:
            print("sending", flush=True)


async def main():
    async with AnalyzerClient.connect(sys.argv[1]) as analyzer:
        await analyzer.analyze(endless())


asyncio.run(main())
"""


def sessions() -> int:
    gc.collect()
    # By type: isinstance asks objects of other libraries, and some answer with a warning.
    return sum(type(thing) is Session for thing in gc.get_objects())


def in_flight(metrics: ServiceMetrics) -> float:
    return metrics.in_flight.labels(SERVICE_NAME, "Analyze")._value.get()


async def test_a_caller_that_dies_in_the_middle_leaves_nothing(analyzer, address, metrics, store):
    # Several at once, so that every pool has all its threads.
    await asyncio.gather(*(analyzer.analyze(documents(), metrics=FEW) for _ in range(8)))
    before = threading.active_count(), sessions(), len(list(store.list(ArtifactKind.REPORT)))
    for _ in range(2):
        caller = subprocess.Popen([sys.executable, "-c", DYING, address], stdout=subprocess.PIPE, text=True)
        try:
            assert caller.stdout is not None
            assert await asyncio.to_thread(caller.stdout.readline) == "sending\n"
            await until(lambda: in_flight(metrics) == 1)
        finally:
            caller.kill()
            await asyncio.to_thread(caller.communicate)
        await until(lambda: in_flight(metrics) == 0)
    await work_stops()
    await until(lambda: sessions() <= before[1])
    await until(lambda: threading.active_count() <= before[0])
    assert len(list(store.list(ArtifactKind.REPORT))) == before[2]


# Many callers


async def test_two_hundred_small_calls_are_answered_while_long_ones_run(analyzer, address, connect, monkeypatch):
    health = health_pb2_grpc.HealthStub(connect(address))
    states: set[int] = set()
    finish, entered = Session.finish, list[int]()

    def finish_late(session: Session, watch: Watch) -> Side:
        if session.documents > 1:
            entered.append(session.documents)
        while session.documents > 1:  # a corpus that would be measured for hours
            watch.check()
            sum(range(20_000))
        return finish(session, watch)

    async def watch_health() -> None:
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        while True:
            states.add((await health.Check(request, timeout=20.0)).status)
            await asyncio.sleep(0.05)

    monkeypatch.setattr(Session, "finish", finish_late)
    # As many as there are threads for long work.
    long_calls = [asyncio.create_task(analyzer.analyze(documents())) for _ in range(2)]
    watching = asyncio.create_task(watch_health())
    await until(lambda: len(entered) == len(long_calls))
    small = await asyncio.gather(
        *(analyzer.analyze([Document(id=f"{n}", text=f"call {n} has a few words")], metrics=FEW) for n in range(200))
    )
    assert not any(call.done() for call in [*long_calls, watching])
    for call in [*long_calls, watching]:
        call.cancel()
    await asyncio.wait([*long_calls, watching])
    assert [report.documents for report in small] == [1] * 200
    assert states == {health_pb2.HealthCheckResponse.SERVING}
    await work_stops()


# The page


async def test_every_example_of_the_page_runs(address, root, tmp_path, monkeypatch):
    """The store fixture lies where the page says, seen from the folder of this test."""
    (tmp_path / "ouroscope-data").mkdir()
    (tmp_path / "ouroscope-data/store").symlink_to(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    page = (root / "docs/api.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    calls = analyzer_pb2.DESCRIPTOR.services_by_name["AnalyzerService"].methods_by_name
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) - {"Errors", "Limits"} == set(calls)
    shared: dict[str, Any] = {}
    for block in blocks:
        program = compile(block.replace("127.0.0.1:50053", address), "docs/api.md", "exec")
        await asyncio.to_thread(exec, program, shared)


def test_the_limits_on_the_page_are_those_of_the_service(root):
    page = (root / "docs/api.md").read_text()
    told = {
        name: int(number.replace(",", ""))
        for name, number in re.findall(r"OURO_ANALYZER_MAX_(\w+)` \| [^|]+ \| ([\d,]+) \|", page)
    }
    assert told == {field.name.upper(): getattr(Limits(), field.name) for field in fields(Limits)}


# Hostile text

MEGABYTE = 1024 * 1024
HOSTILE = {
    "empty": [""],
    "white space": [" \t\r\n\u00a0\u2003\u3000" * 100],
    "one word": ["word"],
    "punctuation": ["...!?;:,-—«»()[]{}" * 200],
    "emoji": ["😀👩‍👩‍👧‍👦🏳️‍🌈" * 300],
    "right to left": ["שלום עולם مرحبا بالعالم \u202eolleh\u202c " * 100],
    "mixed scripts": ["word слово λέξη 単語 शब्द 단어 คำ " * 100],
    "NUL bytes": ["\0", "a\0b \0 c\0" * 200],
    "a megabyte without spaces": ["a" * MEGABYTE],
    "a megabyte of ideographs": ["字" * (MEGABYTE // 3)],
    "combining marks": ["e" + "\u0301" * 100_000],
    "HTML": ["<p class='x'>one &amp; two<br/>three</p><script>if (a < b) { c() }</script>" * 100],
    "one word again and again": ["the " * 100_000],
    "equal documents": ["the same words every time"] * 5_000,
}


@pytest.mark.parametrize("texts", HOSTILE.values(), ids=list(HOSTILE))
async def test_hostile_text_gets_an_answer(analyzer, texts):
    sent = [Document(id=str(n), text=text) for n, text in enumerate(texts)]
    report = await analyzer.analyze(sent, drawn_concepts=10)
    assert report.documents == len(texts)
    assert all(metric.value is not None or metric.undefined_because for metric in report.metrics)


async def test_a_hundred_thousand_tiny_documents_get_an_answer(analyzer):
    report = await analyzer.analyze(Document(id=str(n), text=f"tiny {n % 1_000}") for n in range(100_000))
    assert (report.documents, report.tokens) == (100_000, 200_000)


async def test_a_text_that_is_no_unicode_is_refused(address, connect):
    async def broken() -> AsyncIterator[bytes]:
        yield b"\x12\x08\x0a\x01a\x12\x03\xff\xfe\xfd"

    call = connect(address).stream_unary(f"/{SERVICE_NAME}/Analyze")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(broken(), timeout=20.0)
    assert refused.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
