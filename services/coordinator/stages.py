"""The stages of a run, done by the workers: each is one durable step that returns references, and watchers are told.

Knows the clients of the services and the tables, not what makes a step durable: `steps` does, and tests hand in their
own. A step may be done twice (killed before it was noted), so everything it does gives the same when repeated: workers
find what they have published, rows are upserted.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ouroscope.canonical import from_plain, to_plain
from ouroscope.errors import OuroscopeError
from ouroscope.records.analysis import AnalyzeCorpus, Compare, PastEffects
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import View
from ouroscope.records.generation import (
    Generate,
    PreparePrompts,
    SamplingSpec,
    Score,
    WindowSpec,
)
from ouroscope.records.progress import Progress
from ouroscope.records.runs import ArmSpec, RunSpec, RunState, StageTime
from ouroscope.records.training import FineTune
from ouroscope.telemetry import tracing
from services.coordinator import across, choosing, plan
from services.coordinator.across import Across, Beginnings
from services.coordinator.answers import measured, published
from services.coordinator.board import Board
from services.coordinator.choices import Choice, Chosen, is_work, whole
from services.coordinator.database import History
from services.coordinator.dataset.texts import Dataset, Texts
from services.coordinator.patience import Patiently
from services.coordinator.plan import Lane
from services.coordinator.rows import Counted
from services.coordinator.verdicts import run_verdicts
from services.coordinator.workers import OnProgress, Workers

DRAWN_CONCEPTS = 40
"""Concepts in the drawing of each generation's semantic network."""

Plain = Any
"""JSON: what a durable step may return, at most 64 KiB."""


class Steps(Protocol):
    """Makes a piece of work durable: what it returned once is returned again, in whatever process."""

    async def __call__(self, name: str, work: Callable[[], Awaitable[Plain]]) -> Plain:
        """Do the work, or return what it returned before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all lanes of a run share."""

    model: ArtifactRef
    """M_0."""
    dataset: Dataset
    across: tuple[Beginnings, ...] = ()
    """What models continue of every domain; empty where nobody asked for it."""


class Others(Protocol):
    """What a lane may wait for of the other lanes of its run."""

    async def report_of(self, lane: Lane, number: int) -> ArtifactRef:
        """Return a report of another lane, once it is there."""

    async def corpus_of(self, lane: Lane, number: int) -> ArtifactRef:
        """Return what another lane wrote, once it is there."""


