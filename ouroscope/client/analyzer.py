"""Client of the analyzer.

>>> from ouroscope.client import AnalyzerClient
>>> async def types(documents):
...     async with AnalyzerClient.connect("127.0.0.1:50053") as analyzer:
...         return await analyzer.analyze(documents, metrics=["types"])
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from ouroscope.client.arguments import encoded, names, reference, refusal, request_of
from ouroscope.client.batches import Fields, inputs_in_batches, kinds_in_batches
from ouroscope.client.calls import call, pages, send_all, stream
from ouroscope.client.fields import read_mask
from ouroscope.client.long_work import LongCalls, OnProgress, Patience
from ouroscope.errors import CapabilityMissing
from ouroscope.records.analysis import AnalyzeCorpus, BaselineInfo, Compare, Comparison, MetricInfo, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.monitors import Inputs
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.records.selection import SelectDocuments, Selected
from ouroscope.rpc.channel import open_channel
from ouroscope.security.connection import Connection
from ouroscope.v1 import analyzer_pb2, analyzer_pb2_grpc
from ouroscope.wire import from_proto, many_from_proto


class AnalyzerClient:
    """Asks an analyzer; all methods raise `ouroscope.errors` classes."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._stub = analyzer_pb2_grpc.AnalyzerServiceStub(channel)
        self._long = LongCalls(channel, self._patience)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, address: str, patience: Patience | None = None, connection: Connection | None = None
    ) -> AsyncIterator[Self]:
        """Open a channel to `host:port`, use it in `async with`, and close it at the end.

        `connection` says whom to trust and which token to show; by default the variables `OURO_CLIENT_*` say it.
        """
        async with open_channel(address, connection) as channel:
            yield cls(channel, patience)

    async def analyze(
        self,
        documents: Iterable[Document] | AsyncIterable[Document],
        next_tokens: Iterable[NextToken] | AsyncIterable[NextToken] = (),
        texts: Iterable[ScoredText] | AsyncIterable[ScoredText] = (),
        *,
        view: View = View.WHOLE,
        metrics: Sequence[str] = (),
        drawn_concepts: int = 0,
        repeated_texts: int = 0,
        fields: Sequence[str] = (),
    ) -> Report:
        """Measure documents that the analyzer does not have, and what their model expects; nothing is kept there.

        Args:
            documents: what to measure; read once, as fast as the analyzer measures.
            next_tokens: what the model that wrote them expects after prompts.
            texts: texts that this model scored.
            view: which part of each document is looked at.
            metrics: ids of the metrics wanted; none means all. What nobody asks for is not computed.
            drawn_concepts: concepts in the drawing of the network; 0 draws none.
            repeated_texts: most runs of words to show that many documents share; 0 shows none.
            fields: fields of the report wanted, for example `rungs.metrics.value`; none means all. The others have
                their defaults; the published report has all.
        """
        options = _options(view, metrics, drawn_concepts, repeated_texts, fields)
        return await self._analyze(options, kinds_in_batches(documents, next_tokens, texts))

    async def analyze_inputs(
        self,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        view: View = View.WHOLE,
        metrics: Sequence[str] = (),
        drawn_concepts: int = 0,
        repeated_texts: int = 0,
        fields: Sequence[str] = (),
    ) -> Report:
        """Measure documents and records that arrive mixed; the rest as in `analyze`."""
        options = _options(view, metrics, drawn_concepts, repeated_texts, fields)
        return await self._analyze(options, inputs_in_batches(inputs))

    async def analyze_predictions(
        self,
        next_tokens: Iterable[NextToken] | AsyncIterable[NextToken] = (),
        texts: Iterable[ScoredText] | AsyncIterable[ScoredText] = (),
        *,
        metrics: Sequence[str] = (),
        fields: Sequence[str] = (),
    ) -> Report:
        """Measure what a model expects, from records that the analyzer does not have; `fields` as in `analyze`."""

        async def messages() -> AsyncGenerator[Any]:
            yield analyzer_pb2.AnalyzePredictionsRequest(options=_options(View.WHOLE, metrics, 0, 0, fields))
            async for batch in kinds_in_batches((), next_tokens, texts):
                yield analyzer_pb2.AnalyzePredictionsRequest(**batch)

        return from_proto(Report, await send_all(self._stub.AnalyzePredictions, messages(), self._patience.stream))

    async def analyze_corpus(self, request: AnalyzeCorpus, on_progress: OnProgress | None = None) -> Report:
        """Measure a stored corpus, stored predictions, or both."""
        message = encoded(request, AnalyzeCorpus)
        return await self._long.finish(self._stub.AnalyzeCorpus, message, Report, on_progress)

    async def select_documents(self, request: SelectDocuments, on_progress: OnProgress | None = None) -> Selected:
        """Choose documents of stored corpora and publish them as a corpus."""
        message = encoded(request, SelectDocuments)
        return await self._long.finish(self._stub.SelectDocuments, message, Selected, on_progress)

    async def compare(self, request: Compare, *, fields: Sequence[str] = ()) -> Comparison:
        """Compare a report with a baseline; a history turns it into a verdict on a sequence.

        `fields` are those wanted of the comparison, for example `families.effect`; none means all.
        """
        message = encoded(request, Compare)
        message.read_mask.CopyFrom(_mask(Comparison, fields))
        return from_proto(Comparison, await call(self._stub.Compare, message, self._patience.stream))

    async def create_baseline(self, baseline_id: str, report: ArtifactRef | str) -> BaselineInfo:
        """Freeze a report as `baselines/{baseline_id}`."""
        kind = analyzer_pb2.CreateBaselineRequest
        request = request_of(kind, baseline_id=baseline_id, report=reference(report, "report"))
        return from_proto(BaselineInfo, await call(self._stub.CreateBaseline, request, self._patience.call))

    async def get_baseline(self, name: str) -> BaselineInfo:
        """Return the baseline of that full name."""
        request = request_of(analyzer_pb2.GetBaselineRequest, name=name)
        return from_proto(BaselineInfo, await call(self._stub.GetBaseline, request, self._patience.call))

    def list_baselines(self) -> AsyncIterator[BaselineInfo]:
        """Yield all baselines in order of name."""
        request = analyzer_pb2.ListBaselinesRequest()
        return pages(self._stub.ListBaselines, request, "baselines", BaselineInfo, self._patience.call)

    async def delete_baseline(self, name: str) -> None:
        """Remove a baseline; its name becomes free."""
        request = request_of(analyzer_pb2.DeleteBaselineRequest, name=name)
        await call(self._stub.DeleteBaseline, request, self._patience.call)

    async def export_network(
        self,
        corpus: ArtifactRef | str,
        *,
        view: View = View.WHOLE,
        construction: str = "cooccurrence",
        network_format: str = "node_link_json",
        concepts: int = 0,
    ) -> bytes:
        """Return the semantic network of a stored corpus as a file: `node_link_json`, `graphml` or `svg`.

        `concepts` keeps the strongest only; 0 keeps all, in a picture 40.
        """
        request = request_of(
            analyzer_pb2.ExportNetworkRequest,
            corpus=reference(corpus, "corpus"),
            view=view,
            construction=construction,
            format=_format(network_format),
            concepts=concepts,
        )
        pieces = stream(self._stub.ExportNetwork, request, self._patience.stream)
        return b"".join([piece.content async for piece in pieces])

    async def network(
        self,
        corpus: ArtifactRef | str,
        *,
        view: View = View.WHOLE,
        construction: str = "cooccurrence",
        concepts: int = 0,
    ) -> Any:
        """Return the semantic network of a stored corpus as a `networkx.Graph`, weights as `weight` on its edges.

        Raises:
            CapabilityMissing: networkx is not installed.
        """
        networkx = _networkx()
        content = await self.export_network(corpus, view=view, construction=construction, concepts=concepts)
        return networkx.node_link_graph(json.loads(content), edges="edges")

    async def list_metrics(self) -> tuple[MetricInfo, ...]:
        """Return every metric that this analyzer can measure."""
        answer = await call(self._stub.ListMetrics, analyzer_pb2.ListMetricsRequest(), self._patience.call)
        return many_from_proto(MetricInfo, answer.metrics)

    async def _analyze(self, options: analyzer_pb2.AnalysisOptions, found: AsyncIterator[Fields]) -> Report:
        async def messages() -> AsyncGenerator[Any]:
            yield analyzer_pb2.AnalyzeRequest(options=options)
            async for batch in found:
                yield analyzer_pb2.AnalyzeRequest(**batch)

        return from_proto(Report, await send_all(self._stub.Analyze, messages(), self._patience.stream))


def _options(
    view: View, metrics: Sequence[str], drawn_concepts: int, repeated_texts: int, fields: Sequence[str]
) -> analyzer_pb2.AnalysisOptions:
    return request_of(
        analyzer_pb2.AnalysisOptions,
        view=view,
        metrics=names(metrics, "metrics"),
        drawn_concepts=drawn_concepts,
        repeated_texts=repeated_texts,
        read_mask=_mask(Report, fields),
    )


def _mask(answer: type[Any], fields: Sequence[str]) -> FieldMask:
    return read_mask(answer, names(fields, "fields"))


def _format(name: str) -> int:
    formats = analyzer_pb2.NetworkFormat.DESCRIPTOR.values_by_name
    full = f"NETWORK_FORMAT_{str(name).upper()}"
    if full not in formats:
        raise refusal("network_format", f"use node_link_json, graphml or svg, got {str(name)[:80]!r}")
    return int(formats[full].number)


def _networkx() -> Any:
    try:
        import networkx
    except ModuleNotFoundError as error:
        raise CapabilityMissing("a network as a graph needs networkx: pip install networkx") from error
    return networkx
