"""The analyzer on the wire: decode, call, encode. Holds no rule of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.operations.servicer import Operations
from ouroscope.records.analysis import AnalyzeCorpus, Compare, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.records.selection import SelectDocuments, Selected
from ouroscope.rpc.errors import rpc_errors
from ouroscope.rpc.masks import apply_mask, check_mask
from ouroscope.rpc.paging import page_size, read_token, write_token
from ouroscope.v1 import analysis_pb2, analyzer_pb2, analyzer_pb2_grpc, document_pb2, selection_pb2
from ouroscope.wire import from_proto, many_from_proto, to_proto
from services.analyzer.analysis import Options
from services.analyzer.catalogue import CATALOGUE
from services.analyzer.export import NetworkFormat
from services.analyzer.jobs import Jobs
from services.analyzer.session import Session
from services.analyzer.streams import Streams
from services.analyzer.watch import Watch

PIECE_BYTES = 1024 * 1024 - 1024
"""Bytes of a network in one message."""


@dataclass(frozen=True, slots=True)
class AnalyzerServicer(analyzer_pb2_grpc.AnalyzerServiceServicer):
    """ouroscope.v1.AnalyzerService over `Jobs`."""

    jobs: Jobs
    streams: Streams
    operations: Operations

    async def Analyze(self, messages: AsyncIterator[analyzer_pb2.AnalyzeRequest], context: Any) -> Any:
        """Measure documents, and what their model expects, that the caller streams in."""
        async with rpc_errors(context):
            asked = _Asked(self.jobs)
            return asked.part_of(await self.streams.measure(messages, asked.begin, _fold_inputs))

    async def AnalyzePredictions(
        self, messages: AsyncIterator[analyzer_pb2.AnalyzePredictionsRequest], context: Any
    ) -> Any:
        """Measure records that the caller streams in."""
        async with rpc_errors(context):
            asked = _Asked(self.jobs)
            return asked.part_of(await self.streams.measure(messages, asked.begin, _fold_records))

    async def AnalyzeCorpus(self, request: analyzer_pb2.AnalyzeCorpusRequest, context: Any) -> operations_pb2.Operation:
        """Measure what lies in the store."""
        async with rpc_errors(context):
            asked = from_proto(AnalyzeCorpus, request)
            work = await asyncio.to_thread(self.jobs.analyze_corpus, asked)
            return await self.operations.start("AnalyzeCorpus", asked, Report, work, request_id=request.request_id)

    async def SelectDocuments(
        self, request: selection_pb2.SelectDocumentsRequest, context: Any
    ) -> operations_pb2.Operation:
        """Choose documents of stored corpora."""
        async with rpc_errors(context):
            asked = from_proto(SelectDocuments, request)
            work = await asyncio.to_thread(self.jobs.select_documents, asked)
            return await self.operations.start("SelectDocuments", asked, Selected, work, request_id=request.request_id)

    async def Compare(self, request: analyzer_pb2.CompareRequest, context: Any) -> Any:
        """Compare a report with a baseline."""
        async with rpc_errors(context):
            check_mask(analysis_pb2.Comparison.DESCRIPTOR, request.read_mask, "read_mask")
            comparison = await asyncio.to_thread(self.jobs.compare, from_proto(Compare, request))
            return apply_mask(to_proto(comparison), request.read_mask)

    async def CreateBaseline(self, request: analyzer_pb2.CreateBaselineRequest, context: Any) -> Any:
        """Freeze a report under a name."""
        async with rpc_errors(context):
            report = from_proto(ArtifactRef, request.report)
            return to_proto(await asyncio.to_thread(self.jobs.create_baseline, request.baseline_id, report))

    async def GetBaseline(self, request: analyzer_pb2.GetBaselineRequest, context: Any) -> Any:
        """Read a baseline."""
        async with rpc_errors(context):
            return to_proto(await asyncio.to_thread(self.jobs.get_baseline, request.name))

    async def ListBaselines(self, request: analyzer_pb2.ListBaselinesRequest, context: Any) -> Any:
        """List baselines."""
        async with rpc_errors(context):
            after, size = read_token(request.page_token) or "", page_size(request.page_size)
            shown, last = await asyncio.to_thread(self.jobs.baselines_page, after, size)
            token = write_token(last) if last else ""
            return analyzer_pb2.ListBaselinesResponse(baselines=map(to_proto, shown), next_page_token=token)

    async def DeleteBaseline(self, request: analyzer_pb2.DeleteBaselineRequest, context: Any) -> Any:
        """Free the name of a baseline."""
        async with rpc_errors(context):
            await asyncio.to_thread(self.jobs.delete_baseline, request.name)
            return Empty()

    async def ExportNetwork(
        self, request: analyzer_pb2.ExportNetworkRequest, context: Any
    ) -> AsyncIterator[analyzer_pb2.ExportNetworkResponse]:
        """Write the semantic network of a stored corpus."""
        async with rpc_errors(context):
            content = await self.streams.run(lambda watch: self._export(request, watch))
            for start in range(0, len(content), PIECE_BYTES):
                yield analyzer_pb2.ExportNetworkResponse(content=content[start : start + PIECE_BYTES])

    async def ListMetrics(self, request: analyzer_pb2.ListMetricsRequest, context: Any) -> Any:
        """List the metrics."""
        async with rpc_errors(context):
            return analyzer_pb2.ListMetricsResponse(metrics=map(to_proto, CATALOGUE))

    def _export(self, request: analyzer_pb2.ExportNetworkRequest, watch: Watch) -> bytes:
        corpus, view = from_proto(ArtifactRef, request.corpus), _view(request.view)
        concepts = _within(request.concepts, "concepts", 0, None)
        return self.jobs.export_network(corpus, view, request.construction, _format(request.format), concepts, watch)


class _Asked:
    """What the first message of a stream asks for: how to measure, and which part of the report to send."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._mask = FieldMask()

    def begin(self, first: Any | None) -> Session:
        """Begin as the first message says; there may be none."""
        if first is None:
            return self._jobs.session(Options())
        self._mask = first.options.read_mask
        check_mask(analysis_pb2.Report.DESCRIPTOR, self._mask, "options.read_mask")
        return self._jobs.session(_options(first.options))

    def part_of(self, report: Report) -> Any:
        """Encode what the caller wants of a report."""
        return apply_mask(to_proto(report), self._mask)


