"""What a run needs before its arms begin: its text, its base model, and how good that model is.

Durable like the stages of its lanes, by the same `Steps`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ouroscope.canonical import from_plain, to_plain
from ouroscope.errors import OuroscopeError
from ouroscope.records.analysis import AnalyzeCorpus, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import PreparePrompts
from ouroscope.records.progress import Progress
from ouroscope.records.runs import RunSpec, StageTime
from ouroscope.store import ArtifactStore
from ouroscope.telemetry import tracing
from services.coordinator import dataset, plan
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.dataset import Dataset
from services.coordinator.patience import Patiently
from services.coordinator.stages import Plain, Setup, Steps, scoring
from services.coordinator.workers import OnProgress, Workers

PERPLEXITY = "heldout_perplexity"


class RunSetup:
    """The stages of one run that all its lanes share."""

    def __init__(
        self,
        run_id: str,
        spec: RunSpec,
        store: ArtifactStore,
        workers: Workers,
        history: History,
        board: Board,
        steps: Steps,
        patiently: Patiently,
    ) -> None:
        self._run_id = run_id
        self._spec = spec
        self._store = store
        self._workers = workers
        self._history = history
        self._board = board
        self._steps = steps
        self._patiently = patiently

    async def prepare(self) -> Setup:
        """Do all of it and return what the lanes share."""
        await self._check_backend()
        corpora = await self._dataset()
        setup = Setup(model=await self._model(corpora), dataset=corpora)
        await self._baseline(setup)
        return setup

    async def _check_backend(self) -> None:
        """Ask now whether the backend can do all that is wanted. Not remembered: a resumed run may find another one."""
        if not self._spec.backend:
            return

        async def work() -> None:
            plan.check_backend(self._spec, await self._workers.generator.list_backends())

        place = (f"runs/{self._run_id}", None, 0, "backend")
        await self._patiently(work, lambda why: self._board.wait(*place, why))

    async def _dataset(self) -> Dataset:
        loop = asyncio.get_running_loop()

        async def work(tell: OnProgress) -> Plain:
            def report(progress: Progress) -> None:
                loop.call_soon_threadsafe(tell, progress)

            return to_plain(await asyncio.to_thread(dataset.prepare, self._store, self._spec, report))

        return from_plain(Dataset, await self._stage("dataset", work))

    async def _model(self, corpora: Dataset) -> ArtifactRef:
        async def work(tell: OnProgress) -> Plain:
            model = (await self._workers.generator.import_model(self._spec.model, on_progress=tell)).model
            # The furthest slice first: a pool that is too small is told now, not after hours in generation 9.
            furthest = PreparePrompts(model=model, corpus=corpora.prompts, window=plan.last_window(self._spec))
            await self._workers.generator.prepare_prompts(furthest, tell)
            return str(model)

        return ArtifactRef.parse(await self._stage("model", work))

    async def _baseline(self, setup: Setup) -> None:
        """Measure the base model beside a unigram and a uniform one: a reader should see what collapses from where."""
        question = scoring(self._spec, setup.dataset, setup.model, unigram=setup.dataset.unigram)

        async def work(tell: OnProgress) -> Plain:
            scored = await self._workers.generator.score(question, tell)
            report = await self._workers.analyzer.analyze_corpus(AnalyzeCorpus(predictions=scored.predictions), tell)
            await self._history.change_run(
                self._run_id,
                base_perplexity=value_of(report, PERPLEXITY),
                unigram_perplexity=scored.unigram_perplexity,
                uniform_perplexity=scored.uniform_perplexity,
            )
            return None

        await self._stage("baseline", work)

    async def _stage(self, stage: str, work: Callable[[OnProgress], Awaitable[Plain]]) -> Plain:
        place = (f"runs/{self._run_id}", None, 0, stage)

        def tell(progress: Progress) -> None:
            self._board.advance(*place, progress)

        async def step() -> Plain:
            self._board.begin(*place)
            began = time.perf_counter()
            try:
                with tracing.span(stage, lane=place[0], run=self._run_id):
                    answer = await self._patiently(lambda: work(tell), lambda why: self._board.wait(*place, why))
            except OuroscopeError as error:
                error.add_note(stage)
                raise
            took = StageTime(stage=stage, seconds=time.perf_counter() - began)
            await self._history.keep_setup(self._run_id, stage, answer, took)
            self._board.finish(place[0], None, 0, took)
            return answer

        return await self._steps(stage, step)


def value_of(report: Report, metric: str) -> float | None:
    """Return a value of a report, or None where it is not measured or undefined."""
    return next((value.value for value in report.metrics if value.id == metric), None)
