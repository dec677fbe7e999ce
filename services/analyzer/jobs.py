"""What the analyzer can be asked, over the artifact store. Knows no transport; everything here may block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol

from ouroscope.canonical import digest_of
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import CorruptArtifact, NotFound
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.analysis import AnalyzeCorpus, BaselineInfo, Compare, Comparison, Report
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.progress import Progress
from ouroscope.records.selection import SelectDocuments, Selected
from ouroscope.store import ArtifactStore
from services.analyzer import baselines, reports
from services.analyzer.analysis import Options, analyze_side
from services.analyzer.catalogue import ANALYZER_VERSION
from services.analyzer.choice import choose
from services.analyzer.comparison import compare
from services.analyzer.export import NetworkFormat, check_export, export_network
from services.analyzer.reading import ReadElsewhere
from services.analyzer.selection.selecting import check_known, select_documents
from services.analyzer.session import Limits, Session
from services.analyzer.side import Side
from services.analyzer.spread import HumanSpread
from services.analyzer.spreading.corpus import SpreadCorpus
from services.analyzer.spreading.shards import stored_shards
from services.analyzer.tools import Tools
from services.analyzer.watch import Watch
from services.analyzer.whole.counts import check_counting

LIBRARIES = ("numpy", "scipy", "networkit")
"""Other versions of these may change the last digits of a value."""


class Task(Protocol):
    """The task that long work is: where it tells how far it is, and hears that it should end."""

    def report(self, progress: Progress) -> None:
        """Say how far the work is."""

    def check(self) -> None:
        """Raise if the work should end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The work of one analyzer."""

    store: ArtifactStore
    spread: HumanSpread
    limits: Limits
    tools: Tools = field(default_factory=Tools)
    on_documents: Callable[[int], None] = lambda _: None
    """Hears how many documents were measured."""

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Return what else than the request changes an answer."""
        libraries = {name: version(name) for name in LIBRARIES}
        return {"analyzer": ANALYZER_VERSION, **libraries, **self.tools.identities}

    def session(self, options: Options) -> Session:
        """Begin to measure what a caller streams in."""
        return Session(options, self.limits, self.tools)

    def finish(self, session: Session, watch: Watch) -> Report:
        """Measure what was streamed in, and publish the report; no text of it is kept."""
        side = reports.publish(self.store, session.finish(watch))
        self.on_documents(session.documents)
        return side.report

    def analyze_corpus(self, request: AnalyzeCorpus) -> Callable[[Task], Report]:
        """Check the request now, so that what is wrong fails at once; the work measures and publishes."""
        choose(request.metrics)
        check_counting(request.whole_corpus, self.limits.counting)
        self._check(request.corpus, ArtifactKind.CORPUS, "corpus")
        self._check(request.predictions, ArtifactKind.PREDICTIONS, "predictions")
        self._check(request.base_predictions, ArtifactKind.PREDICTIONS, "base_predictions")

        def work(task: Task) -> Report:
            side = reports.publish(self.store, self._analyze(request, task))
            self.on_documents(side.report.documents)
            return side.report

        return work

    def select_documents(self, request: SelectDocuments) -> Callable[[Task], Selected]:
        """Check the request now, so that what is wrong fails at once; the work chooses and publishes."""
        check_known(request)
        for number, source in enumerate(request.sources):
            field = f"sources[{number}]"
            self._check(source.corpus, ArtifactKind.CORPUS, f"{field}.corpus")
            self._check(source.predictions, ArtifactKind.PREDICTIONS, f"{field}.predictions")
            self._check(source.detections, ArtifactKind.PREDICTIONS, f"{field}.detections")
            self._check(source.reference, ArtifactKind.CORPUS, f"{field}.reference")

        def work(task: Task) -> Selected:
            return select_documents(self.store, request, Watch(task.report, task.check))

        return work

    def compare(self, request: Compare) -> Comparison:
        """Compare two reports, or a report with a baseline.

        Raises:
            NotFound, CorruptArtifact: a side cannot be read; `side` in the metadata says which, baseline or candidate.
        """
        return compare(
            self._side(request.baseline, "baseline"),
            self._side(request.candidate.expect(ArtifactKind.REPORT, "candidate"), "candidate"),
            spread=self.spread,
            policy=request.policy,
            history=request.history,
            generation=request.generation,
            explain=request.explain,
        )

    def create_baseline(self, baseline_id: str, report: ArtifactRef) -> BaselineInfo:
        """Freeze a report under a name."""
        return baselines.create(self.store, baseline_id, report)

    def get_baseline(self, name: str) -> BaselineInfo:
        """Return what is known of a baseline."""
        return baselines.get(self.store, name)

    def baselines_page(self, after: str, size: int) -> tuple[tuple[BaselineInfo, ...], str]:
        """Return a page of baselines; see `baselines.page`."""
        return baselines.page(self.store, after, size)

    def delete_baseline(self, name: str) -> None:
        """Free the name of a baseline."""
        baselines.delete(self.store, name)

    def export_network(
        self, corpus: ArtifactRef, view: View, construction: str, form: NetworkFormat, concepts: int, watch: Watch
    ) -> bytes:
        """Write the semantic network of a stored corpus."""
        check_export(construction, form, concepts, self.tools)
        documents = read_corpus(self.store, corpus)
        return export_network(documents, view, form, concepts, watch, construction=construction, tools=self.tools)

    def _analyze(self, request: AnalyzeCorpus, task: Task) -> Side:
        predictions, base = request.predictions, request.base_predictions
        return analyze_side(
            self._documents(request) if request.corpus else (),
            read_next_tokens(self.store, predictions) if predictions else (),
            read_scored_texts(self.store, predictions) if predictions else (),
            read_scored_texts(self.store, base) if base else (),
            options=_options(request),
            domain=request.domain,
            tools=self.tools,
            watch=Watch(task.report, task.check),
        )

    def _documents(self, request: AnalyzeCorpus) -> Iterable[Document] | ReadElsewhere:
        """Return the documents of the corpus, or their shards where a cluster reads them."""
        assert request.corpus is not None
        if self.tools.readers is None:
            return read_corpus(self.store, request.corpus)
        shards = stored_shards(self.store, request.corpus)
        return SpreadCorpus(self.store, shards, self.tools.readers, digest_of(request))

    def _side(self, ref: ArtifactRef, name: str) -> Side:
        try:
            return reports.read(self.store, ref)
        except (NotFound, CorruptArtifact) as error:
            raise type(error)(error.message, **{**error.metadata, "side": name}) from error

    def _check(self, ref: ArtifactRef | None, kind: ArtifactKind, field: str) -> None:
        if ref is not None:
            self.store.manifest(ref.expect(kind, field))


def _options(request: AnalyzeCorpus) -> Options:
    return Options(
        view=request.view,
        metrics=request.metrics,
        drawn_concepts=request.drawn_concepts,
        repeated_texts=request.repeated_texts,
        whole_corpus=request.whole_corpus,
    )