def _fold_inputs(session: Session, message: analyzer_pb2.AnalyzeRequest) -> None:
    session.fold_documents(many_from_proto(Document, message.documents), message.ByteSize())
    _fold_records(session, message)


def _fold_records(
    session: Session, message: analyzer_pb2.AnalyzeRequest | analyzer_pb2.AnalyzePredictionsRequest
) -> None:
    session.fold_records(many_from_proto(NextToken, message.next_tokens), many_from_proto(ScoredText, message.texts))


def _options(message: analyzer_pb2.AnalysisOptions) -> Options:
    return Options(
        view=_view(message.view),
        metrics=tuple(message.metrics),
        drawn_concepts=_within(message.drawn_concepts, "options.drawn_concepts", 0, 500),
        repeated_texts=_within(message.repeated_texts, "options.repeated_texts", 0, 50),
    )


def _view(number: int) -> View:
    return View.CONTINUATION if number == document_pb2.VIEW_CONTINUATION else View.WHOLE


def _format(number: int) -> NetworkFormat:
    forms = tuple(NetworkFormat)  # in the order of the wire, where 1 is the first
    return forms[_within(number or 1, "format", 1, len(forms)) - 1]


def _within(value: int, field: str, least: int, most: int | None) -> int:
    if value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"in [{least}, {most}]"
        problem = FieldProblem(field, f"must be {bounds}, got {value}")
        raise InvalidRequest(f"{problem.field} {problem.description}", [problem])
    return value
