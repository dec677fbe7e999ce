"""What a run needs before its arms begin: its text, its base model, and how good that model is.

Durable like the stages of its lanes, by the same `Steps`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from ouroscope.canonical import from_plain, to_plain
from ouroscope.errors import OuroscopeError
from ouroscope.records.analysis import AnalyzeCorpus, Report
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.generation import ModelInfo, PreparePrompts, WindowSpec
from ouroscope.records.progress import Progress
from ouroscope.records.runs import ArmSpec, RunSpec, StageTime
from ouroscope.records.training import CheckRecipe
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.store import ArtifactStore
from ouroscope.telemetry import tracing
from services.coordinator import plan
from services.coordinator.across import Beginnings
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.dataset.preparing import joined, prepare
from services.coordinator.dataset.texts import Dataset
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
        allowed: AllowedSources = EVERYTHING,
    ) -> None:
        self._run_id = run_id
        self._spec = spec
        self._store = store
        self._workers = workers
        self._history = history
        self._board = board
        self._steps = steps
        self._patiently = patiently
        self._allowed = allowed

    async def prepare(self) -> Setup:
        """Do all of it and return what the lanes share."""
        await self._check_backend()
        await self._check_model()
        corpora = await self._dataset()
        model = await self._model(corpora)
        await self._check_recipe(model)
        setup = Setup(model=model, dataset=corpora, across=await self._windows_across(corpora, model))
        await self._baseline(setup)
        return setup

    async def _check_backend(self) -> None:
        """Ask now whether the backend can do all that is wanted. Not remembered: a resumed run may find another one."""
        if not self._spec.backend:
            return

        async def work() -> None:
            plan.check_backend(self._spec, await self._workers.generator.list_backends())

        await self._ask("backend", work)

    async def _check_model(self) -> None:
        """Bring the model in before the text is gathered, so that a wrong name is told at once.

        Not remembered: the stage of the model finds what was brought in. Once the text is there, nobody is asked, since
        a run that is gone on with must not need the Hub again.
        """
        if "dataset" in await self._history.artifacts(self._run_id):
            return

        def tell(progress: Progress) -> None:
            self._board.advance(f"runs/{self._run_id}", None, 0, "model", progress)

        async def work() -> None:
            check_context(self._spec, await self._workers.generator.import_model(self._spec.model, on_progress=tell))

        await self._ask("model", work)

    async def _check_recipe(self, model: ArtifactRef) -> None:
        """Ask the trainer now what it would refuse after generation 0. Not remembered, as with the backend."""
        question = CheckRecipe(model=model, recipe=plan.recipe(self._spec, seed=0, generation=0))
        await self._ask("recipe", lambda: self._workers.trainer.check_recipe(question))

    async def _ask(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        run = f"runs/{self._run_id}"
        with self._board.asking(run, None, what):
            await self._patiently(work, lambda why: self._board.wait(run, None, 0, what, why))

    async def _dataset(self) -> Dataset:
        loop = asyncio.get_running_loop()

        async def work(tell: OnProgress) -> Plain:
            def report(progress: Progress) -> None:
                loop.call_soon_threadsafe(tell, progress)

            return to_plain(await asyncio.to_thread(prepare, self._store, self._spec, report, self._allowed))

        return from_plain(Dataset, await self._stage("dataset", work))

    async def _model(self, corpora: Dataset) -> ArtifactRef:
        async def work(tell: OnProgress) -> Plain:
            info = await self._workers.generator.import_model(self._spec.model, on_progress=tell)
            check_context(self._spec, info)
            # The furthest slices first: a pool that is too small is told now, not after hours in generation 9.
            for pool, window in furthest(self._spec, corpora):
                request = PreparePrompts(model=info.model, corpus=pool, window=window)
                await self._workers.generator.prepare_prompts(request, tell)
            return str(info.model)

        return ArtifactRef.parse(await self._stage("model", work))

    async def _windows_across(self, corpora: Dataset, model: ArtifactRef) -> tuple[Beginnings, ...]:
        """Cut equally many held-out windows of every domain, one corpus for each length of the real prefix."""
        numbers = range(self._spec.generations + 1)
        if not self._spec.evaluation.across_documents or not any(plan.across_wanted(self._spec, j) for j in numbers):
            return ()

        async def work(tell: OnProgress) -> Plain:
            arms, found = {self._spec.prefix_tokens(arm): arm for arm in self._spec.arms}, []
            for prefix, arm in sorted(arms.items(), key=lambda one: one[0]):
                windows = await self._cut_across(corpora, model, arm, tell)
                found.append(Beginnings(prefix_tokens=prefix, windows=windows))
            return to_plain(tuple(found))

        return tuple(from_plain(Beginnings, plain) for plain in await self._stage("across", work))

    async def _cut_across(self, corpora: Dataset, model: ArtifactRef, arm: ArmSpec, tell: OnProgress) -> ArtifactRef:
        window, cut = plan.across_window(self._spec, arm), list[ArtifactRef]()
        for name in sorted(domain.name for domain in self._spec.dataset.domains):
            request = PreparePrompts(model=model, corpus=corpora.of((name,)).heldout, window=window)
            try:
                cut.append((await self._workers.generator.prepare_prompts(request, tell)).corpus)
            except OuroscopeError as error:
                error.add_note(f"domain {name}")
                raise
        return await asyncio.to_thread(joined, self._store, cut)

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


def furthest(spec: RunSpec, corpora: Dataset) -> Iterator[tuple[ArtifactRef, WindowSpec]]:
    """Yield the pool of each set of domains that arms read, with the furthest slice that is ever cut of it."""
    arms: dict[ArtifactRef, list[ArmSpec]] = {}
    for arm in spec.arms:
        arms.setdefault(corpora.of(arm.domains).prompts, []).append(arm)
    for pool, readers in arms.items():
        yield pool, plan.last_window(spec, readers)


def check_context(spec: RunSpec, model: ModelInfo) -> None:
    """Check that what is asked of a model fits into what it sees at once.

    Longer texts can be scored all the same, through windows that overlap.

    Raises:
        InvalidRequest: a prompt, or a document with its continuation, does not fit.
    """
    problems, context = Problems("run specification"), model.context_tokens
    told = f"the model sees {context} tokens at once; lower it to that at most"
    problems.check(spec.document_tokens <= context, "document_tokens", f"{spec.document_tokens} are too many: {told}")
    length = spec.evaluation.prompt_length
    problems.check(length <= context, "evaluation.prompt_length", f"{length} are too many: {told}")
    problems.raise_any()


def value_of(report: Report, metric: str) -> float | None:
    """Return a value of a report, or None where it is not measured or undefined."""
    return next((value.value for value in report.metrics if value.id == metric), None)
