"""Reads what the page of a run shows from the artifact store. The only file here that opens anything."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator
from functools import cache

import yaml

from ouroscope.canonical import to_plain
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import CorruptArtifact, NotFound
from ouroscope.records.analysis import MetricInfo, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.runs import Generation, Run
from ouroscope.store import ArtifactStore
from ouroscope_app.report.budgets import at_common_budget
from ouroscope_app.report.view import Point, RunView, Sample

_LIBRARIES = ("ouroscope", "torch", "transformers", "tokenizers", "peft", "numpy", "networkx", "networkit")


def load_view(store: ArtifactStore, run: Run, generations: Iterable[Generation]) -> RunView:
    """Read what is known of a run, be it over, going on or failed. An artifact that is gone is left out."""
    found = sorted((_placed(run, generation) for generation in generations), key=lambda place: place[:3])

    @cache
    def report(ref: ArtifactRef | None) -> Report | None:
        return _report(store, ref) if ref else None

    points = tuple(
        Point(
            arm=run.spec.arms[arm].name,
            seed=seed,
            generation=generation,
            report=report(generation.report),
            human=report(generation.human_report),
        )
        for arm, seed, _, generation in found
    )
    points, budget = at_common_budget(points)
    return RunView(
        run=run,
        points=points,
        budget=budget,
        metrics=_catalogue(),
        samples=tuple(sample for point in points for sample in _samples(store, point)),
        specification=yaml.safe_dump(to_plain(run.spec), sort_keys=False, allow_unicode=True),
        versions=_versions(),
    )


def _placed(run: Run, generation: Generation) -> tuple[int, int, int, Generation]:
    """Return the place of a generation, from its name runs/{run}/arms/{arm}/seeds/{seed}/generations/{n}."""
    parts = generation.name.split("/")
    arms = [arm.name for arm in run.spec.arms]
    return arms.index(parts[3]), int(parts[5]), generation.number, generation


def _report(store: ArtifactStore, ref: ArtifactRef) -> Report | None:
    from services.analyzer import reports

    try:
        return reports.read(store, ref).report
    except (NotFound, CorruptArtifact):
        return None


def _catalogue() -> tuple[MetricInfo, ...]:
    from services.analyzer.catalogue import CATALOGUE

    return CATALOGUE


def _samples(store: ArtifactStore, point: Point) -> Iterator[Sample]:
    """Yield what the first repetition wrote; the others would only lengthen the page."""
    if point.seed or point.generation.samples is None:
        return
    try:
        for document in read_corpus(store, point.generation.samples):
            yield _sample(point, document)
    except (NotFound, CorruptArtifact):
        return


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
