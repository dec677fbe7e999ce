"""The three services that do the work of a run, as the coordinator needs them: clients over gRPC, or fakes in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from ouroscope.client.batches import Fields
from ouroscope.records.analysis import AnalyzeCorpus, BaselineInfo, Compare, Comparison, MetricInfo, Report
from ouroscope.records.documents import View
from ouroscope.records.generation import (
    BackendInfo,
    Classified,
    Classify,
    Edit,
    Generate,
    Generated,
    ModelInfo,
    PreparePrompts,
    Score,
    Scored,
)
from ouroscope.records.progress import Progress
from ouroscope.records.selection import SelectDocuments, Selected
from ouroscope.records.training import CheckRecipe, FineTune, FineTuned

OnProgress = Callable[[Progress], Awaitable[None] | None]
"""Told how far long work is; the clients of the services declare the same."""


class Generator(Protocol):
    """What is needed of a generator."""

    async def import_model(self, source: str, *, on_progress: OnProgress | None = None) -> ModelInfo:
        """Bring a model into the store."""

    async def prepare_prompts(self, request: PreparePrompts, on_progress: OnProgress | None = None) -> Generated:
        """Cut windows."""

    async def generate(self, request: Generate, on_progress: OnProgress | None = None) -> Generated:
        """Write a corpus."""

    async def score(self, request: Score, on_progress: OnProgress | None = None) -> Scored:
        """Ask for probabilities."""

    async def edit(self, request: Edit, on_progress: OnProgress | None = None) -> Generated:
        """Draw the tokens of a text anew that a model finds too easy."""

    async def classify(self, request: Classify, on_progress: OnProgress | None = None) -> Classified:
        """Ask a text classifier which documents machines wrote."""

    async def list_backends(self) -> tuple[BackendInfo, ...]:
        """Return what can run models."""


class Trainer(Protocol):
    """What is needed of a trainer."""

    async def check_recipe(self, request: CheckRecipe) -> None:
        """Tell everything at once for which it would refuse to train so."""

    async def fine_tune(self, request: FineTune, on_progress: OnProgress | None = None) -> FineTuned:
        """Make the next model."""


class Analyzer(Protocol):
    """What is needed of an analyzer."""

    async def analyze_corpus(self, request: AnalyzeCorpus, on_progress: OnProgress | None = None) -> Report:
        """Measure."""

    async def analyze_batches(
        self, found: AsyncIterator[Fields], *, view: View, drawn_concepts: int, repeated_texts: int
    ) -> Report:
        """Measure what is passed on."""

    async def select_documents(self, request: SelectDocuments, on_progress: OnProgress | None = None) -> Selected:
        """Choose documents of a pool."""

    async def compare(self, request: Compare) -> Comparison:
        """Judge."""

    async def get_baseline(self, name: str) -> BaselineInfo:
        """Return a frozen baseline."""

    async def list_metrics(self) -> tuple[MetricInfo, ...]:
        """Return the catalogue, for the units of metrics."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The three services that do the work."""

    generator: Generator
    trainer: Trainer
    analyzer: Analyzer
