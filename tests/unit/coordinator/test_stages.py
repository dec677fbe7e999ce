"""The stages over stand-in workers: what is asked of whom, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ouroscope.errors import StorageFull
from ouroscope.records.analysis import AnalyzeCorpus, Compare, Verdict
from ouroscope.records.documents import View
from ouroscope.records.generation import Generate, PreparePrompts, Score
from ouroscope.records.runs import RunSpec, RunState
from ouroscope.records.training import FineTune
from services.coordinator import plan
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.durable import LARGEST_ANSWER
from services.coordinator.loop import run_arm
from services.coordinator.patience import Patiently
from services.coordinator.stages import LaneStages

from .conftest import SETUP, a_run, not_durable
from .fakes import Team, gone, small_spec

SPEC = small_spec(generations=2)


async def run_all(spec: RunSpec, team: Team, history: History, board: Board, steps: Any = not_durable) -> None:
    """Run all lanes of a run side by side."""
    await history.create_run("r", a_run(spec, state=RunState.RUNNING), None)
    board.open(await history.run("r"))
    patiently = Patiently(limit=5, first_pause=0.001)

    async def one(lane: plan.Lane) -> None:
        stages = LaneStages(lane, spec, SETUP, team.workers, history, board, steps, patiently, history)
        await run_arm(plan.arm_named(spec, lane.arm), lane.seed, spec, stages)

    async with asyncio.TaskGroup() as group:
        for lane in plan.lanes_of("r", spec):
            group.create_task(one(lane))


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "workers")


async def test_every_generation_is_kept_whole(history: History, team: Team) -> None:
    await run_all(SPEC, team, history, Board())
    kept = await history.generations("r")
    assert [(one.lane.arm, one.generation.number) for one in kept] == [
        (arm, number) for arm in ("human", "replace") for number in range(3)
    ]
    for one in kept:
        generation = one.generation
        assert generation.state is RunState.SUCCEEDED
        wanted = ("model", "corpus", "human", "samples", "predictions", "report", "human_report", "human_gap")
        assert all(getattr(generation, name) is not None for name in wanted)
        assert bool(generation.training) == (generation.number < 2)
        assert {value.id for value in one.values} == {"token_entropy", "yule_k", "heldout_perplexity"}
        planned = {*plan.stages_of(SPEC, SPEC.arms[0], generation.number), "overhead"}
        assert {time.stage for time in generation.stages} - {"wait"} == planned


async def test_the_run_is_counted_and_judged_as_it_goes(history: History, team: Team) -> None:
    await run_all(small_spec(generations=4), team, history, Board())
    run = await history.run("r")
    assert run.generations_done == run.generations_total == 10
    assert {verdict.arm: verdict.verdict for verdict in run.verdicts}["replace"] is Verdict.COLLAPSE


async def test_generation_0_of_all_arms_is_one_piece_of_work(history: History, team: Team) -> None:
    await run_all(SPEC, team, history, Board())
    kept = {(one.lane.arm, one.generation.number): one.generation for one in await history.generations("r")}
    human, replace = kept["human", 0], kept["replace", 0]
    assert (human.corpus, human.report) == (replace.corpus, replace.report)
    assert human.comparison is None
    assert replace.comparison is None
    assert kept["human", 1].report != kept["replace", 1].report


async def test_models_are_asked_about_held_out_text_and_the_base_model_about_what_others_wrote(
    history: History, team: Team
) -> None:
    await run_all(SPEC, team, history, Board())
    scores = {request for request in team.asked if isinstance(request, Score)}
    own = [request for request in scores if request.heldout is not None]
    by_base = [request for request in scores if request.heldout is None]
    assert {request.heldout for request in own} == {SETUP.dataset.heldout}
    assert {request.prompts for request in own} == {SETUP.dataset.questions}
    assert {request.model for request in by_base} == {SETUP.model}
    assert len(own) == 5, "generation 0 is shared, and two more in each arm"
    assert len(by_base) == 4, "its author is the base model, whose scores are there already"


async def test_only_what_a_model_wrote_is_analysed(history: History, team: Team) -> None:
    await run_all(SPEC, team, history, Board())
    asked = [request for request in team.asked if isinstance(request, AnalyzeCorpus)]
    assert {request.view for request in asked} == {View.CONTINUATION}


async def test_prompts_are_cut_with_the_tokenizer_of_the_base_model(history: History, team: Team) -> None:
    await run_all(SPEC, team, history, Board())
    cuts = [request for request in team.asked if isinstance(request, PreparePrompts)]
    assert {request.model for request in cuts} == {SETUP.model}
    assert {request.corpus for request in cuts} == {SETUP.dataset.prompts, SETUP.dataset.heldout}


async def test_samples_have_the_same_prompts_in_all_generations(history: History, team: Team) -> None:
    await run_all(SPEC, team, history, Board())
    prompts = await sample_prompts(team)
    samples = {r for r in team.asked if isinstance(r, Generate) and r.prompts in prompts}
    assert len({request.model for request in samples}) == 5
    assert len({(request.prompts, request.sampling) for request in samples}) == 1


async def sample_prompts(team: Team) -> set[Any]:
    """Return the windows of held-out text."""
    cuts = [r for r in team.asked if isinstance(r, PreparePrompts) and r.corpus == SETUP.dataset.heldout]
    return {(await team.prepare_prompts(request)).corpus for request in cuts}


async def test_an_arm_is_judged_beside_its_control_and_both_beside_real_text(history: History, team: Team) -> None:
    await run_all(SPEC, team, history, Board())
    kept = {(one.lane.arm, one.generation.number): one.generation for one in await history.generations("r")}
    asked = [request for request in team.asked if isinstance(request, Compare)]
    for number in (1, 2):
        human, replace = kept["human", number], kept["replace", number]
        of_arm = next(one for one in asked if one.baseline == human.report)
        assert of_arm.candidate == replace.report
        assert [past.generation for past in of_arm.history] == list(range(1, number))
        for one in (human, replace):
            assert any((r.baseline, r.candidate) == (one.human_report, one.report) for r in asked)


async def test_steps_return_references_that_are_json_and_small(history: History, team: Team) -> None:
    answers: list[Any] = []

    async def noted(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        answers.append(await work())
        return json.loads(json.dumps(answers[-1]))

    await run_all(SPEC, team, history, Board(), noted)
    assert max(len(json.dumps(answer)) for answer in answers) < LARGEST_ANSWER / 10


async def test_both_arms_train_the_same_number_of_steps_with_the_same_recipe(history: History, team: Team) -> None:
    await run_all(SPEC, team, history, Board())
    recipes = [request.recipe for request in team.asked if isinstance(request, FineTune)]
    assert len(recipes) == 4
    assert len(set(recipes)) == 2, "they differ between generations in their seed, and between arms in nothing"


async def test_a_worker_that_comes_back_is_waited_for(history: History, team: Team) -> None:
    team.trouble["fine_tune"] = gone()
    await run_all(SPEC, team, history, Board())
    assert (await history.run("r")).generations_done == 6


async def test_a_failure_knows_where_it_happened(history: History, team: Team) -> None:
    team.trouble["compare"] = StorageFull("no room")
    with pytest.raises(ExceptionGroup) as caught:
        await run_all(SPEC, team, history, Board())
    (error,) = caught.value.exceptions
    assert error.__notes__ == ["generation 0, compare"]


async def test_everything_that_runs_a_model_names_the_backend_of_the_run(history: History, team: Team) -> None:
    await run_all(small_spec(generations=1, backend="pool"), team, history, Board())
    asked = [request for request in team.asked if isinstance(request, Generate | Score)]
    assert {type(request) for request in asked} == {Generate, Score}
    assert {request.backend for request in asked} == {"pool"}
