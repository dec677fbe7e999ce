"""What a run does before its arms begin: who is asked what, and what is told before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest, NotFound
from ouroscope.records.generation import Score
from ouroscope.records.runs import RunState
from ouroscope.records.training import CheckRecipe
from ouroscope.store import ArtifactStore
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.patience import Patiently
from services.coordinator.setup import RunSetup

from .conftest import a_run, not_durable
from .fakes import Team, gone, small_spec, write_dataset


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "workers")


@pytest.fixture
async def setup(history: History, team: Team, tmp_path: Path) -> RunSetup:
    spec = small_spec(dataset=write_dataset(tmp_path))
    await history.create_run("r", a_run(spec, state=RunState.RUNNING), None)
    board = Board()
    board.open(await history.run("r"))
    store, patiently = ArtifactStore(tmp_path / "store"), Patiently(limit=5, first_pause=0.001)
    return RunSetup("r", spec, store, team.workers, history, board, not_durable, patiently)


def asked(team: Team, kind: type[Any]) -> list[Any]:
    return [request for request in team.asked if isinstance(request, kind)]


@pytest.mark.parametrize(
    "refusal",
    [
        CapabilityMissing("FOUR_BIT needs a GPU"),
        InvalidRequest("too long", [FieldProblem("recipe.block_tokens", "must be at most 64")]),
    ],
)
async def test_a_recipe_that_the_trainer_refuses_ends_the_run_before_anything_is_scored(
    setup: RunSetup, team: Team, refusal: Exception
) -> None:
    team.trouble["recipe"] = refusal
    with pytest.raises(type(refusal)) as told:
        await setup.prepare()
    assert told.value is refusal
    assert asked(team, Score) == []


async def test_a_model_that_is_not_there_is_told_before_any_text_is_gathered(
    setup: RunSetup, team: Team, history: History
) -> None:
    team.trouble["import"] = NotFound("there is no model 'gpt-5000'")
    with pytest.raises(NotFound, match="gpt-5000"):
        await setup.prepare()
    assert await history.artifacts("r") == {}


async def test_a_model_is_looked_for_once_more_only_while_there_is_no_text(setup: RunSetup, team: Team) -> None:
    await setup.prepare()
    before = team.asked.count("ouro-tiny")
    await setup.prepare()
    assert (before, team.asked.count("ouro-tiny")) == (2, 3)


async def test_the_trainer_is_asked_about_the_base_model_with_the_recipe_of_the_run(
    setup: RunSetup, team: Team, history: History
) -> None:
    made = await setup.prepare()
    (question,) = asked(team, CheckRecipe)
    assert question.model == made.model
    spec = (await history.run("r")).spec
    assert question.recipe.steps == spec.recipe.steps
    assert len(asked(team, Score)) == 1


async def test_a_trainer_that_is_away_is_waited_for(setup: RunSetup, team: Team) -> None:
    team.trouble["recipe"] = gone()
    await setup.prepare()
    assert len(asked(team, CheckRecipe)) == 2
