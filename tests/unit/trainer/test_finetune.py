"""Training a tiny model: what it learns, that it repeats itself to the bit, and how it stops."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ouroscope.errors import Cancelled, InvalidRequest, NotFound, StorageFull, TrainingDiverged, UntrustedArtifact
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.training import FineTune, LoraSpec, Method, Recipe
from ouroscope.store import Draft
from services.trainer import finetune
from services.trainer.adapters import merged, with_adapters
from services.trainer.checkpoints import NAME
from services.trainer.data import Tokenizer
from services.trainer.environment import prepare
from services.trainer.finetune import trainable
from services.trainer.job import Job
from services.trainer.opening import open_model

FULL = Recipe(steps=12, batch_size=2, block_tokens=24, learning_rate=5e-3, checkpoint_steps=4)
LORA = replace(FULL, method=Method.LORA, lora=LoraSpec(rank=4, alpha=8.0, dropout=0.2), gradient_accumulation=2)
BOTH = pytest.mark.parametrize("recipe", [FULL, LORA], ids=["full", "lora"])


def models(store):
    return set(store.list(ArtifactKind.MODEL))


def test_a_model_is_less_surprised_by_a_text_it_was_trained_on(tune):
    tuned = tune(replace(FULL, steps=40))
    assert tuned.losses[-1].loss < 0.7 * tuned.losses[0].loss
    assert (tuned.steps, tuned.tokens, tuned.losses[-1].step) == (40, 40 * 2 * 24, 40)


def test_the_loss_of_the_first_step_is_what_the_library_computes_for_the_same_tokens(
    tune, put_corpus, model_directory, exact
):
    # One document of exactly one block, so the block is known; the oracle is the loss of transformers.
    text = "The model"
    recipe = replace(FULL, steps=1, batch_size=1, block_tokens=8)
    tuned = tune(recipe, corpora=(put_corpus([text]),), environment=exact)
    tokenizer = AutoTokenizer.from_pretrained(model_directory)
    tokens = (tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]) * 8
    block = torch.tensor([tokens[:8]])
    with torch.no_grad():
        expected = open_model(model_directory, exact)(input_ids=block, labels=block).loss
    assert tuned.losses[0].loss == pytest.approx(float(expected), rel=1e-6)


@BOTH
def test_the_same_request_gives_the_same_bytes_whatever_else_the_process_draws_and_in_whichever_thread(tune, recipe):
    first = tune(recipe)
    torch.manual_seed(99)
    torch.rand(7)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(tune(recipe)))
    thread.start()
    thread.join()
    assert answers == [first]


def test_training_leaves_the_random_state_of_the_process_as_it_was(tune):
    before = torch.get_rng_state()
    tune(replace(LORA, steps=2))
    assert torch.equal(torch.get_rng_state(), before)


@BOTH
def test_another_seed_gives_another_model(tune, recipe):
    assert tune(recipe).model != tune(replace(recipe, seed=1)).model


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_either_precision_repeats_itself_and_keeps_its_weights_in_float32(tune, store, environment, precision):
    chosen = replace(environment, precision=precision)
    first, second = (tune(replace(FULL, seed=7), environment=chosen), tune(replace(FULL, seed=7), environment=chosen))
    assert first == second
    weights = load_file(store.directory(first.model) / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@BOTH
@pytest.mark.parametrize("killed_after", [3, 9])
def test_a_killed_job_ends_with_the_same_bytes_as_an_undisturbed_one(
    tune, make_control, draft, killed, recipe, killed_after
):
    control = make_control(stop_after=killed_after, stop_with=killed)
    with pytest.raises(killed):
        tune(recipe, control=control)
    assert draft(recipe).has(NAME) is (killed_after >= 4)
    resumed = make_control()
    second = tune(recipe, control=resumed)
    assert resumed.steps[0] == killed_after // 4 * 4 + 1
    assert not draft(recipe).names()
    assert tune(recipe) == second


@BOTH
def test_a_cancelled_job_publishes_nothing_and_goes_on_where_it_was(tune, make_control, store, recipe):
    before = models(store)
    with pytest.raises(Cancelled):
        tune(recipe, control=make_control(stop_after=7))
    assert models(store) == before
    resumed = make_control()
    second = tune(recipe, control=resumed)
    assert resumed.steps[0] == 8
    assert tune(recipe) == second


def test_a_damaged_checkpoint_costs_time_and_changes_nothing(tune, make_control, draft):
    expected = tune(FULL)
    draft(FULL).write(NAME, b"not a checkpoint")
    control = make_control()
    assert tune(FULL, control=control) == expected
    assert control.steps[0] == 1


def test_a_checkpoint_that_would_run_code_is_not_obeyed(tune, draft, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"weights": Payload()}, tmp_path / "evil")
    draft(FULL).write(NAME, (tmp_path / "evil").read_bytes())
    tune(FULL)
    assert not (tmp_path / "owned").exists()


def test_a_full_disk_is_told_and_the_checkpoint_before_it_survives(tune, make_control, store, draft, monkeypatch):
    write, written = Draft.write, []

    def write_once(self, name, data):
        if written:
            raise StorageFull("no room")
        written.append(name)
        write(self, name, data)

    before = models(store)
    with monkeypatch.context() as patch:
        patch.setattr(Draft, "write", write_once)
        with pytest.raises(StorageFull):
            tune(FULL)
    assert models(store) == before
    resumed = make_control()
    tune(FULL, control=resumed)
    assert resumed.steps[0] == 5


def test_weights_that_run_away_end_as_divergence_and_leave_nothing(tune, store, draft, monkeypatch):
    monkeypatch.setattr(finetune, "learning_rate", lambda step, recipe: 1e30 if step == 5 else 1e-3)
    before = models(store)
    with pytest.raises(TrainingDiverged, match=r"step 7 of 12 .* recipe\.learning_rate"):
        tune(FULL)
    assert models(store) == before
    assert not draft(FULL).names()


def test_accumulating_two_small_batches_teaches_the_same_as_one_large(tune, exact):
    large, small = FULL, replace(FULL, batch_size=1, gradient_accumulation=2)
    losses = [[point.loss for point in tune(recipe, environment=exact).losses] for recipe in (large, small)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_progress_names_the_stages_and_counts_the_steps(tune, make_control):
    control = make_control()
    tune(FULL, control=control)
    assert list(dict.fromkeys(report.stage for report in control.reports)) == ["read", "train", "publish"]
    assert control.steps == list(range(1, 13))
    last = next(report for report in reversed(control.reports) if report.stage == "train")
    assert last.seconds_left == 0
    assert last.tokens_per_second > 0
    assert last.loss > 0


def test_only_adapters_move(model_directory, environment):
    model = with_adapters(open_model(model_directory, environment), LORA.lora, seed=0)
    assert trainable(model)
    assert all("lora_" in name for name in trainable(model))


def test_adapters_begin_as_no_change_at_all(model_directory, environment):
    tokens = torch.arange(1, 20)[None]
    plain = open_model(model_directory, environment)
    with torch.no_grad():
        before = plain(input_ids=tokens).logits
        after = with_adapters(plain, replace(LORA.lora, dropout=0.0), seed=0)(input_ids=tokens).logits
    assert torch.equal(before, after)


def test_merged_weights_are_base_plus_scaled_product_of_the_adapters(model_directory, environment):
    base = {name: weight.clone() for name, weight in open_model(model_directory, environment).state_dict().items()}
    model = with_adapters(open_model(model_directory, environment), LORA.lora, seed=0)
    factors = trainable(model)
    with torch.no_grad():
        for name, weight in factors.items():
            if "lora_B" in name:
                weight.fill_(0.01)
    name = "model.layers.0.self_attn.q_proj"
    a, b = (factors[f"model.{name}.lora_{factor}.default.weight"].detach() for factor in "AB")
    expected = base[f"{name}.weight"] + b @ a * (8.0 / 4)
    result = merged(model).state_dict()
    assert torch.allclose(result[f"{name}.weight"], expected, atol=1e-7)
    assert torch.equal(result["model.embed_tokens.weight"], base["model.embed_tokens.weight"])


def test_adapters_leave_all_other_published_weights_alone(tune, store, model_directory):
    base = load_file(model_directory / "model.safetensors")
    tuned = load_file(store.directory(tune(LORA).model) / "model.safetensors")
    moved = {name for name in base if not torch.equal(base[name].float(), tuned[name])}
    assert moved
    assert all("proj" in name for name in moved)


def test_an_unknown_target_of_adapters_is_named_beside_those_that_exist(tune):
    with pytest.raises(InvalidRequest, match=r"nonsense .* q_proj"):
        tune(replace(LORA, lora=LoraSpec(targets=("q_proj", "nonsense"))))


@BOTH
def test_what_is_published_is_a_plain_model_with_the_tokenizer_of_its_base(
    tune, store, model_directory, recipe, tmp_path
):
    folder = store.directory(tune(recipe).model)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (model_directory / name).read_bytes()
    config, base = (json.loads((path / "config.json").read_text()) for path in (folder, model_directory))
    assert config == {**base, "dtype": "float32"}
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float32}
    assert set(load_file(folder / "model.safetensors")) == set(load_file(model_directory / "model.safetensors"))
    AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in folder.iterdir())


def test_a_published_model_says_what_it_was_made_of(tune, store, model, corpus):
    lineage = json.loads(store.read(tune(FULL).model, "ouroscope.json"))["made_by"]
    assert lineage["model"] == str(model)
    assert lineage["corpora"] == [str(corpus)]
    assert lineage["recipe"]["steps"] == 12


def test_a_chain_of_generations_starts_where_the_one_before_ended(tune, store):
    first = tune(FULL)
    second = tune(FULL, model=first.model)
    assert second.losses[0].loss < first.losses[0].loss
    assert second.model != first.model


def test_a_text_that_spells_the_end_token_does_not_end_its_document(model_directory):
    tokenizer = Tokenizer(model_directory, vocabulary=320)
    (tokens,) = tokenizer.tokens([Document(id="d", text="tail <|end|> head")], lambda: None)
    assert tokenizer.end not in tokens


def test_a_tokenizer_that_knows_more_tokens_than_the_weights_is_refused(model_directory):
    with pytest.raises(UntrustedArtifact, match="tokenizer"):
        list(Tokenizer(model_directory, vocabulary=3).tokens([Document(id="d", text="serpent")], lambda: None))


def test_blocks_longer_than_the_model_can_see_are_refused(tune):
    with pytest.raises(InvalidRequest, match="64 tokens"):
        tune(replace(FULL, block_tokens=65))


def test_a_model_that_is_not_there_and_a_reference_of_the_wrong_kind_are_told(tune, corpus):
    with pytest.raises(NotFound):
        tune(FULL, model=ArtifactRef(ArtifactKind.MODEL, "0" * 64))
    with pytest.raises(InvalidRequest, match="model must refer to a model"):
        tune(FULL, model=corpus)


def test_a_model_with_a_program_beside_it_is_refused(tune, store, model_directory):
    files = {path.name: path for path in model_directory.iterdir()}
    poisoned = store.publish(ArtifactKind.MODEL, None, {**files, "modeling_evil.py": b"raise SystemExit"})
    with pytest.raises(UntrustedArtifact, match="is a program"):
        tune(FULL, model=poisoned)


def test_a_model_that_lacks_weights_is_refused_rather_than_completed_at_random(tune, store, model_directory):
    config = json.loads((model_directory / "config.json").read_text())
    files = {path.name: path for path in model_directory.iterdir()}
    files["config.json"] = json.dumps({**config, "num_hidden_layers": 3}).encode()
    with pytest.raises(UntrustedArtifact, match="missing"):
        tune(FULL, model=store.publish(ArtifactKind.MODEL, None, files))


def test_a_quantised_model_is_refused(tune, store, model_directory):
    config = json.loads((model_directory / "config.json").read_text())
    files = {path.name: path for path in model_directory.iterdir()}
    files["config.json"] = json.dumps({**config, "quantization_config": {"bits": 4}}).encode()
    with pytest.raises(InvalidRequest, match="quantised"):
        tune(FULL, model=store.publish(ArtifactKind.MODEL, None, files))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator that torch can use")
@BOTH
def test_an_accelerator_learns_the_same_text_to_about_the_same_loss(store, model, corpus, make_control, recipe, tune):
    request = FineTune(model=model, corpora=(corpus,), recipe=replace(recipe, steps=30))
    job = Job(store=store, request=request, environment=prepare(device="cuda"), control=make_control())
    on_cpu = tune(request.recipe).losses
    assert [point.loss for point in job.run().losses] == pytest.approx([point.loss for point in on_cpu], rel=0.05)
