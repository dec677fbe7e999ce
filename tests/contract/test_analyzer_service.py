"""The analyzer as callers meet it: on the wire, over a real store, with the real client, and as a process."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc.aio
import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from ouroscope.client import AnalyzerClient
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import AlreadyExists, CapabilityMissing, InvalidRequest, LimitExceeded, NotFound, OuroscopeError
from ouroscope.predictions import write_predictions
from ouroscope.records.analysis import AnalyzeCorpus, Compare, PastEffects, Report, Verdict, VerdictReason
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.monitors import Inputs
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import analyzer_pb2, analyzer_pb2_grpc
from services.analyzer.catalogue import CATALOGUE
from services.analyzer.service import start
from services.analyzer.session import Limits
from tests.log_events import event
from tests.unit.analyzer.corpora import prose

FEW = ("types", "mattr", "cooccurrence_nodes")
ALL = (*FEW, "top1_probability", "heldout_perplexity")


def documents(seed: int = 0, *, count: int = 300, vocabulary: int = 2_000) -> list[Document]:
    texts = prose(count, 50, seed, vocabulary)
    return [Document(id=str(n), text=text, prefix_length=len(text) // 4) for n, text in enumerate(texts)]


def prompts(top: float = 0.3, count: int = 40) -> list[NextToken]:
    return [
        NextToken(prompt_id=str(n), cluster=str(n), top_probabilities=(top, *[(1 - top) / 99] * 99), entropy=2.0)
        for n in range(count)
    ]


def scored(count: int = 40) -> list[ScoredText]:
    return [
        ScoredText(
            document_id=str(n),
            cluster=str(n),
            role=TextRole.HELDOUT,
            tokens=10,
            text_bytes=40,
            log_probability=-30.0 - n % 3,
            greedy_tokens=3,
            last_tokens=5,
            last_greedy_tokens=1,
        )
        for n in range(count)
    ]


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


@pytest.fixture
async def address(store: ArtifactStore, metrics: ServiceMetrics) -> AsyncIterator[str]:
    server = await start(store, metrics=metrics)
    yield server.address
    await server.stop(grace=0.0)


@pytest.fixture
def analyzer(address: str, connect: Callable[[str], grpc.aio.Channel]) -> AnalyzerClient:
    return AnalyzerClient(connect(address))


@pytest.fixture
def stub(address: str, connect: Callable[[str], grpc.aio.Channel]) -> Any:
    return analyzer_pb2_grpc.AnalyzerServiceStub(connect(address))


def of(report: Report) -> ArtifactRef:
    assert report.report is not None
    return report.report


async def test_streamed_and_stored_documents_give_the_same_report(analyzer, store, metrics):
    corpus = write_corpus(store, documents())
    stored = await analyzer.analyze_corpus(AnalyzeCorpus(corpus=corpus, drawn_concepts=10))
    streamed = await analyzer.analyze(reversed(documents()), drawn_concepts=10)
    assert streamed == stored
    assert (stored.documents, stored.rungs[-1].budget) == (300, 10_000)
    assert len(stored.drawing.concepts) == 10
    assert b"ouroscope_documents_analysed_total 600.0" in generate_latest(metrics.registry)


async def test_the_view_and_the_choice_of_metrics_are_heeded(analyzer):
    whole = await analyzer.analyze(documents(), metrics=FEW)
    part = await analyzer.analyze(documents(), metrics=FEW, view=View.CONTINUATION)
    assert {value.id for value in whole.metrics} == set(FEW)
    assert part.view is View.CONTINUATION
    assert part.tokens < whole.tokens
    assert of(part) != of(whole)


async def test_records_of_a_model_are_measured_streamed_and_stored(analyzer, store):
    streamed = await analyzer.analyze_predictions(prompts(), scored())
    predictions = write_predictions(store, prompts(), scored())
    stored = await analyzer.analyze_corpus(AnalyzeCorpus(predictions=predictions))
    assert streamed == stored
    assert streamed.prompts == 40
    assert {"top1_probability", "heldout_perplexity"} <= {value.id for value in streamed.model_metrics}


async def test_documents_and_records_in_one_stream_give_the_report_of_what_is_stored(analyzer, store):
    request = AnalyzeCorpus(
        corpus=write_corpus(store, documents()), predictions=write_predictions(store, prompts(), scored()), metrics=ALL
    )
    streamed = await analyzer.analyze(documents(), prompts(), scored(), metrics=ALL)
    assert streamed == await analyzer.analyze_corpus(request)
    assert {value.id for value in streamed.metrics} == set(ALL)
    assert (streamed.documents, streamed.prompts) == (300, 40)


@given(order=st.randoms(use_true_random=False), piece=st.integers(1, 150))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_in_which_order_and_pieces_they_arrive_changes_nothing(analyzer, order, piece):
    mixed: list[Any] = [*documents(), *prompts(), *scored()]
    order.shuffle(mixed)

    async def pieces() -> AsyncIterator[Inputs]:
        for start_ in range(0, len(mixed), piece):
            part = mixed[start_ : start_ + piece]
            of_kind = {
                field: tuple(one for one in part if isinstance(one, kind))
                for field, kind in (("documents", Document), ("next_tokens", NextToken), ("texts", ScoredText))
            }
            yield Inputs(**of_kind)

    assert await analyzer.analyze_inputs(pieces(), metrics=ALL) == await analyzer.analyze(
        documents(), prompts(), scored(), metrics=ALL
    )


async def test_an_equal_request_is_answered_from_the_store(analyzer, store, metrics):
    corpus = write_corpus(store, documents())
    request = AnalyzeCorpus(corpus=corpus, metrics=FEW)
    assert await analyzer.analyze_corpus(request) == await analyzer.analyze_corpus(request)
    assert b"ouroscope_documents_analysed_total 300.0" in generate_latest(metrics.registry)


async def test_from_two_corpora_to_a_verdict(analyzer):
    human = await analyzer.analyze(documents(0))
    same = await analyzer.analyze(documents(1))
    poorer = await analyzer.analyze(documents(1, vocabulary=100))
    calm = await analyzer.compare(Compare(baseline=of(human), candidate=of(human)))
    alarm = await analyzer.compare(Compare(baseline=of(human), candidate=of(poorer)))
    other = await analyzer.compare(Compare(baseline=of(human), candidate=of(same)))
    assert calm.verdict is Verdict.STABLE
    assert {effect.effect for effect in calm.families} == {0.0}
    assert alarm.verdict is Verdict.COLLAPSE
    assert other.verdict is not Verdict.COLLAPSE
    assert [one.effect for one in alarm.metrics if one.effect is not None]


async def test_a_frozen_baseline_judges_like_its_report_and_holds_no_word(analyzer, store):
    human = await analyzer.analyze(documents(0), drawn_concepts=5)
    poorer = await analyzer.analyze(documents(1, vocabulary=100))
    frozen = await analyzer.create_baseline("human", of(human))
    assert (frozen.name, frozen.documents, frozen.baseline.kind) == ("baselines/human", 300, ArtifactKind.BASELINE)
    assert await analyzer.get_baseline("baselines/human") == frozen
    by_report = await analyzer.compare(Compare(baseline=of(human), candidate=of(poorer)))
    assert await analyzer.compare(Compare(baseline=frozen.baseline, candidate=of(poorer))) == by_report
    kept = b"".join(store.read(frozen.baseline, name) for name in store.manifest(frozen.baseline).files)
    assert human.drawing.concepts[0].label.encode() not in kept


async def test_a_name_belongs_to_one_baseline_until_it_is_deleted(analyzer):
    first = await analyzer.analyze(documents(0), metrics=FEW)
    second = await analyzer.analyze(documents(1), metrics=FEW)
    frozen = await analyzer.create_baseline("human", of(first))
    assert await analyzer.create_baseline("human", of(first)) == frozen
    with pytest.raises(AlreadyExists):
        await analyzer.create_baseline("human", of(second))
    await analyzer.delete_baseline("baselines/human")
    with pytest.raises(NotFound, match="ListBaselines"):
        await analyzer.get_baseline("baselines/human")
    await analyzer.create_baseline("human", of(second))


async def test_baselines_come_in_pages_in_order_of_name(analyzer, stub):
    report = of(await analyzer.analyze(documents(), metrics=("types",)))
    for name in ("c", "a", "b"):
        await analyzer.create_baseline(name, report)
    assert [one.name async for one in analyzer.list_baselines()] == ["baselines/a", "baselines/b", "baselines/c"]
    first = await stub.ListBaselines(analyzer_pb2.ListBaselinesRequest(page_size=2))
    assert [one.name for one in first.baselines] == ["baselines/a", "baselines/b"]
    rest = await stub.ListBaselines(analyzer_pb2.ListBaselinesRequest(page_size=2, page_token=first.next_page_token))
    assert [one.name for one in rest.baselines] == ["baselines/c"]
    assert not rest.next_page_token


async def test_a_network_comes_in_pieces_that_networkx_reads(analyzer, store, stub):
    corpus = write_corpus(store, documents(count=600))
    content = await analyzer.export_network(corpus)
    graph = nx.node_link_graph(json.loads(content), edges="edges")
    assert graph.number_of_nodes() > 500
    assert len(content) > 1024 * 1024
    request = analyzer_pb2.ExportNetworkRequest(corpus={"kind": "ARTIFACT_KIND_CORPUS", "digest": corpus.digest})
    pieces = [piece async for piece in stub.ExportNetwork(request)]
    assert max(piece.ByteSize() for piece in pieces) <= 1024 * 1024
    few = await analyzer.export_network(corpus, network_format="graphml", concepts=20)
    assert nx.parse_graphml(few.decode()).number_of_nodes() == 20


async def test_the_catalogue_is_told(analyzer):
    assert await analyzer.list_metrics() == CATALOGUE


@pytest.mark.parametrize(
    ("call", "error", "hint"),
    [
        (lambda a, _: a.analyze([]), InvalidRequest, "nothing to analyse"),
        (lambda a, _: a.analyze(documents(), metrics=["tipes"]), InvalidRequest, "did you mean types"),
        (lambda a, _: a.analyze(documents(), drawn_concepts=501), InvalidRequest, "drawn_concepts"),
        (lambda a, r: a.analyze_corpus(AnalyzeCorpus(corpus=r)), NotFound, "not in the artifact store"),
        (lambda a, r: a.analyze_corpus(AnalyzeCorpus(predictions=r)), InvalidRequest, "predictions"),
        (lambda a, r: a.compare(Compare(baseline=r, candidate=r)), InvalidRequest, "analyse the corpus"),
        (lambda a, _: a.create_baseline("Not A Name", absent_report()), InvalidRequest, "lower-case"),
        (lambda a, _: a.create_baseline("human", absent_report()), NotFound, "not in the artifact store"),
        (lambda a, _: a.get_baseline("human"), InvalidRequest, "baselines/"),
        (lambda a, r: a.export_network(r), NotFound, "not in the artifact store"),
        (lambda a, r: a.export_network(r, construction="syntactic"), CapabilityMissing, "parser"),
        (lambda a, r: a.export_network(r, construction="semantic"), InvalidRequest, "cooccurrence"),
    ],
)
async def test_what_is_wrong_is_told_with_what_to_do(analyzer, call, error: type[OuroscopeError], hint: str):
    absent = ArtifactRef(ArtifactKind.CORPUS, "0" * 64)
    with pytest.raises(error, match=hint):
        await call(analyzer, absent)


def absent_report() -> ArtifactRef:
    return ArtifactRef(ArtifactKind.REPORT, "0" * 64)


async def test_a_history_out_of_order_is_refused(analyzer):
    report = of(await analyzer.analyze(documents(), metrics=("types",)))
    history = tuple(PastEffects(generation=n, families=()) for n in (1, 1))
    with pytest.raises(InvalidRequest) as refused:
        await analyzer.compare(Compare(baseline=report, candidate=report, history=history))
    assert refused.value.problems[0].field == "history"


async def test_a_document_without_id_is_refused_before_anything_is_kept(stub, store):
    async def messages() -> AsyncIterator[analyzer_pb2.AnalyzeRequest]:
        yield analyzer_pb2.AnalyzeRequest(documents=[{"text": "no name"}])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Analyze(messages())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not list(store.list(ArtifactKind.REPORT))


@pytest.mark.parametrize("limits", [Limits(documents=250), Limits(bytes=50_000)])
async def test_too_much_in_one_stream_is_refused(store, connect, limits: Limits):
    server = await start(store, limits=limits)
    try:
        with pytest.raises(LimitExceeded, match="one stream may hold"):
            await AnalyzerClient(connect(server.address)).analyze(documents())
        assert not list(store.list(ArtifactKind.REPORT))
    finally:
        await server.stop(grace=0.0)


async def test_too_many_records_in_one_stream_are_refused(store, connect):
    server = await start(store, limits=replace(Limits(), records=30))
    try:
        with pytest.raises(LimitExceeded, match="30 records"):
            await AnalyzerClient(connect(server.address)).analyze_predictions(prompts())
    finally:
        await server.stop(grace=0.0)


@pytest.mark.parametrize(("limits", "unit"), [(Limits(records=30), "30 records"), (Limits(documents=9), "9 documents")])
async def test_both_limits_hold_where_documents_and_records_share_a_stream(store, connect, limits: Limits, unit: str):
    server = await start(store, limits=limits)
    try:
        with pytest.raises(LimitExceeded, match=unit):
            await AnalyzerClient(connect(server.address)).analyze(documents(), prompts())
        assert not list(store.list(ArtifactKind.REPORT))
    finally:
        await server.stop(grace=0.0)


async def test_a_caller_that_leaves_in_the_middle_leaves_nothing_behind(analyzer, store):
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[Document]:
        for one in documents():
            yield one
        begun.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(analyzer.analyze(endless()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    report = await analyzer.analyze(documents(), metrics=FEW)
    assert list(store.list(ArtifactKind.REPORT)) == [of(report)]


async def test_too_little_text_is_insufficient_on_the_wire_too(analyzer):
    report = of(await analyzer.analyze(documents(count=10), metrics=FEW))
    told = await analyzer.compare(Compare(baseline=report, candidate=report))
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.TOO_FEW_CLUSTERS)


async def test_the_process_serves_until_it_is_told_to_stop(process, connect):
    running = process()
    address = (await asyncio.to_thread(event, running, "rpc.serving"))["address"]
    report = await AnalyzerClient(connect(address)).analyze(documents(), metrics=FEW)
    assert report.documents == 300
    running.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(running.wait, 20) == 0


def test_a_wrong_setting_is_told_in_one_line(process):
    running = process(workers="none", human_spreed="x")
    assert running.wait(60) == 1
    told = event(running, "process.not_started")
    assert "OURO_ANALYZER_WORKERS" in told["error"]
    assert "OURO_ANALYZER_HUMAN_SPREAD" in told["error"]


def test_a_missing_calibration_table_is_told_in_one_line(process, tmp_path):
    running = process(human_spread=str(tmp_path / "nowhere.json"))
    assert running.wait(60) == 1
    assert "nowhere.json" in event(running, "process.not_started")["error"]
