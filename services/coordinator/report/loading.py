"""Reads what the page of a run shows from the artifact store. The only file here that opens anything."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from itertools import islice

import yaml

from ouroscope.canonical import to_plain
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import CorruptArtifact, NotFound
from ouroscope.records.analysis import MetricInfo, MetricValue, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.runs import Generation, Run
from ouroscope.reports import read_report
from ouroscope.store import ArtifactStore
from services.coordinator.dataset.texts import Dealt
from services.coordinator.report.budgets import at_budget, common_budget
from services.coordinator.report.view import Point, RunView, Sample

_LIBRARIES = ("ouroscope", "torch", "transformers", "tokenizers", "peft", "numpy", "networkx", "networkit")


def load_view(
    artifacts: Artifacts,
    run: Run,
    generations: Iterable[Generation],
    metrics: Iterable[MetricInfo],
    *,
    common: bool = True,
    dealt: tuple[Dealt, ...] = (),
) -> RunView:
    """Read what is known of a run, be it over, going on or failed. An artifact that is gone is left out.

    Args:
        artifacts: Where reports and samples are read.
        run: The run.
        generations: Those to show, in any order.
        metrics: Catalogue of the analyzer that measured.
        dealt: What each domain of its text gave.
        common: Whether to keep only the budget that all generations reach; a study looks for that of several runs.
    """
    found = sorted((_placed(run, generation) for generation in generations), key=lambda place: place[:3])
    points = tuple(
        Point(
            arm=run.spec.arms[arm].name,
            seed=seed,
            generation=generation,
            report=artifacts.report(generation.report),
            human=artifacts.report(generation.human_report),
        )
        for arm, seed, _, generation in found
    )
    budget = common_budget(points) if common else None
    return RunView(
        run=run,
        points=at_budget(points, budget),
        budget=budget,
        metrics=tuple(metrics),
        dealt=dealt,
        samples=tuple(_sample(point, document) for point in points for document in _samples(artifacts, point)),
        specification=yaml.safe_dump(to_plain(run.spec), sort_keys=False, allow_unicode=True),
        versions=_versions(),
    )


class Artifacts:
    """Reads reports and samples from a store, each once. Safe for threads; what is gone is None, or empty."""

    def __init__(self, store: ArtifactStore, most: int | None = None, prompts: int | None = None) -> None:
        """Keep at most `most` of each kind, and read the samples of `prompts` prompts; None means all."""
        self._store = store
        self._prompts = prompts
        self._reports = lru_cache(most)(self._read_report)
        self._samples = lru_cache(most)(self._read_samples)

    def report(self, ref: ArtifactRef | None) -> Report | None:
        """Return a report without its replicates, which no page shows."""
        return self._reports(ref) if ref else None

    def samples(self, ref: ArtifactRef | None) -> tuple[Document, ...]:
        """Return what was written after the fixed prompts."""
        return self._samples(ref) if ref else ()

    def _read_report(self, ref: ArtifactRef) -> Report | None:
        try:
            return _without_replicates(read_report(self._store, ref))
        except (NotFound, CorruptArtifact):
            return None

    def _read_samples(self, ref: ArtifactRef) -> tuple[Document, ...]:
        try:
            return tuple(islice(read_corpus(self._store, ref), self._prompts))
        except (NotFound, CorruptArtifact):
            return ()


def _without_replicates(report: Report) -> Report:
    rungs = tuple(replace(rung, metrics=_bare(rung.metrics)) for rung in report.rungs)
    return replace(report, rungs=rungs, model_metrics=_bare(report.model_metrics))


def _bare(values: Iterable[MetricValue]) -> tuple[MetricValue, ...]:
    return tuple(replace(value, replicates=()) for value in values)


def _placed(run: Run, generation: Generation) -> tuple[int, int, int, Generation]:
    """Return the place of a generation, from its name runs/{run}/arms/{arm}/seeds/{seed}/generations/{n}."""
    parts = generation.name.split("/")
    arms = [arm.name for arm in run.spec.arms]
    return arms.index(parts[3]), int(parts[5]), generation.number, generation


def _samples(artifacts: Artifacts, point: Point) -> tuple[Document, ...]:
    """Return what the first repetition wrote; the others would only lengthen the page."""
    return artifacts.samples(point.generation.samples) if point.seed == 0 else ()


def _sample(point: Point, document: Document) -> Sample:
    return Sample(
        prompt=document.prompt_id or document.id,
        arm=point.arm,
        number=point.number,
        prefix=document.text[: document.prefix_length],
        continuation=document.text[document.prefix_length :],
    )


def _versions() -> dict[str, str]:
    """Return the versions that are installed where the page is written."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
