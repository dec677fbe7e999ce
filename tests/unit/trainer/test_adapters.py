"""Low-rank adapters: what they add, what is published of them, and how the next generation goes on. Oracle: peft."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ouroscope.adapters import check_adapter_directory, check_fits
from ouroscope.errors import InvalidRequest, UntrustedArtifact
from ouroscope.models import weight_shapes
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.training import BaseWeights, LoraSpec, Method, Recipe
from ouroscope.stored_models import BASE, base_of, stored_model
from services.generator.in_process.backend import HfBackend
from services.trainer.adapters import merged, with_adapters
from services.trainer.finetune import trainable
from services.trainer.opening import open_learner, open_model

# Of peft's own class around a model, which we do not use.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

LORA = LoraSpec(rank=4, alpha=8.0, keep_adapter=True)
KEPT = Recipe(method=Method.LORA, lora=LORA, steps=10, batch_size=2, block_tokens=24, learning_rate=2e-2)
MERGED = replace(KEPT, lora=replace(LORA, keep_adapter=False))
STILL = replace(KEPT, steps=1, learning_rate=1e-12)
TOKENS = torch.arange(1, 30)[None]


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


def opened_by_peft(store, ref):
    stored = stored_model(store, ref)
    base = AutoModelForCausalLM.from_pretrained(stored.directory, dtype=torch.float32)
    return PeftModel.from_pretrained(base, stored.adapter)


def opened_whole(store, ref):
    return AutoModelForCausalLM.from_pretrained(store.directory(ref), dtype=torch.float32)


@pytest.mark.parametrize("lora", [LORA, replace(LORA, rank_stabilized=True)], ids=["plain", "rank stabilised"])
def test_a_published_adapter_is_to_peft_what_the_merged_model_is_to_transformers(tune, store, lora, exact):
    adapter = tune(replace(KEPT, lora=lora), environment=exact)
    whole = tune(replace(KEPT, lora=replace(lora, keep_adapter=False)), environment=exact)
    assert adapter.losses == whole.losses
    expected = logits(opened_whole(store, whole.model))
    assert torch.allclose(logits(opened_by_peft(store, adapter.model)), expected, atol=1e-5)
    assert not torch.allclose(logits(opened_whole(store, base_of(store, adapter.model))), expected, atol=1e-2)


def test_rank_stabilised_adapters_are_scaled_by_the_root_of_their_rank(model_directory, environment):
    deltas = []
    for stabilised in (False, True):
        base = open_model(model_directory, environment)
        name, before = next((n, w.clone()) for n, w in base.named_parameters() if n.endswith("q_proj.weight"))
        learner = with_adapters(base, replace(LORA, rank_stabilized=stabilised), seed=0)
        with torch.no_grad():
            for factor, weight in trainable(learner).items():
                if "lora_B" in factor:
                    weight.fill_(0.01)
        deltas.append(merged(learner).state_dict()[name] - before)
    # alpha / sqrt(4) is twice alpha / 4.
    assert torch.allclose(deltas[1], 2 * deltas[0], atol=1e-6)


def test_a_published_adapter_lies_beside_its_base_and_names_it(tune, store, model):
    ref = tune(KEPT).model
    folder = store.directory(ref)
    assert {path.name for path in folder.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert base_of(store, ref) == model
    checked = check_adapter_directory(folder)
    assert checked.base == model
    assert store.manifest(ref).summary["parameters"] == checked.parameters
    check_fits(checked, weight_shapes(store.directory(model)))
    assert json.loads((folder / "ouroscope.json").read_text())["made_by"]["recipe"]["lora"]["keep_adapter"] is True
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < sum(path.stat().st_size for path in store.directory(model).iterdir())


def test_the_same_training_gives_the_same_bytes_and_none_of_them_tells_of_this_machine(tune, store, model, tmp_path):
    first, second = tune(KEPT), tune(KEPT)
    assert first == second
    folder = store.directory(first.model)
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in folder.iterdir())
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(model)
    # peft holds them as a set, whose order is that of the process.
    assert settings["target_modules"] == sorted(settings["target_modules"])


def test_the_digest_of_an_adapter_depends_on_its_base(tune, store, model, model_directory):
    files = {path.name: path for path in model_directory.iterdir()}
    config = json.loads((model_directory / "config.json").read_text())
    files["config.json"] = json.dumps({**config, "note": "another base"}).encode()
    other = store.publish(ArtifactKind.MODEL, None, files)
    mine, theirs = tune(KEPT).model, tune(KEPT, model=other).model
    weights = [load_file(store.directory(ref) / "adapter_model.safetensors") for ref in (mine, theirs)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert mine != theirs


def test_the_next_generation_goes_on_with_the_adapter_over_the_same_base(tune, store, model, exact):
    first = tune(KEPT, environment=exact)
    second = tune(KEPT, model=first.model, environment=exact)
    assert base_of(store, second.model) == model
    assert second.losses[0].loss < first.losses[0].loss
    # It begins where the first ended: nothing learnt, nothing changed.
    still = tune(STILL, model=first.model, environment=exact)
    before, after = (logits(opened_by_peft(store, tuned.model)) for tuned in (first, still))
    assert torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("recipe", [replace(STILL, method=Method.FULL), replace(STILL, lora=MERGED.lora)])
def test_other_training_from_an_adapter_begins_with_what_peft_merges(tune, store, model, exact, recipe):
    adapter = tune(KEPT, environment=exact).model
    tuned = tune(recipe, model=adapter, environment=exact).model
    assert base_of(store, tuned) is None
    expected = opened_by_peft(store, adapter).merge_and_unload().state_dict()
    found = opened_whole(store, tuned).state_dict()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    assert store.manifest(tuned).summary["parent"] == str(adapter)


@pytest.mark.parametrize(
    ("lora", "field"),
    [
        (replace(LORA, rank=8), "recipe.lora.rank is 8, the stored adapter has 4"),
        (replace(LORA, alpha=16.0), "recipe.lora.alpha is 16, the stored adapter has 8"),
        (replace(LORA, rank_stabilized=True), "recipe.lora.rank_stabilized"),
        (replace(LORA, targets=("q_proj",)), "recipe.lora.targets are not the modules .* down_proj"),
    ],
    ids=["rank", "alpha", "scaling", "targets"],
)
def test_a_recipe_that_does_not_agree_with_the_stored_adapter_is_refused_by_field(tune, lora, field):
    adapter = tune(STILL).model
    with pytest.raises(InvalidRequest, match=field):
        tune(replace(STILL, lora=lora), model=adapter)


def test_an_adapter_that_was_tampered_with_is_refused(tune, store, model):
    folder = store.directory(tune(STILL).model)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    settings = json.loads(files["adapter_config.json"])
    evil = {**files, "adapter_config.json": json.dumps({**settings, "auto_mapping": {"parent_library": "os"}}).encode()}
    with pytest.raises(UntrustedArtifact, match="auto_mapping"):
        tune(STILL, model=store.publish(ArtifactKind.MODEL, None, evil, {BASE: str(model)}))


@pytest.mark.parametrize("recipe", [STILL, replace(STILL, method=Method.FULL)], ids=["kept", "merged first"])
def test_an_adapter_for_another_base_is_refused(tune, store, model, tmp_path, recipe):
    folder = store.directory(tune(STILL).model)
    weights = load_file(folder / "adapter_model.safetensors")
    moved = {name.replace("layers.1.", "layers.7."): weight for name, weight in weights.items()}
    save_file(moved, tmp_path / "moved.safetensors")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    files["adapter_model.safetensors"] = (tmp_path / "moved.safetensors").read_bytes()
    with pytest.raises(UntrustedArtifact, match="adapter for another base"):
        tune(recipe, model=store.publish(ArtifactKind.MODEL, None, files, {BASE: str(model)}))


def test_an_adapter_whose_manifest_names_another_base_than_its_files_is_refused(tune, store):
    folder = store.directory(tune(STILL).model)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    other = tune(replace(STILL, method=Method.FULL)).model
    with pytest.raises(UntrustedArtifact, match=r"belongs to model/.* another base"):
        tune(STILL, model=store.publish(ArtifactKind.MODEL, "f" * 64, files, {BASE: str(other)}))


def test_a_base_in_bfloat16_takes_half_the_memory_and_its_adapters_move_in_float32(model, store, exact):
    recipe = replace(KEPT, lora=replace(LORA, base_weights=BaseWeights.BFLOAT16))
    learner = open_learner(stored_model(store, model), recipe, exact)
    kinds = {"lora_" in name: weight.dtype for name, weight in learner.named_parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}


def test_adapters_over_a_base_in_bfloat16_are_merged_into_its_exact_weights(tune, store, model, model_directory):
    tuned = tune(replace(MERGED, lora=replace(MERGED.lora, base_weights=BaseWeights.BFLOAT16)))
    assert tuned.losses[-1].loss < tuned.losses[0].loss
    base, found = (load_file(path / "model.safetensors") for path in (model_directory, store.directory(tuned.model)))
    moved = {name for name in base if not torch.equal(base[name].float(), found[name])}
    assert moved
    assert all("proj" in name for name in moved)
    assert {weight.dtype for weight in found.values()} == {torch.float32}


def test_the_generator_judges_text_by_a_kept_adapter_as_by_the_merged_model(tune, store, model, exact):
    backend = HfBackend(store, device="cpu", threads=1)
    text = list(range(1, 30))

    def judged(ref):
        (scores,) = backend.open(ref).judge([text], [1], 1, lambda *_: None)
        return torch.from_numpy(scores.log_probabilities)

    adapter, whole = (judged(tune(recipe, environment=exact).model) for recipe in (KEPT, MERGED))
    assert torch.allclose(adapter, whole, atol=1e-4)
    assert not torch.allclose(judged(model), whole, atol=0.1)
