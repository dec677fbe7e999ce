"""The loop itself: one arm under one seed, generation after generation, as the papers write it down.

Every `await` is a stage whose result is a reference and survives a kill; everything decided between stages is a pure
function of `plan`. Knows neither how a stage is done nor how it is made durable: `Stages` does both, tests fake it.

Symbols: M_j = model of generation j, W_j = windows of human text whose beginnings are its prompts, D_j = what it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ouroscope.records.analysis import Compare, PastEffects
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Generate, SamplingSpec, WindowSpec
from ouroscope.records.runs import ArmSpec, RunSpec
from ouroscope.records.training import FineTune
from services.coordinator import plan
from services.coordinator.choices import Choice, Chosen
from services.coordinator.plan import Turn
from services.coordinator.protocols import Pools, training_set


class Stages(Protocol):
    """What the loop needs done. Each call is durable: asked again after a kill, it returns what it returned before."""

    async def base_model(self) -> ArtifactRef:
        """Return M_0."""

    async def heldout(self) -> ArtifactRef:
        """Return text that nobody trains on."""

    async def cut_windows(self, generation: int, window: WindowSpec) -> ArtifactRef:
        """Return human windows of the prompt pool."""

    async def cut_fresh(self, generation: int, window: WindowSpec) -> ArtifactRef:
        """Return human windows to train on, where the prompts are others."""

    async def write(self, request: Generate) -> ArtifactRef:
        """Return D_j."""

    async def write_samples(self, model: ArtifactRef, generation: int, sampling: SamplingSpec) -> None:
        """Let M_j continue the fixed held-out prompts that are shown to the reader."""

    async def score(self, generation: int, model: ArtifactRef, corpus: ArtifactRef) -> tuple[ArtifactRef, ArtifactRef]:
        """Return the probabilities of M_j on held-out text and on D_j, and those of M_0 on D_j."""

    async def analyse(
        self, generation: int, corpus: ArtifactRef, human: ArtifactRef, predictions: tuple[ArtifactRef, ArtifactRef]
    ) -> tuple[ArtifactRef, ArtifactRef]:
        """Return the report on what M_j wrote and the report on the real continuation of the same prompts."""

    async def report_of(self, arm: ArmSpec, generation: int) -> ArtifactRef:
        """Return the report of another arm at the same generation and seed, once it is there."""

    async def compare(self, generation: int, wanted: Compare | None, human_gap: Compare) -> PastEffects | None:
        """Ask for the verdict, if one is wanted, and for the second view beside real text."""

    async def corpus_of(self, arm: ArmSpec, generation: int) -> ArtifactRef:
        """Return what another arm wrote in the same generation and seed, once it is there."""

    async def examine_across(self, generation: int, model: ArtifactRef, sampling: SamplingSpec) -> None:
        """Examine M_j on held-out text of every domain, for the cross-dataset matrix."""

    async def choose(self, generation: int, wanted: Choice) -> Chosen:
        """Return the corpora that the next model is trained on, with their weights."""

    async def fine_tune(self, generation: int, request: FineTune) -> ArtifactRef:
        """Return M_j+1."""

    async def finish(self, generation: int) -> None:
        """Note that the generation is done."""


async def run_arm(arm: ArmSpec, seed: int, spec: RunSpec, stages: Stages) -> list[Turn]:
    """Let one model feed on what its protocol gives it, and examine each generation."""
    base = model = await stages.base_model()
    pools, history = Pools(), list[Turn]()
    while not plan.reason_to_stop(spec, history):
        generation = len(history)
        prompts, human = await cut(arm, seed, spec, generation, stages)
        sampling = plan.sampling(spec, arm, seed, generation)
        asked = Generate(model=model, prompts=prompts, sampling=sampling, generation=generation, backend=spec.backend)
        corpus = await stages.write(asked)
        if spec.evaluation.samples:
            await stages.write_samples(model, generation, plan.sample_sampling(spec, arm, seed))
        history.append(await examine(arm, spec, generation, model, corpus, prompts, history, stages))
        if plan.across_wanted(spec, generation):
            await stages.examine_across(generation, model, plan.across_sampling(spec, arm, seed))
        if not plan.is_last(spec, generation):
            others = [await stages.corpus_of(other, generation) for other in plan.feeders_of(spec, arm)]
            pools = pools.with_round(human, corpus, tuple(others), prompts)
            model = await train(arm, seed, spec, generation, base, model, pools, stages)
        await stages.finish(generation)
    return history


async def train(
    arm: ArmSpec,
    seed: int,
    spec: RunSpec,
    generation: int,
    base: ArtifactRef,
    model: ArtifactRef,
    pools: Pools,
    stages: Stages,
) -> ArtifactRef:
    """Choose T_j under the protocol and fine-tune M_j on it; a protocol that gives nothing leaves M_j as it is."""
    portions = training_set(arm.protocol, pools, plan.terms_of(spec, arm))
    if not portions:
        return model
    chosen = await stages.choose(generation, plan.choice(spec, arm, seed, generation, model, portions, pools))
    request = FineTune(
        model=plan.start_of(spec, base, model),
        corpora=chosen.corpora,
        corpus_weights=chosen.weights,
        recipe=plan.recipe(spec, seed, generation),
        heldout=plan.heldout_of(spec, await stages.heldout()),
    )
    return await stages.fine_tune(generation, request)


async def cut(
    arm: ArmSpec, seed: int, spec: RunSpec, generation: int, stages: Stages
) -> tuple[ArtifactRef, ArtifactRef]:
    """Return W_j and the fresh human documents of round j; with fresh prompts they are one corpus."""
    wanted = plan.prompt_window(spec, arm, seed, generation)
    fresh = plan.human_window(spec, arm, seed, generation)
    prompts = await stages.cut_windows(generation, wanted)
    return prompts, prompts if fresh == wanted else await stages.cut_fresh(generation, fresh)


async def examine(
    arm: ArmSpec,
    spec: RunSpec,
    generation: int,
    model: ArtifactRef,
    corpus: ArtifactRef,
    prompts: ArtifactRef,
    history: Sequence[Turn],
    stages: Stages,
) -> Turn:
    """Measure M_j and D_j, and compare them with the control arm, else with the arm's own beginning."""
    predictions = await stages.score(generation, model, corpus)
    report, human_report = await stages.analyse(generation, corpus, prompts, predictions)
    control = spec.control_of(arm)
    baseline = await stages.report_of(control, generation) if control else plan.own_baseline(history)
    effects = await stages.compare(
        generation,
        plan.comparison_wanted(spec, baseline, report, history),
        plan.human_gap_wanted(spec, human_report, report),
    )
    return Turn(model=model, report=report, effects=effects)
