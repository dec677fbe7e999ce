"""One trace goes through all services: spans of real servers on real ports, kept in memory."""

from __future__ import annotations

import gzip
import os
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ouroscope.client import AnalyzerClient, open_channel
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import NotFound, OuroscopeError, PreconditionFailed
from ouroscope.records.analysis import AnalyzeCorpus
from ouroscope.records.documents import Document
from ouroscope.rpc.server import RunningServer
from ouroscope.store import ArtifactStore
from ouroscope.telemetry import tracing
from ouroscope.telemetry.http import start_metrics_endpoint
from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.analyzer.service import start

SECRET = "zyxwvut"
DOCUMENTS = [Document(id=str(number), text=f"{SECRET} number {number}") for number in range(30)]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Where all spans of this process go for the time of one test."""
    kept = InMemorySpanExporter()
    stop = tracing.use(SimpleSpanProcessor(kept), "test")
    yield kept
    stop()


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A server that takes spans as an OpenTelemetry collector does."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            zipped = self.headers.get("Content-Encoding") == "gzip"
            received.append(ExportTraceServiceRequest.FromString(gzip.decompress(body) if zipped else body))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


@pytest_asyncio.fixture
async def analyzer(
    spans: InMemorySpanExporter, metrics: ServiceMetrics, store: ArtifactStore
) -> AsyncIterator[RunningServer]:
    running = await start(store, metrics=metrics)
    yield running
    await running.stop(grace=1.0)


def named(spans: InMemorySpanExporter, part: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if part in span.name]


async def test_a_call_and_the_work_that_it_starts_in_a_thread_are_one_trace(
    analyzer: RunningServer, spans: InMemorySpanExporter, store: ArtifactStore
) -> None:
    corpus = write_corpus(store, DOCUMENTS)
    async with open_channel(analyzer.address) as channel:
        with tracing.span("turn", lane="runs/r/replace/0", generation=3):
            await AnalyzerClient(channel).analyze_corpus(AnalyzeCorpus(corpus=corpus))
    (turn,), (work,) = named(spans, "turn"), named(spans, "work AnalyzeCorpus")
    assert work.context.trace_id == turn.context.trace_id
    assert turn.attributes is not None
    assert turn.attributes["ouroscope.generation"] == 3
    calls = named(spans, "AnalyzeCorpus")
    assert {span.context.trace_id for span in calls} == {turn.context.trace_id}
    assert {span.kind.name for span in calls} == {"CLIENT", "SERVER", "INTERNAL"}


async def test_the_trace_of_a_lane_is_the_same_in_every_process(spans: InMemorySpanExporter) -> None:
    for lane in ("runs/r/replace/0", "runs/r/replace/0", "runs/r/human/0"):
        with tracing.span("turn", lane=lane):
            pass
    first, again, other = (span.context.trace_id for span in named(spans, "turn"))
    assert first == again != other


async def test_a_failed_call_is_a_failed_span_and_no_span_holds_a_word_of_a_document(
    analyzer: RunningServer, spans: InMemorySpanExporter
) -> None:
    async with open_channel(analyzer.address) as channel:
        client = AnalyzerClient(channel)
        await client.analyze(DOCUMENTS)
        with suppress(NotFound):
            await client.get_baseline("baselines/none")
        with suppress(OuroscopeError):
            await client.analyze([Document(id="a", text=SECRET)], metrics=[SECRET])
    server = [span for span in named(spans, "GetBaseline") if span.kind.name == "SERVER"]
    assert [(span.status.status_code.name, span.status.description) for span in server] == [("ERROR", "NOT_FOUND")]
    told = [span.to_json() for span in spans.get_finished_spans() if span.kind.name != "CLIENT"]
    assert told
    assert not any(SECRET in one for one in told)


async def test_latencies_show_their_trace_as_an_exemplar(
    analyzer: RunningServer, spans: InMemorySpanExporter, metrics: ServiceMetrics
) -> None:
    async with open_channel(analyzer.address) as channel:
        await AnalyzerClient(channel).list_metrics()
    (server,) = [span for span in named(spans, "ListMetrics") if span.kind.name == "SERVER"]
    endpoint = start_metrics_endpoint(metrics.registry, 0)
    try:
        request = urllib.request.Request(endpoint.url, headers={"Accept": "application/openmetrics-text"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            page = answer.read().decode()
    finally:
        endpoint.close()
    exemplars = [line for line in page.splitlines() if "handling_seconds_bucket" in line and "# {" in line]
    assert any(f'trace_id="{server.context.trace_id:032x}"' in line for line in exemplars)


async def test_health_checks_make_no_spans(analyzer: RunningServer, spans: InMemorySpanExporter) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with open_channel(analyzer.address) as channel:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert named(spans, "Health") == []


def test_spans_reach_a_collector_over_http_under_the_name_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (url, received):
        # OpenTelemetry reads its variables by itself.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        stop = tracing.start_tracing("ouroscope-analyzer", os.environ)
        with tracing.span("turn", lane="runs/r/human/0", generation=1):
            pass
        stop()
    (resource,) = [one for request in received for one in request.resource_spans]
    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert names["service.name"] == "ouroscope-analyzer"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["turn"]


def test_a_collector_that_is_not_there_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    stop = tracing.start_tracing("test", os.environ)
    with tracing.span("turn"):
        pass
    stop()
    assert not tracing.is_on()


def test_without_being_asked_nothing_is_traced(store: ArtifactStore) -> None:
    stop = tracing.start_tracing("test", {})
    with tracing.span("turn", lane="x"):
        assert tracing.exemplar() is None
    assert (tracing.is_on(), tracing.client_interceptors(), tracing.headers()) == (False, (), ())
    stop()


def test_asking_for_traces_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(PreconditionFailed, match=r"pip install 'ouroscope\[tracing\]'"):
        tracing.start_tracing("test", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
