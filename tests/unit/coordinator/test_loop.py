"""The algorithm itself, on stages that note what is asked of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ouroscope.records.analysis import Compare, Family, FamilyEffect, PastEffects
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Generate, SamplingSpec, WindowSpec
from ouroscope.records.runs import ArmSpec, PromptSelection, RunSpec, Start
from ouroscope.records.training import FineTune, LoraSpec, Method, Recipe
from services.coordinator.choices import Choice, Chosen, whole
from services.coordinator.loop import run_arm
from services.coordinator.plan import Turn

from .fakes import made, small_spec

HUMAN, REPLACE = small_spec().arms
ACCUMULATE = ArmSpec(name="keep", protocol="accumulate", real_share=0.5)
BASE = made(ArtifactKind.MODEL, "base")
HELD_OUT = made(ArtifactKind.CORPUS, "held out")


class NotedStages:
    """Answers with references made from the request, and keeps the requests."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, int, Any]] = []

    def of(self, stage: str) -> list[Any]:
        """Return what was asked of one stage, in order."""
        return [request for name, _, request in self.noted if name == stage]

    async def base_model(self) -> ArtifactRef:
        return BASE

    async def heldout(self) -> ArtifactRef:
        return HELD_OUT

    async def cut_windows(self, generation: int, window: WindowSpec) -> ArtifactRef:
        self.noted.append(("windows", generation, window))
        return made(ArtifactKind.CORPUS, window)

    async def cut_fresh(self, generation: int, window: WindowSpec) -> ArtifactRef:
        self.noted.append(("fresh", generation, window))
        return made(ArtifactKind.CORPUS, window)

    async def write(self, request: Generate) -> ArtifactRef:
        self.noted.append(("write", request.generation, request))
        return made(ArtifactKind.CORPUS, request)

    async def write_samples(self, model: ArtifactRef, generation: int, sampling: SamplingSpec) -> None:
        self.noted.append(("samples", generation, sampling))

    async def score(self, generation: int, model: ArtifactRef, corpus: ArtifactRef) -> tuple[ArtifactRef, ArtifactRef]:
        self.noted.append(("score", generation, (model, corpus)))
        return made(ArtifactKind.PREDICTIONS, model, corpus), made(ArtifactKind.PREDICTIONS, BASE, corpus)

    async def analyse(
        self, generation: int, corpus: ArtifactRef, human: ArtifactRef, predictions: tuple[ArtifactRef, ArtifactRef]
    ) -> tuple[ArtifactRef, ArtifactRef]:
        self.noted.append(("analyse", generation, (corpus, human, predictions)))
        return made(ArtifactKind.REPORT, corpus), made(ArtifactKind.REPORT, human)

    async def report_of(self, arm: ArmSpec, generation: int) -> ArtifactRef:
        self.noted.append(("report_of", generation, arm.name))
        return made(ArtifactKind.REPORT, arm.name, generation)

    async def compare(self, generation: int, wanted: Compare | None, human_gap: Compare) -> PastEffects | None:
        self.noted.append(("compare", generation, (wanted, human_gap)))
        return PastEffects(generation=generation, families=(EFFECT,)) if wanted else None

    async def corpus_of(self, arm: ArmSpec, generation: int) -> ArtifactRef:
        self.noted.append(("corpus_of", generation, arm.name))
        return made(ArtifactKind.CORPUS, arm.name, generation)

    async def examine_across(self, generation: int, model: ArtifactRef, sampling: SamplingSpec) -> None:
        self.noted.append(("across", generation, (model, sampling)))

    async def choose(self, generation: int, wanted: Choice) -> Chosen:
        self.noted.append(("choose", generation, wanted))
        return whole(wanted.portions)

    async def fine_tune(self, generation: int, request: FineTune) -> ArtifactRef:
        self.noted.append(("fine_tune", generation, request))
        return made(ArtifactKind.MODEL, request)

    async def finish(self, generation: int) -> None:
        self.noted.append(("finish", generation, None))


EFFECT = FamilyEffect(family=Family.TEXT, effect=1.0, lower=0.5, upper=1.5, p_value=0.1, metrics=("types",))


async def looped(arm: ArmSpec, **changes: Any) -> tuple[list[Turn], NotedStages, RunSpec]:
    """Run one arm of a small run."""
    spec, stages = small_spec(**changes), NotedStages()
    return await run_arm(arm, 0, spec, stages), stages, spec


async def test_generation_0_is_written_by_the_base_model_and_each_later_one_by_what_was_trained_before() -> None:
    history, stages, spec = await looped(REPLACE)
    writers = [request.model for request in stages.of("write")]
    trained = [made(ArtifactKind.MODEL, request) for request in stages.of("fine_tune")]
    assert writers == [BASE, *trained]
    assert [turn.model for turn in history] == writers
    assert len(history) == spec.generations + 1


async def test_every_generation_is_examined_and_finished_once_and_the_last_is_not_trained_on() -> None:
    _, stages, spec = await looped(REPLACE)
    for stage, count in (("write", 4), ("analyse", 4), ("compare", 4), ("finish", 4), ("fine_tune", 3)):
        assert [j for name, j, _ in stages.noted if name == stage] == list(range(count))
    assert spec.generations == 3


