"""Workers that answer at once, or after a pause, with references made from the digest of what they are asked.

Like the real ones they are idempotent: what was answered once is found again, also by another process, because answers
are noted in a folder. The journal there says what was worked on, so that a test sees whether anything was done twice.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ouroscope.canonical import digest_of
from ouroscope.client.batches import Fields
from ouroscope.errors import StorageFull, Unavailable
from ouroscope.records.analysis import (
    AnalyzeCorpus,
    BaselineInfo,
    Compare,
    Comparison,
    Direction,
    Family,
    FamilyEffect,
    MetricEffect,
    MetricInfo,
    MetricValue,
    Report,
    Rung,
    Verdict,
    VerdictReason,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import (
    BackendInfo,
    Capability,
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
from ouroscope.records.runs import ArmSpec, DatasetSpec, EvaluationSpec, RunSpec
from ouroscope.records.selection import Composition, SelectDocuments, Selected
from ouroscope.records.training import CheckRecipe, FineTune, FineTuned, Recipe
from services.coordinator.workers import OnProgress, Workers

T = TypeVar("T")

CATALOGUE = (
    MetricInfo(id="token_entropy", family=Family.TEXT, unit="nats", direction=Direction.FALLING, headline=True),
    MetricInfo(id="yule_k", family=Family.TEXT, unit="1", direction=Direction.RISING),
    MetricInfo(id="heldout_perplexity", family=Family.MODEL, unit="1", direction=Direction.RISING),
)


def made(kind: ArtifactKind, *parts: object) -> ArtifactRef:
    """Return the reference of what is made from `parts`."""
    return ArtifactRef(kind, digest_of(kind.value, *parts))


def small_spec(**changes: Any) -> RunSpec:
    """Return a run of two arms that asks for little."""
    given: dict[str, Any] = {
        "name": "small",
        "arms": (ArmSpec(name="human", protocol="human"), ArmSpec(name="replace", protocol="replace")),
        "generations": 3,
        "documents": 20,
        "document_tokens": 16,
        "recipe": Recipe(steps=2),
        "evaluation": EvaluationSpec(prompts=20, heldout_documents=20, prompt_length=4, max_tokens=16, samples=2),
    }
    return RunSpec(**{**given, **changes})


def write_dataset(folder: Path) -> DatasetSpec:
    """Write human text of which enough is held out, and return where it is."""
    path = folder / "human.jsonl"
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=5)) for _ in range(2000)]
    path.write_text("\n".join(json.dumps({"text": " ".join(draw.choices(words, k=8))}) for _ in range(600)))
    return DatasetSpec(source=str(path))


@dataclass
class Team:
    """The three workers in one. `pause` is how long one piece of work takes, in seconds."""

    folder: Path
    pause: float = 0.0
    trouble: dict[str, Exception] = field(default_factory=dict)
    """Raised once by the work of that name."""
    asked: list[object] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    backends: tuple[BackendInfo, ...] = (
        BackendInfo(name="transformers", kind="transformers", capabilities=tuple(Capability)),
    )
    passed_on: list[Fields] = field(default_factory=list)
    """What streams have brought."""
    at_work: dict[str, asyncio.Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def workers(self) -> Workers:
        """Return what the coordinator is given."""
        return Workers(self, self, self)

    @property
    def journal(self) -> list[str]:
        """Return what was really worked on, in order, by this and earlier processes."""
        path = self.folder / "journal"
        return path.read_text().split() if path.exists() else []

    async def import_model(self, source: str, *, on_progress: OnProgress | None = None) -> ModelInfo:
        """Bring a model in."""
        model = made(ArtifactKind.MODEL, source)
        return await self._work(
            "import", source, ModelInfo(model=model, source=source, parameters=1, context_tokens=64, vocabulary=10)
        )

    async def prepare_prompts(self, request: PreparePrompts, on_progress: OnProgress | None = None) -> Generated:
        """Cut windows."""
        corpus = made(ArtifactKind.CORPUS, request)
        return await self._work("prompts", request, Generated(corpus=corpus, documents=request.window.count, tokens=9))

    async def generate(self, request: Generate, on_progress: OnProgress | None = None) -> Generated:
        """Write."""
        corpus = made(ArtifactKind.CORPUS, request)
        return await self._work("generate", request, Generated(corpus=corpus, documents=20, tokens=9), on_progress)

    async def score(self, request: Score, on_progress: OnProgress | None = None) -> Scored:
        """Tell probabilities."""
        predictions = made(ArtifactKind.PREDICTIONS, request)
        extra = {"unigram_perplexity": 900.0, "uniform_perplexity": 4000.0} if request.unigram_corpus else {}
        return await self._work(
            "score", request, Scored(predictions=predictions, prompts=20, texts=20, tokens=9, **extra)
        )

    async def edit(self, request: Edit, on_progress: OnProgress | None = None) -> Generated:
        """Change."""
        corpus = made(ArtifactKind.CORPUS, request)
        return await self._work("edit", request, Generated(corpus=corpus, documents=20, tokens=9), on_progress)

    async def classify(self, request: Classify, on_progress: OnProgress | None = None) -> Classified:
        """Tell who wrote."""
        detections = made(ArtifactKind.PREDICTIONS, request)
        return await self._work("classify", request, Classified(detections=detections, documents=20), on_progress)

    async def select_documents(self, request: SelectDocuments, on_progress: OnProgress | None = None) -> Selected:
        """Choose."""
        documents = request.documents or 20
        selected = Selected(
            corpus=made(ArtifactKind.CORPUS, request),
            pool=Composition(documents=20 * len(request.sources)),
            chosen=Composition(documents=documents),
        )
        return await self._work("select", request, selected, on_progress)

    async def list_backends(self) -> tuple[BackendInfo, ...]:
        """Tell what can run models."""
        self._raise_trouble("backends")
        return self.backends

    async def check_recipe(self, request: CheckRecipe) -> None:
        """Tell whether it could train so."""
        self.asked.append(request)
        self._raise_trouble("recipe")

    async def fine_tune(self, request: FineTune, on_progress: OnProgress | None = None) -> FineTuned:
        """Train."""
        model = made(ArtifactKind.MODEL, request)
        return await self._work("fine_tune", request, FineTuned(model=model, steps=2, tokens=9), on_progress)

    async def analyze_corpus(self, request: AnalyzeCorpus, on_progress: OnProgress | None = None) -> Report:
        """Measure."""
        values = (
            MetricValue(id="token_entropy", value=5.0),
            MetricValue(id="yule_k", undefined_because="too few tokens"),
        )
        report = Report(
            report=made(ArtifactKind.REPORT, request),
            analyzer_version="test",
            rungs=(Rung(budget=10_000, clusters=20, metrics=values),) if request.corpus else (),
            model_metrics=(MetricValue(id="heldout_perplexity", value=261.5),) if request.predictions else (),
        )
        return await self._work("analyse", request, report)

    async def analyze_batches(self, found: AsyncIterator[Fields], **options: Any) -> Report:
        """Measure what is passed on: the report is named by the messages, in whatever order and pieces they come."""
        messages = []
        try:
            async for fields in found:
                self.passed_on.append(fields)
                messages += [item.SerializeToString().hex() for items in fields.values() for item in items]
                self._raise_trouble("analyse")
        except asyncio.CancelledError:
            self.cancelled.append("analyse")
            raise
        values = (MetricValue(id="token_entropy", value=5.0, lower=4.9, upper=5.1),)
        rungs = (Rung(budget=10_000, clusters=20, metrics=values),)
        return Report(report=made(ArtifactKind.REPORT, sorted(messages)), analyzer_version="test", rungs=rungs)

    async def get_baseline(self, name: str) -> BaselineInfo:
        """Tell of a frozen baseline."""
        return BaselineInfo(name=name, baseline=made(ArtifactKind.BASELINE, name), analyzer_version="test")

    async def compare(self, request: Compare) -> Comparison:
        """Judge: three generations with a history behind them are a collapse."""
        self.asked.append(request)
        self._raise_trouble("compare")
        level = Verdict.COLLAPSE if len(request.history) >= 2 else Verdict.WARNING
        family = FamilyEffect(family=Family.TEXT, effect=2.0, lower=1.5, upper=2.5, p_value=0.001, metrics=("types",))
        effect = MetricEffect(id="token_entropy", baseline=5.0, candidate=4.0, effect=2.0, lower=1.0, upper=3.0)
        return Comparison(
            verdict=level,
            reason=VerdictReason.BEYOND_MARGIN,
            sentence="it moved by 2 human spreads",
            families=(family,),
            metrics=(effect,),
        )

    async def list_metrics(self) -> tuple[MetricInfo, ...]:
        """Tell the catalogue."""
        return CATALOGUE

    async def _work(self, name: str, request: object, answer: T, on_progress: OnProgress | None = None) -> T:
        self.asked.append(request)
        self._raise_trouble(name)
        mark = self.folder / f"{name}-{digest_of(name, request)[:16]}"
        # Equal requests share one piece of work.
        async with self.at_work.setdefault(mark.name, asyncio.Lock()):
            if not mark.exists():
                await self._really_work(name, mark, on_progress)
        return answer

    async def _really_work(self, name: str, mark: Path, on_progress: OnProgress | None) -> None:
        try:
            if on_progress is not None:
                on_progress(Progress(stage=name, done=1, total=2))
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        with (self.folder / "journal").open("a") as journal:
            journal.write(f"{mark.name}\n")
        mark.touch()

    def _raise_trouble(self, name: str) -> None:
        if name in self.trouble:
            raise self.trouble.pop(name)
        # Trouble that another process is to meet, and that its user can put right.
        if (self.folder / f"full-{name}").exists():
            raise StorageFull("the disk is full; make room")


def gone() -> Unavailable:
    """Return the error of a worker that is not there."""
    return Unavailable("the service cannot be reached; is it running?", retry_after=0.0)
