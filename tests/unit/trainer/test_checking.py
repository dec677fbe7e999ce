"""What a recipe asks for in vain is told at once, all of it, without weights and before anything is computed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ouroscope.errors import CapabilityMissing, InvalidRequest, NotFound, UntrustedArtifact
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import ChatFormat
from ouroscope.records.training import BaseWeights, LoraSpec, Method, Optimizer, Recipe
from services.trainer.checking import check_stored, one_process
from services.trainer.group.hosts import Hosts
from services.trainer.group.launch import Launcher

GOOD = Recipe(steps=4, batch_size=2, block_tokens=16)
LORA = replace(GOOD, method=Method.LORA, lora=LoraSpec(rank=2, keep_adapter=True))
FOUR_BIT = replace(LORA, lora=replace(LORA.lora, base_weights=BaseWeights.FOUR_BIT))


@pytest.fixture
def check(store, model, environment):
    """Ask of a trainer that has two processes."""
    launcher = Launcher(store=store, hosts=Hosts(processes=2))

    def check(recipe, model=model, able=launcher.check):
        check_stored(store, model, recipe, environment, able)

    return check


@pytest.mark.parametrize(
    "recipe",
    [
        GOOD,
        LORA,
        replace(GOOD, processes=2),
        replace(GOOD, gradient_checkpointing=True, optimizer=Optimizer.ADAFACTOR),
        replace(LORA, lora=replace(LORA.lora, targets=("q_proj", "down_proj"))),
        # Of a method that is not asked for, nothing is asked.
        replace(FOUR_BIT, method=Method.FULL),
        replace(GOOD, lora=LoraSpec(targets=("q_prj",))),
    ],
)
def test_what_can_be_done_is_not_refused(check, recipe):
    check(recipe)


@pytest.mark.parametrize(
    ("recipe", "field", "told"),
    [
        (FOUR_BIT, "recipe.lora.base_weights", "FOUR_BIT needs a GPU .* BFLOAT16"),
        (replace(GOOD, optimizer=Optimizer.ADAMW_8BIT), "recipe.optimizer", "ADAMW_8BIT needs a GPU"),
        (replace(GOOD, optimizer=Optimizer.ADAFACTOR, processes=2), "recipe.optimizer", "one process only"),
        (replace(GOOD, batch_size=4, processes=4), "recipe.processes", "at most 2"),
    ],
)
def test_what_this_trainer_lacks_is_a_missing_capability_that_names_its_field(check, recipe, field, told):
    with pytest.raises(CapabilityMissing, match=told) as refused:
        check(recipe)
    assert refused.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("recipe", "field", "told"),
    [
        (replace(GOOD, block_tokens=65), "recipe.block_tokens", "at most the 64 tokens"),
        (
            replace(LORA, lora=LoraSpec(targets=("q_prj", "up_proj"))),
            "recipe.lora.targets",
            "^q_prj is no linear .*q_proj",
        ),
        (replace(GOOD, chat=ChatFormat()), "recipe.chat", "no chat template"),
    ],
)
def test_what_does_not_fit_the_model_is_a_problem_of_its_field(check, recipe, field, told):
    with pytest.raises(InvalidRequest) as refused:
        check(recipe)
    (problem,) = refused.value.problems
    assert problem.field == field
    assert re.search(told, problem.description)


def test_everything_is_told_at_once(check):
    lora = replace(FOUR_BIT.lora, targets=("q_prj",))
    wrong = replace(FOUR_BIT, lora=lora, block_tokens=65, chat=ChatFormat(), batch_size=4, processes=4)
    with pytest.raises(InvalidRequest) as refused:
        check(wrong)
    assert [problem.field for problem in refused.value.problems] == [
        "recipe.lora.base_weights",
        "recipe.lora.base_weights",
        "recipe.processes",
        "recipe.block_tokens",
        "recipe.chat",
        "recipe.lora.targets",
    ]
    with pytest.raises(CapabilityMissing, match=r"FOUR_BIT needs a GPU .*; .*at most 2") as lacking:
        check(replace(FOUR_BIT, batch_size=4, processes=4))
    assert lacking.value.metadata["field"] == "recipe.lora.base_weights, recipe.processes"


def test_a_trainer_without_helpers_works_in_one_process(check):
    check(GOOD, able=one_process)
    with pytest.raises(CapabilityMissing, match="works in one process"):
        check(replace(GOOD, processes=2), able=one_process)


def test_training_refuses_the_same_and_all_of_it_at_once(tune, make_control):
    control = make_control()
    with pytest.raises(InvalidRequest) as refused:
        tune(replace(LORA, block_tokens=65, lora=LoraSpec(targets=("q_prj",))), control=control)
    assert [problem.field for problem in refused.value.problems] == ["recipe.block_tokens", "recipe.lora.targets"]
    assert control.reports == []


def test_weights_are_not_read(check, store, model_directory):
    files = {path.name: path for path in model_directory.iterdir()}
    # No weights at all: safetensors that end in the middle of their header.
    hollow = store.publish(ArtifactKind.MODEL, None, {**files, "model.safetensors": b"\x00" * 4})
    check(LORA, model=hollow)


def test_an_adapter_that_would_move_on_must_be_what_the_recipe_says(check, tune):
    begun = tune(LORA).model
    check(LORA, model=begun)
    check(GOOD, model=begun)
    with pytest.raises(InvalidRequest, match=r"recipe\.lora\.rank is 4, the stored adapter has 2"):
        check(replace(LORA, lora=replace(LORA.lora, rank=4)), model=begun)
    with pytest.raises(InvalidRequest) as refused:
        check(replace(FOUR_BIT, lora=replace(FOUR_BIT.lora, keep_adapter=False)), model=begun)
    assert [problem.field for problem in refused.value.problems] == [
        "recipe.lora.base_weights",
        "recipe.lora.keep_adapter",
    ]


def test_a_model_that_is_not_there_or_not_known_is_told_as_such(check, store, model_directory):
    with pytest.raises(NotFound):
        check(GOOD, model=ArtifactRef(ArtifactKind.MODEL, "0" * 64))
    files = {path.name: path for path in model_directory.iterdir()}
    strange = store.publish(ArtifactKind.MODEL, None, {**files, "config.json": b'{"model_type": "ouroboros"}'})
    with pytest.raises(UntrustedArtifact, match="transformers cannot open it"):
        check(GOOD, model=strange)
    coded = store.publish(ArtifactKind.MODEL, None, {**files, "config.json": b'{"auto_map": {"AutoModel": "x.y"}}'})
    with pytest.raises(UntrustedArtifact, match="auto_map"):
        check(GOOD, model=coded)
