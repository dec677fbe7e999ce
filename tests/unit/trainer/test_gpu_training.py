"""Fine-tuning on an accelerator: full, low-rank, over bases of fewer bits, and what is published of it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ouroscope.records.training import BaseWeights, LoraSpec, Method, Optimizer, Recipe
from ouroscope.stored_models import base_of, stored_model
from services.trainer.environment import prepare
from services.trainer.opening import open_learner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use through CUDA"),
]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes, which is not installed"
)

FULL = Recipe(steps=40, batch_size=2, block_tokens=24, learning_rate=5e-3, checkpoint_steps=10)
LORA = replace(FULL, method=Method.LORA, learning_rate=2e-2, lora=LoraSpec(rank=4, alpha=8.0))
LOW = replace(LORA, lora=replace(LORA.lora, base_weights=BaseWeights.BFLOAT16))
FOUR_BIT = replace(LORA, lora=replace(LORA.lora, base_weights=BaseWeights.FOUR_BIT, keep_adapter=True))
RECIPES = {
    "full": FULL,
    "activations computed again": replace(FULL, gradient_checkpointing=True),
    "adafactor": replace(FULL, optimizer=Optimizer.ADAFACTOR),
    "adapters": LORA,
    "adapters kept": replace(LORA, lora=replace(LORA.lora, keep_adapter=True)),
    "bfloat16 base": LOW,
    "truncated": replace(FULL, truncation=0.9),
}


@pytest.fixture(scope="module")
def gpu():
    return prepare(device="cuda")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_way_of_training_learns_on_a_gpu(tune, gpu, recipe):
    tuned = tune(recipe, environment=gpu)
    assert tuned.losses[-1].loss < 0.95 * tuned.losses[0].loss


@pytest.mark.parametrize("recipe", [FULL, LORA, LOW], ids=["full", "adapters", "bfloat16 base"])
def test_a_gpu_learns_to_about_the_same_loss_as_a_processor(tune, gpu, environment, recipe):
    losses = [[point.loss for point in tune(recipe, environment=place).losses] for place in (gpu, environment)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("recipe", [FULL, LORA], ids=["full", "adapters"])
def test_a_job_that_was_killed_on_a_gpu_goes_on_from_its_checkpoint(tune, gpu, make_control, killed, recipe):
    whole = tune(replace(recipe, seed=3), environment=gpu)
    with pytest.raises(killed):
        tune(recipe, environment=gpu, control=make_control(stop_after=15, stop_with=killed))
    resumed = make_control()
    tuned = tune(recipe, environment=gpu, control=resumed)
    assert resumed.steps[0] == 11
    assert tuned.losses[-1].loss == pytest.approx(whole.losses[-1].loss, rel=0.2)


def test_a_base_in_bfloat16_takes_less_memory_than_one_in_float32(store, model, gpu):
    sizes = []
    for recipe in (LORA, LOW):
        learner = open_learner(stored_model(store, model), recipe, gpu)
        sizes.append(sum(w.numel() * w.element_size() for n, w in learner.named_parameters() if "lora_" not in n))
    assert sizes[1] == sizes[0] / 2


@needs_bitsandbytes
def test_adapters_over_four_bits_learn_and_belong_to_the_exact_base(tune, store, model, gpu):
    tuned = tune(FOUR_BIT, environment=gpu)
    assert tuned.losses[-1].loss < tuned.losses[0].loss
    assert base_of(store, tuned.model) == model


@needs_bitsandbytes
def test_adapters_over_four_bits_are_merged_into_the_exact_weights(tune, store, gpu, model_directory):
    tuned = tune(replace(FOUR_BIT, lora=replace(FOUR_BIT.lora, keep_adapter=False)), environment=gpu)
    base, found = (load_file(path / "model.safetensors") for path in (model_directory, store.directory(tuned.model)))
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    assert torch.equal(base["model.embed_tokens.weight"].float(), found["model.embed_tokens.weight"])


@needs_bitsandbytes
def test_adam_with_moments_in_eight_bits_learns(tune, gpu):
    tuned = tune(replace(FULL, optimizer=Optimizer.ADAMW_8BIT), environment=gpu)
    assert tuned.losses[-1].loss < 0.95 * tuned.losses[0].loss
