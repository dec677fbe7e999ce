"""Selection as callers meet it: on the wire, over a real store, with the real client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

from ouroscope.client import AnalyzerClient
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import InvalidRequest, NotFound, OuroscopeError, PreconditionFailed
from ouroscope.predictions import write_detections, write_predictions
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.predictions import Detection, ScoredText, TextRole
from ouroscope.records.progress import Progress
from ouroscope.records.selection import SelectDocuments, SelectionRule, SelectionSource, SelectionSpec
from ouroscope.store import ArtifactStore
from ouroscope.v1 import analyzer_pb2_grpc, selection_pb2
from ouroscope.wire import to_proto
from services.analyzer.selection import reading
from services.analyzer.service import start
from tests.unit.analyzer.corpora import prose


def windows(count: int = 60) -> list[Document]:
    texts = prose(count, 40, seed=1)
    return [
        Document(id=f"w{n}", text=text, origin=Origin.HUMAN, prompt_id=f"w{n}", prefix_length=20, domain="ab"[n % 2])
        for n, text in enumerate(texts)
    ]


def written(count: int = 60) -> list[Document]:
    texts = prose(count, 40, seed=2, vocabulary=50)
    return [
        replace(window, id=f"{window.id}~1", text=window.text[:20] + text, origin=Origin.SYNTHETIC, generation=1)
        for window, text in zip(windows(count), texts, strict=True)
    ]


@pytest.fixture
async def address(store: ArtifactStore) -> AsyncIterator[str]:
    server = await start(store)
    yield server.address
    await server.stop(grace=0.0)


@pytest.fixture
def analyzer(address: str, connect: Callable[[str], grpc.aio.Channel]) -> AnalyzerClient:
    return AnalyzerClient(connect(address))


@pytest.fixture
def pool(store: ArtifactStore) -> tuple[SelectionSource, SelectionSource]:
    """Make a pool with everything known that a rule may want to know."""
    human, synthetic = write_corpus(store, windows()), write_corpus(store, written())

    def known(corpus: ArtifactRef) -> SelectionSource:
        names = [document.id for document in read_corpus(store, corpus)]
        texts = [
            ScoredText(
                document_id=name,
                cluster=name,
                role=TextRole.DOCUMENT,
                tokens=9,
                text_bytes=40,
                log_probability=-5.0 - n,
            )
            for n, name in enumerate(names)
        ]
        says = (Detection(document_id=name, probability=0.2 if "~" in name else 0.1) for name in names)
        return SelectionSource(
            corpus=corpus,
            predictions=write_predictions(store, (), texts),
            detections=write_detections(store, says),
            reference=human,
        )

    return known(human), known(synthetic)


@pytest.mark.parametrize("rule", SelectionRule)
async def test_every_rule_chooses_and_says_what_it_chose(analyzer, store, pool, rule):
    asked = SelectDocuments(
        sources=pool, selection=SelectionSpec(rule=rule, scorer="some/detector", within_domains=True), documents=30
    )
    told: list[Progress] = []
    selected = await analyzer.select_documents(asked, told.append)
    documents = list(read_corpus(store, selected.corpus))
    assert len(documents) == len({document.id for document in documents}) == selected.chosen.documents == 30
    assert (selected.pool.documents, selected.pool.human_share) == (120, 0.5)
    assert {share.label: share.value for share in selected.chosen.domains} == {"a": 0.5, "b": 0.5}
    assert len(selected.chosen.surplexity) == 5
    assert await analyzer.select_documents(asked) == selected


async def test_equal_requests_are_one_operation_and_a_new_service_finds_its_answer(store, address, pool, connect):
    channel = connect(address)
    stub = analyzer_pb2_grpc.AnalyzerServiceStub(channel)
    asked = SelectDocuments(sources=pool, selection=SelectionSpec(), documents=10)
    first = await stub.SelectDocuments(to_proto(asked))
    wanted = operations_pb2.WaitOperationRequest(name=first.name)
    answer = (await operations_pb2_grpc.OperationsStub(channel).WaitOperation(wanted)).response
    other = await start(store)
    try:
        again = await analyzer_pb2_grpc.AnalyzerServiceStub(connect(other.address)).SelectDocuments(to_proto(asked))
        assert (again.name, again.done, again.response) == (first.name, True, answer)
    finally:
        await other.stop(grace=0.0)


async def test_work_that_is_cancelled_ends_and_publishes_nothing(store, address, pool, connect, monkeypatch):
    entered, go = threading.Event(), threading.Event()

    def slowly(*asked: Any) -> Any:
        for pair in original(*asked):
            entered.set()
            go.wait(20)
            yield pair

    original = reading.documents_of
    monkeypatch.setattr(reading, "documents_of", slowly)
    before = set(store.list(ArtifactKind.CORPUS))
    channel = connect(address)
    asked = SelectDocuments(sources=pool, selection=SelectionSpec(), documents=7)
    operation = await analyzer_pb2_grpc.AnalyzerServiceStub(channel).SelectDocuments(to_proto(asked))
    operations = operations_pb2_grpc.OperationsStub(channel)
    assert await asyncio.to_thread(entered.wait, 20)
    await operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))
    go.set()
    ended = await operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))
    assert (ended.done, ended.error.code) == (True, grpc.StatusCode.CANCELLED.value[0])
    assert set(store.list(ArtifactKind.CORPUS)) == before
    monkeypatch.setattr(reading, "documents_of", original)
    again = await AnalyzerClient(channel).select_documents(asked)
    assert again.chosen.documents == 7, "what was cancelled can be asked for again"


ABSENT = ArtifactRef(ArtifactKind.CORPUS, "0" * 64)


@pytest.mark.parametrize(
    ("changes", "spec", "error", "hint"),
    [
        ({"corpus": ABSENT}, {}, NotFound, "not in the artifact store"),
        ({"reference": ABSENT}, {"rule": SelectionRule.VERIFIER}, NotFound, "not in the artifact store"),
        ({"predictions": ABSENT}, {}, InvalidRequest, r"sources\[0\].predictions"),
        ({"detections": ABSENT}, {}, InvalidRequest, r"sources\[0\].detections"),
        (
            {"detections": None},
            {"rule": SelectionRule.DETECTOR, "scorer": "x/y"},
            InvalidRequest,
            r"sources\[0\].detections",
        ),
        ({"reference": None}, {"rule": SelectionRule.VERIFIER}, PreconditionFailed, "real continuation"),
    ],
)
async def test_what_is_wrong_is_told_with_what_to_do(
    analyzer, pool, changes: dict[str, Any], spec: dict[str, Any], error: type[OuroscopeError], hint: str
):
    asked = SelectDocuments(sources=(replace(pool[1], **changes),), selection=SelectionSpec(**spec))
    with pytest.raises(error, match=hint):
        await analyzer.select_documents(asked)


async def test_a_pool_without_human_documents_can_be_left_with_nothing(analyzer, pool):
    with pytest.raises(PreconditionFailed, match="human_free left no document"):
        await analyzer.select_documents(
            SelectDocuments(sources=pool[:1], selection=SelectionSpec(human_free=True), documents=3)
        )


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"sources": []}, "at least one corpus"),
        ({"documents": -1}, "must be 0"),
        ({"selection": {"rule": "SELECTION_RULE_SURPLEXITY"}}, "needs predictions"),
        ({"selection": {"threshold": 0.0}}, "threshold"),
        ({"selection": {"repeats": 0}}, "repeats"),
        ({"selection": {"rule": "SELECTION_RULE_VERIFIER", "keep_right": 0.0}}, "keeps nothing"),
    ],
)
async def test_requests_that_mean_nothing_are_refused_on_the_wire(address, connect, changes: dict[str, Any], hint: str):
    corpus = {"kind": "ARTIFACT_KIND_CORPUS", "digest": ABSENT.digest}
    message = selection_pb2.SelectDocumentsRequest(**{"sources": [{"corpus": corpus}], "selection": {}, **changes})
    with pytest.raises(grpc.aio.AioRpcError, match=hint) as refused:
        await analyzer_pb2_grpc.AnalyzerServiceStub(connect(address)).SelectDocuments(message)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
