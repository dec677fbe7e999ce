"""The analyzer for code without an event loop: scripts, notebooks, callbacks of training libraries."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from ouroscope.client.analyzer import AnalyzerClient
from ouroscope.client.long_work import OnProgress, Patience
from ouroscope.records.analysis import AnalyzeCorpus, BaselineInfo, Compare, Comparison, MetricInfo, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.rpc.channel import open_channel

T = TypeVar("T")


class SyncAnalyzer:
    """`AnalyzerClient` whose methods block. Its event loop runs in a thread of its own; close it, or use `with`."""

    def __init__(self, address: str, patience: Patience | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ouroscope-client", daemon=True)
        self._thread.start()
        # A channel belongs to the loop that it was made in.
        self._channel, self._client = self._run(self._open(address, patience))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel and end the thread; closing twice is harmless."""
        if self._loop.is_closed():
            return
        self._run(self._channel.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def analyze(
        self,
        documents: Iterable[Document],
        *,
        view: View = View.WHOLE,
        metrics: Sequence[str] = (),
        drawn_concepts: int = 0,
        fields: Sequence[str] = (),
    ) -> Report:
        """Measure documents that the analyzer does not have; see `AnalyzerClient.analyze`."""
        return self._run(
            self._client.analyze(documents, view=view, metrics=metrics, drawn_concepts=drawn_concepts, fields=fields)
        )

    def analyze_predictions(
        self,
        next_tokens: Iterable[NextToken] = (),
        texts: Iterable[ScoredText] = (),
        *,
        metrics: Sequence[str] = (),
        fields: Sequence[str] = (),
    ) -> Report:
        """Measure what a model expects, from records that the analyzer does not have."""
        return self._run(self._client.analyze_predictions(next_tokens, texts, metrics=metrics, fields=fields))

    def analyze_corpus(self, request: AnalyzeCorpus, on_progress: OnProgress | None = None) -> Report:
        """Measure what lies in the store; `on_progress` is called in the thread of the client."""
        return self._run(self._client.analyze_corpus(request, on_progress))

    def compare(self, request: Compare, *, fields: Sequence[str] = ()) -> Comparison:
        """Compare a report with a baseline."""
        return self._run(self._client.compare(request, fields=fields))

    def create_baseline(self, baseline_id: str, report: ArtifactRef | str) -> BaselineInfo:
        """Freeze a report as `baselines/{baseline_id}`."""
        return self._run(self._client.create_baseline(baseline_id, report))

    def get_baseline(self, name: str) -> BaselineInfo:
        """Return the baseline of that full name."""
        return self._run(self._client.get_baseline(name))

    def list_baselines(self) -> tuple[BaselineInfo, ...]:
        """Return all baselines in order of name."""

        async def collect() -> tuple[BaselineInfo, ...]:
            return tuple([baseline async for baseline in self._client.list_baselines()])

        return self._run(collect())

    def delete_baseline(self, name: str) -> None:
        """Remove a baseline; its name becomes free."""
        self._run(self._client.delete_baseline(name))

    def export_network(
        self,
        corpus: ArtifactRef | str,
        *,
        view: View = View.WHOLE,
        construction: str = "cooccurrence",
        network_format: str = "node_link_json",
        concepts: int = 0,
    ) -> bytes:
        """Return the semantic network of a stored corpus as a file: `node_link_json`, `graphml` or `svg`."""
        return self._run(
            self._client.export_network(
                corpus, view=view, construction=construction, network_format=network_format, concepts=concepts
            )
        )

    def network(
        self,
        corpus: ArtifactRef | str,
        *,
        view: View = View.WHOLE,
        construction: str = "cooccurrence",
        concepts: int = 0,
    ) -> Any:
        """Return the semantic network of a stored corpus as a `networkx.Graph`."""
        return self._run(self._client.network(corpus, view=view, construction=construction, concepts=concepts))

    def list_metrics(self) -> tuple[MetricInfo, ...]:
        """Return every metric that this analyzer can measure."""
        return self._run(self._client.list_metrics())

    async def _open(self, address: str, patience: Patience | None) -> tuple[Any, AnalyzerClient]:
        channel = open_channel(address)
        return channel, AnalyzerClient(channel, patience)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            # Ctrl-C reaches this thread only: the call in the other one must end too.
            running.cancel()
            raise