async def test_replace_learns_from_what_it_has_just_written_and_human_from_its_prompts() -> None:
    _, replaced, _ = await looped(REPLACE)
    _, human, _ = await looped(HUMAN)
    written = [made(ArtifactKind.CORPUS, request) for request in replaced.of("write")]
    windows = [made(ArtifactKind.CORPUS, window) for window in human.of("windows")]
    assert [request.corpora for request in replaced.of("fine_tune")] == [(corpus,) for corpus in written[:-1]]
    assert [request.corpora for request in human.of("fine_tune")] == [(corpus,) for corpus in windows[:-1]]


async def test_accumulate_adds_each_round_to_the_real_documents_of_the_start() -> None:
    _, stages, _ = await looped(ACCUMULATE)
    first = made(ArtifactKind.CORPUS, stages.of("windows")[0])
    written = [made(ArtifactKind.CORPUS, request) for request in stages.of("write")]
    assert [request.corpora for request in stages.of("fine_tune")] == [(first, *written[: j + 1]) for j in range(3)]


async def test_with_fixed_prompts_the_human_arm_still_learns_from_fresh_text() -> None:
    _, stages, _ = await looped(HUMAN, prompt_selection=PromptSelection.FIXED)
    assert len(set(stages.of("windows"))) == 1
    learnt = [request.corpora for request in stages.of("fine_tune")]
    assert len(set(learnt)) == 3


async def test_starting_from_the_base_model_changes_the_weights_and_nothing_that_is_learnt_from() -> None:
    _, stages, _ = await looped(REPLACE, start=Start.BASE)
    assert {request.model for request in stages.of("fine_tune")} == {BASE}


async def test_an_arm_is_compared_with_its_control_at_the_same_generation_with_all_earlier_effects() -> None:
    history, stages, _ = await looped(REPLACE)
    assert stages.of("report_of") == ["human"] * 4
    for j, (wanted, gap) in enumerate(stages.of("compare")):
        assert wanted.baseline == made(ArtifactKind.REPORT, "human", j)
        assert wanted.candidate == gap.candidate == history[j].report
        assert [past.generation for past in wanted.history] == list(range(j))
        assert gap.history == ()


async def test_the_human_arm_is_compared_with_its_own_beginning_and_asks_nobody() -> None:
    history, stages, _ = await looped(HUMAN)
    assert stages.of("report_of") == []
    wanted = [one for one, _ in stages.of("compare")]
    assert wanted[0] is None
    assert {one.baseline for one in wanted[1:]} == {history[0].report}


async def test_analysed_is_what_the_model_wrote_beside_the_real_continuation_of_the_same_prompts() -> None:
    _, stages, _ = await looped(REPLACE)
    for (corpus, human, _), request in zip(stages.of("analyse"), stages.of("write"), strict=True):
        assert corpus == made(ArtifactKind.CORPUS, request)
        assert human == request.prompts


async def test_two_arms_ask_for_the_same_generation_0() -> None:
    _, one, _ = await looped(REPLACE)
    _, other, _ = await looped(HUMAN)
    assert one.of("write")[0] == other.of("write")[0]
    assert one.of("score")[0] == other.of("score")[0]


@pytest.mark.parametrize("samples", [0, 4])
async def test_samples_are_written_only_where_somebody_wants_them(samples: int) -> None:
    evaluation = replace(small_spec().evaluation, samples=samples)
    _, stages, _ = await looped(REPLACE, evaluation=evaluation)
    assert len(stages.of("samples")) == (4 if samples else 0)
    assert len(set(stages.of("samples"))) == (1 if samples else 0), "only the model may differ between generations"


async def test_adapters_are_trained_on_from_generation_to_generation_like_whole_models() -> None:
    lora = Recipe(steps=2, method=Method.LORA, lora=LoraSpec(keep_adapter=True))
    history, stages, _ = await looped(REPLACE, recipe=lora, start=Start.SEQUENTIAL, backend="pool")
    asked = stages.of("fine_tune")
    assert [request.model for request in asked] == [turn.model for turn in history[:-1]]
    assert {request.recipe.lora for request in asked} == {lora.lora}
    assert [turn.model for turn in history[1:]] == [made(ArtifactKind.MODEL, request) for request in asked]


async def test_the_backend_of_the_run_writes_every_generation() -> None:
    _, stages, _ = await looped(REPLACE, backend="pool")
    assert {request.backend for request in stages.of("write")} == {"pool"}


async def test_training_hears_of_held_out_text_only_where_the_recipe_evaluates_on_it() -> None:
    _, without, _ = await looped(REPLACE)
    _, evaluated, _ = await looped(REPLACE, recipe=Recipe(steps=2, heldout_steps=1))
    assert {request.heldout for request in without.of("fine_tune")} == {None}
    assert {request.heldout for request in evaluated.of("fine_tune")} == {HELD_OUT}
