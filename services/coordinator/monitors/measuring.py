"""Measures what a pipeline reports, be it streamed in or stored, whole and domain by domain. Judges nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace

from ouroscope.client.batches import Fields
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.analysis import AnalyzeCorpus, Report
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.monitors import MOST_DOMAINS, DomainBaseline
from ouroscope.reports import read_report
from ouroscope.store import ArtifactStore
from services.coordinator.answers import published
from services.coordinator.monitors.relay import REPEATED_TEXTS, VIEW, Findings, Relay
from services.coordinator.monitors.survey import Survey
from services.coordinator.patience import Patiently
from services.coordinator.stages import DRAWN_CONCEPTS
from services.coordinator.workers import Analyzer

ALLOWED = "give one report, or a corpus, or predictions, or a corpus and predictions"


class Measuring:
    """Asks the analyzer; reads stored text only to see which domains it has and who wrote it."""

    def __init__(self, analyzer: Analyzer, store: ArtifactStore, patiently: Patiently) -> None:
        self._analyzer = analyzer
        self._store = store
        self._patiently = patiently

    async def measure(
        self, artifacts: Sequence[ArtifactRef], found: AsyncIterator[Fields], domains: Collection[str] | None
    ) -> Findings:
        """Return what is measured of stored artifacts, or of what `found` yields where there are none.

        Args:
            artifacts: one report; or a corpus, predictions, or both.
            found: what is streamed in.
            domains: those to measure one by one; None takes those that are there, at most 20.

        Raises:
            InvalidRequest: there is nothing to measure, or both kinds, or other artifacts.
            NotFound: an artifact is not in the store.
        """
        if not artifacts:
            return await Relay(self._analyzer, domains).measure(found)
        by_kind = _by_kind(artifacts)
        async for _ in found:
            raise _refusal("name artifacts, or send documents and records, not both")
        if report := by_kind.get(ArtifactKind.REPORT):
            return Findings(whole=await asyncio.to_thread(read_report, self._store, report), by_domain=False)
        return await self._stored(by_kind, domains)

    async def corpus(self, corpus: ArtifactRef) -> Findings:
        """Return what is measured of a stored corpus, whole and by domain."""
        return await self._stored({ArtifactKind.CORPUS: corpus}, None)

    async def _stored(self, by_kind: Mapping[ArtifactKind, ArtifactRef], domains: Collection[str] | None) -> Findings:
        corpus, predictions = by_kind.get(ArtifactKind.CORPUS), by_kind.get(ArtifactKind.PREDICTIONS)
        survey = await asyncio.to_thread(_look_through, self._store, corpus, predictions)
        there = [domain for domain, _ in survey.domains.most_common()]
        wanted = [domain for domain in domains if domain in there] if domains is not None else _several(there)
        request = AnalyzeCorpus(
            corpus=corpus,
            predictions=predictions,
            view=VIEW,
            drawn_concepts=DRAWN_CONCEPTS,
            repeated_texts=REPEATED_TEXTS,
        )
        whole = await self._analyze(request)
        reports = {domain: await self._analyze(replace(request, domain=domain)) for domain in wanted}
        return Findings(whole=whole, domains=reports, synthetic_share=survey.synthetic_share)

    async def _analyze(self, request: AnalyzeCorpus) -> Report:
        return await self._patiently(lambda: self._analyzer.analyze_corpus(request), lambda why: None)


def domain_baselines(found: Findings) -> tuple[DomainBaseline, ...]:
    """Return the domains that can be compared one by one: those that reach an interval, if there are several."""
    if len(found.domains) < 2:
        return ()
    usable = {domain: report for domain, report in found.domains.items() if reaches_interval(report)}
    return tuple(DomainBaseline(domain=domain, baseline=published(usable[domain])) for domain in sorted(usable))


def reaches_interval(report: Report) -> bool:
    """Return whether a report has an interval anywhere; without one nothing can be compared with it."""
    return any(value.lower is not None for value in report.metrics)


def _by_kind(artifacts: Sequence[ArtifactRef]) -> dict[ArtifactKind, ArtifactRef]:
    by_kind = {ref.kind: ref for ref in artifacts}
    stored = by_kind.keys() <= {ArtifactKind.CORPUS, ArtifactKind.PREDICTIONS}
    if len(by_kind) < len(artifacts) or not (stored or by_kind.keys() == {ArtifactKind.REPORT}):
        kinds = ", ".join(ref.kind.value.lower() for ref in artifacts[:10])
        raise _refusal(f"{ALLOWED}; got {kinds}")
    return by_kind


def _look_through(store: ArtifactStore, corpus: ArtifactRef | None, predictions: ArtifactRef | None) -> Survey:
    survey = Survey()
    for document in read_corpus(store, corpus) if corpus else ():
        survey.add(document)
    if predictions:
        for token in read_next_tokens(store, predictions):
            survey.note_domain(token.domain)
        for text in read_scored_texts(store, predictions):
            survey.note_domain(text.domain)
    return survey


def _several(domains: Sequence[str]) -> Sequence[str]:
    """Return the largest domains; one alone is the whole."""
    return domains[:MOST_DOMAINS] if len(domains) > 1 else ()


def _refusal(description: str) -> InvalidRequest:
    return InvalidRequest(f"artifacts: {description}", (FieldProblem("artifacts", description),))