class LaneStages:
    """`loop.Stages` for one lane of a run."""

    def __init__(
        self,
        lane: Lane,
        spec: RunSpec,
        setup: Setup,
        workers: Workers,
        history: History,
        board: Board,
        steps: Steps,
        patiently: Patiently,
        others: Others,
    ) -> None:
        self._lane = lane
        self._run = f"runs/{lane.run}"
        self._spec = spec
        self._setup = setup
        self._arm = plan.arm_named(spec, lane.arm)
        self._texts = setup.dataset.of(self._arm.domains)
        self._workers = workers
        self._history = history
        self._board = board
        self._steps = steps
        self._patiently = patiently
        self._others = others
        self._generation_began = time.perf_counter()
        self._in_stages = 0.0

    async def base_model(self) -> ArtifactRef:
        """Return M_0, which the setup of the run has imported."""
        return self._setup.model

    async def heldout(self) -> ArtifactRef:
        """Return text that nobody trains on."""
        return self._texts.heldout

    async def cut_windows(self, generation: int, window: WindowSpec) -> ArtifactRef:
        """Return human windows of the prompt pool."""
        request = PreparePrompts(model=self._setup.model, corpus=self._texts.prompts, window=window)

        async def work(tell: OnProgress) -> tuple[str, dict[str, Any]]:
            made = await self._workers.generator.prepare_prompts(request, tell)
            return str(made.corpus), {"human": made.corpus, "state": RunState.RUNNING}

        return ArtifactRef.parse(await self._stage(generation, "prompts", work))

    async def cut_fresh(self, generation: int, window: WindowSpec) -> ArtifactRef:
        """Return human windows to train on, where the prompts are others."""
        request = PreparePrompts(model=self._setup.model, corpus=self._texts.prompts, window=window)

        async def work(tell: OnProgress) -> tuple[str, dict[str, Any]]:
            return str((await self._workers.generator.prepare_prompts(request, tell)).corpus), {}

        return ArtifactRef.parse(await self._stage(generation, "fresh", work))

    async def write(self, request: Generate) -> ArtifactRef:
        """Return D_j."""

        async def work(tell: OnProgress) -> tuple[str, dict[str, Any]]:
            made = await self._workers.generator.generate(request, tell)
            return str(made.corpus), {"corpus": made.corpus, "model": request.model}

        return ArtifactRef.parse(await self._stage(request.generation, "generate", work))

    async def write_samples(self, model: ArtifactRef, generation: int, sampling: SamplingSpec) -> None:
        """Continue the fixed held-out windows; the same prompts in all generations."""
        window = plan.sample_window(self._spec, self._arm)
        cut = PreparePrompts(model=self._setup.model, corpus=self._texts.heldout, window=window)

        async def work(tell: OnProgress) -> tuple[str, dict[str, Any]]:
            prompts = (await self._workers.generator.prepare_prompts(cut, tell)).corpus
            request = Generate(
                model=model,
                prompts=prompts,
                sampling=sampling,
                generation=generation,
                backend=self._spec.backend,
            )
            made = await self._workers.generator.generate(request, tell)
            return str(made.corpus), {"samples": made.corpus}

        await self._stage(generation, "samples", work)

    async def score(self, generation: int, model: ArtifactRef, corpus: ArtifactRef) -> tuple[ArtifactRef, ArtifactRef]:
        """Return the probabilities of M_j on held-out text and D_j, and those of M_0 on D_j."""
        own = scoring(self._spec, self._texts, model, documents=corpus)
        evaluation = self._spec.evaluation
        base = Score(
            model=self._setup.model,
            documents=corpus,
            max_tokens=evaluation.max_tokens,
            max_documents=evaluation.scored_documents,
            backend=self._spec.backend,
        )

        async def work(tell: OnProgress) -> tuple[list[str], dict[str, Any]]:
            scored = (await self._workers.generator.score(own, tell)).predictions
            # Of generation 0 the base model is the author: its own scores hold those of its documents.
            same = model == self._setup.model
            by_base = scored if same else (await self._workers.generator.score(base, tell)).predictions
            return [str(scored), str(by_base)], {"predictions": scored}

        scored, by_base = await self._stage(generation, "score", work)
        return ArtifactRef.parse(scored), ArtifactRef.parse(by_base)

    async def analyse(
        self, generation: int, corpus: ArtifactRef, human: ArtifactRef, predictions: tuple[ArtifactRef, ArtifactRef]
    ) -> tuple[ArtifactRef, ArtifactRef]:
        """Return the reports on D_j and on the real continuation of the same prompts."""
        own = AnalyzeCorpus(
            corpus=corpus,
            predictions=predictions[0],
            base_predictions=predictions[1],
            view=View.CONTINUATION,
            drawn_concepts=DRAWN_CONCEPTS,
        )
        reference = AnalyzeCorpus(corpus=human, view=View.CONTINUATION)

        async def work(tell: OnProgress) -> tuple[list[str], dict[str, Any]]:
            report = await self._workers.analyzer.analyze_corpus(own, tell)
            human_report = await self._workers.analyzer.analyze_corpus(reference, tell)
            refs = published(report), published(human_report)
            changes = {"report": refs[0], "human_report": refs[1], "values": measured(report)}
            return [str(ref) for ref in refs], changes

        report, human_report = await self._stage(generation, "analyse", work)
        return ArtifactRef.parse(report), ArtifactRef.parse(human_report)

    async def report_of(self, arm: ArmSpec, generation: int) -> ArtifactRef:
        """Wait for the report of another arm."""
        return await self._wait_for(arm, generation, f"wait for {arm.name}", self._others.report_of)

    async def corpus_of(self, arm: ArmSpec, generation: int) -> ArtifactRef:
        """Wait for what another arm writes."""
        return await self._wait_for(arm, generation, f"wait for the text of {arm.name}", self._others.corpus_of)

    async def _wait_for(
        self, arm: ArmSpec, generation: int, name: str, result: Callable[[Lane, int], Awaitable[ArtifactRef]]
    ) -> ArtifactRef:
        """Wait for another lane; it is no work of this one, so its time is kept apart."""
        other = Lane(self._lane.run, arm.name, self._lane.seed)

        async def work() -> str:
            began = time.perf_counter()
            found = await result(other, generation)
            await self._note_time(generation, StageTime(stage="wait", seconds=time.perf_counter() - began))
            return str(found)

        return ArtifactRef.parse(await self._steps(name, work))

    async def compare(self, generation: int, wanted: Compare | None, human_gap: Compare) -> PastEffects | None:
        """Ask for the verdict and the second view; both lie in the row of the generation, effects come back."""

        async def work(tell: OnProgress) -> tuple[Plain, dict[str, Any]]:
            gap = await self._workers.analyzer.compare(human_gap)
            comparison = await self._workers.analyzer.compare(wanted) if wanted else None
            effects = comparison.as_past(generation) if comparison else None
            return to_plain(effects), {"comparison": comparison, "human_gap": gap}

        plain = await self._stage(generation, "compare", work)
        return None if plain is None else from_plain(PastEffects, plain)

    async def examine_across(self, generation: int, model: ArtifactRef, sampling: SamplingSpec) -> None:
        """Ask M_j about held-out text of every domain, let it continue some of it, and measure each domain apart."""
        prefix = self._spec.prefix_tokens(self._arm)
        wanted = Across(
            domains=tuple(domain.name for domain in self._spec.dataset.domains),
            score=scoring(self._spec, self._setup.dataset, model),
            windows=next((one.windows for one in self._setup.across if one.prefix_tokens == prefix), None),
            sampling=sampling,
            generation=generation,
        )

        async def work(tell: OnProgress) -> tuple[None, dict[str, Any]]:
            seen = await across.examine(wanted, await self._known_across(generation), self._workers, tell)
            return None, {"across": seen.reports, "across_predictions": seen.predictions, "across_corpus": seen.corpus}

        await self._stage(generation, "across", work)

    async def _known_across(self, generation: int) -> ArtifactRef | None:
        """Return what M_j expects of all domains where it was asked that already: in an arm that reads them all."""
        if self._texts is not self._setup.dataset:
            return None
        return (await self._history.generation(self._lane, generation)).generation.predictions

    async def choose(self, generation: int, wanted: Choice) -> Chosen:
        """Return T_j; whole corpora need no work."""
        if not is_work(self._arm, wanted.portions):
            return whole(wanted.portions)

        async def work(tell: OnProgress) -> tuple[Plain, dict[str, Any]]:
            chosen = await choosing.choose(wanted, self._workers, tell)
            return to_plain(chosen), {"selections": chosen.selections}

        return from_plain(Chosen, await self._stage(generation, "choose", work))

    async def fine_tune(self, generation: int, request: FineTune) -> ArtifactRef:
        """Return M_j+1."""

        async def work(tell: OnProgress) -> tuple[str, dict[str, Any]]:
            made = await self._workers.trainer.fine_tune(request, tell)
            return str(made.model), {"training": request.corpora}

        return ArtifactRef.parse(await self._stage(generation, "fine_tune", work))

    async def finish(self, generation: int) -> None:
        """Note that the generation is done, and how long the loop took beside its stages."""
        overhead = max(0.0, time.perf_counter() - self._generation_began - self._in_stages)

        async def work() -> None:
            times = (StageTime(stage="overhead", seconds=overhead),)
            kept = await self._history.change_generation(self._lane, generation, times=times, state=RunState.SUCCEEDED)
            await self._count()
            self._board.generation_done(kept)

        await self._steps("finish", work)
        self._generation_began, self._in_stages = time.perf_counter(), 0.0

    async def _stage(
        self, generation: int, stage: str, work: Callable[[OnProgress], Awaitable[tuple[Plain, dict[str, Any]]]]
    ) -> Plain:
        """Do one stage durably: tell watchers, have patience with workers, keep what came of it and its time."""
        place = (self._run, self._lane, generation, stage)

        def tell(progress: Progress) -> None:
            self._board.advance(*place, progress)

        async def step() -> Plain:
            self._board.begin(*place)
            began = time.perf_counter()
            try:
                with tracing.span(stage, lane=self._lane.workflow_id, arm=self._lane.arm, generation=generation):
                    answer, changes = await self._patiently(
                        lambda: work(tell), lambda why: self._board.wait(*place, why)
                    )
            except OuroscopeError as error:
                error.add_note(f"generation {generation}, {stage}")
                raise
            took = StageTime(stage=stage, seconds=time.perf_counter() - began)
            await self._note_time(generation, took, **changes)
            self._board.finish(self._run, self._lane, generation, took)
            return answer

        return await self._steps(stage, step)

    async def _note_time(self, generation: int, took: StageTime, **changes: Any) -> None:
        self._in_stages += took.seconds
        kept = await self._history.change_generation(self._lane, generation, times=(took,), **changes)
        if "comparison" in changes:
            await self._count()
        if "values" in changes or "comparison" in changes:
            self._board.examined(await self._history.run(self._lane.run), kept)

    async def _count(self) -> None:
        """Bring the run itself up to date: how many generations are done, and the verdicts so far."""

        def count(all_of_them: Sequence[Counted]) -> dict[str, Any]:
            done = sum(one.state is RunState.SUCCEEDED for one in all_of_them)
            judged = [one.judged for one in all_of_them if one.judged is not None]
            return {"generations_done": done, "verdicts": run_verdicts(self._spec, judged)}

        self._board.run_changed(await self._history.recount(self._lane.run, count))


def scoring(
    spec: RunSpec,
    texts: Texts,
    model: ArtifactRef,
    *,
    documents: ArtifactRef | None = None,
    unigram: ArtifactRef | None = None,
) -> Score:
    """Return how a model is examined on held-out text, on what it wrote, and beside a unigram model."""
    evaluation = spec.evaluation
    return Score(
        model=model,
        prompts=texts.questions,
        prompt_length=evaluation.prompt_length,
        prompt_unit=evaluation.prompt_unit,
        heldout=texts.heldout,
        documents=documents,
        unigram_corpus=unigram,
        max_tokens=evaluation.max_tokens,
        last_n=evaluation.last_n,
        max_documents=evaluation.scored_documents,
        backend=spec.backend,
    )
