"""Examines one model on every domain of a run: the row of a generation in the cross-dataset matrix.

Knows the workers, not what makes a stage durable. Repeating it asks for the same, which the workers find again.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.records.analysis import AnalyzeCorpus
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import View
from ouroscope.records.generation import Generate, SamplingSpec, Score
from ouroscope.records.runs import DomainReport
from services.coordinator.answers import published
from services.coordinator.workers import OnProgress, Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginnings:
    """Held-out windows, equally many of every domain; the same for all arms with equally long prefixes."""

    prefix_tokens: int
    windows: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """What is asked of a model."""

    domains: tuple[str, ...]
    score: Score
    """Its probabilities on held-out text of all domains."""
    windows: ArtifactRef | None
    """What it continues; None where only probabilities are wanted."""
    sampling: SamplingSpec
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of it."""

    reports: tuple[DomainReport, ...]
    predictions: ArtifactRef
    corpus: ArtifactRef | None


async def examine(wanted: Across, known: ArtifactRef | None, workers: Workers, tell: OnProgress) -> Seen:
    """Ask, write and measure; `known` are the probabilities where they are there already."""
    predictions = known or (await workers.generator.score(wanted.score, tell)).predictions
    corpus = await _continued(wanted, workers, tell) if wanted.windows else None
    reports = [await _on_domain(name, predictions, corpus, wanted.windows, workers, tell) for name in wanted.domains]
    return Seen(reports=tuple(reports), predictions=predictions, corpus=corpus)


async def _continued(wanted: Across, workers: Workers, tell: OnProgress) -> ArtifactRef:
    assert wanted.windows is not None
    request = Generate(
        model=wanted.score.model,
        prompts=wanted.windows,
        sampling=wanted.sampling,
        generation=wanted.generation,
        backend=wanted.score.backend,
    )
    return (await workers.generator.generate(request, tell)).corpus


async def _on_domain(
    domain: str,
    predictions: ArtifactRef,
    corpus: ArtifactRef | None,
    windows: ArtifactRef | None,
    workers: Workers,
    tell: OnProgress,
) -> DomainReport:
    """Return the reports on one domain; the human one is the same in all generations and is found again."""

    async def report_on(corpus: ArtifactRef | None, predictions: ArtifactRef | None) -> ArtifactRef:
        asked = AnalyzeCorpus(corpus=corpus, predictions=predictions, view=View.CONTINUATION, domain=domain)
        return published(await workers.analyzer.analyze_corpus(asked, tell))

    human = await report_on(windows, None) if windows else None
    return DomainReport(domain=domain, report=await report_on(corpus, predictions), human_report=human)
