"""The analyzer for code without an event loop: scripts, notebooks, callbacks of training libraries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ouroscope.client.analyzer import AnalyzerClient
from ouroscope.client.blocking import Blocking
from ouroscope.client.long_work import OnProgress, Patience
from ouroscope.records.analysis import AnalyzeCorpus, BaselineInfo, Compare, Comparison, MetricInfo, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.monitors import Inputs
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.records.selection import SelectDocuments, Selected
from ouroscope.security.connection import Connection


class SyncAnalyzer(Blocking[AnalyzerClient]):
    """`AnalyzerClient` whose methods block. Its event loop runs in a thread of its own; close it, or use `with`."""

    def __init__(self, address: str, patience: Patience | None = None, connection: Connection | None = None) -> None:
        super().__init__(AnalyzerClient, address, patience, connection)

    def analyze(
        self,
        documents: Iterable[Document],
        next_tokens: Iterable[NextToken] = (),
        texts: Iterable[ScoredText] = (),
        *,
        view: View = View.WHOLE,
        metrics: Sequence[str] = (),
        drawn_concepts: int = 0,
        repeated_texts: int = 0,
        fields: Sequence[str] = (),
    ) -> Report:
        """Measure documents that the analyzer does not have, and what their model expects."""
        return self._run(
            self._client.analyze(
                documents,
                next_tokens,
                texts,
                view=view,
                metrics=metrics,
                drawn_concepts=drawn_concepts,
                repeated_texts=repeated_texts,
                fields=fields,
            )
        )

    def analyze_inputs(
        self,
        inputs: Iterable[Inputs],
        *,
        view: View = View.WHOLE,
        metrics: Sequence[str] = (),
        drawn_concepts: int = 0,
        repeated_texts: int = 0,
        fields: Sequence[str] = (),
    ) -> Report:
        """Measure documents and records that arrive mixed."""
        return self._run(
            self._client.analyze_inputs(
                inputs,
                view=view,
                metrics=metrics,
                drawn_concepts=drawn_concepts,
                repeated_texts=repeated_texts,
                fields=fields,
            )
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

    def select_documents(self, request: SelectDocuments, on_progress: OnProgress | None = None) -> Selected:
        """Choose documents of stored corpora; `on_progress` is called in the thread of the client."""
        return self._run(self._client.select_documents(request, on_progress))

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
        return self._all(self._client.list_baselines())

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
