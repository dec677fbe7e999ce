"""Every option of a recipe changes what it says and nothing else, repeats itself to the bit, and survives a kill."""

from __future__ import annotations

import sys
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file

from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import CapabilityMissing, InvalidRequest
from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.documents import Document
from ouroscope.records.generation import ChatFormat
from ouroscope.records.training import BaseWeights, FineTune, LoraSpec, LossScope, Method, Optimizer, Recipe, Schedule
from services.trainer.data import Tokenizer
from services.trainer.environment import check_able
from services.trainer.heldout import MOST_BLOCKS, Heldout
from services.trainer.objective import backward
from services.trainer.opening import open_model
from services.trainer.packing import DocumentList
from services.trainer.requests import METHOD

BASE = Recipe(steps=8, batch_size=2, block_tokens=24, learning_rate=5e-3, checkpoint_steps=3)
LORA = LoraSpec(rank=4, alpha=8.0, dropout=0.2)
OPTIONS = {
    "adafactor": replace(BASE, optimizer=Optimizer.ADAFACTOR),
    "sgd": replace(BASE, optimizer=Optimizer.SGD),
    "linear": replace(BASE, schedule=Schedule.LINEAR),
    "checkpointed activations": replace(BASE, gradient_checkpointing=True),
    "continuations": replace(BASE, loss_scope=LossScope.CONTINUATION, gradient_accumulation=2),
    "truncated": replace(BASE, truncation=0.01, gradient_accumulation=2),
    "held out": replace(BASE, heldout_steps=2),
    "patience": replace(BASE, heldout_steps=2, patience=2, learning_rate=2e-2),
    "rank stabilised": replace(BASE, method=Method.LORA, lora=replace(LORA, rank_stabilized=True)),
    "adapter": replace(BASE, method=Method.LORA, lora=replace(LORA, keep_adapter=True)),
    "bfloat16 base": replace(BASE, method=Method.LORA, lora=replace(LORA, base_weights=BaseWeights.BFLOAT16)),
}
EVERY = pytest.mark.parametrize("recipe", OPTIONS.values(), ids=OPTIONS)


@pytest.fixture
def corpus(store):
    """Documents of which a part is a real prefix."""
    texts = [f"The {who} eats its {what}. " * 3 for who in ("serpent", "model", "mirror") for what in ("tail", "text")]
    return write_corpus(store, [Document(id=str(n), text=t, prefix_length=20) for n, t in enumerate(texts)])


@pytest.fixture
def heldout(put_corpus):
    return put_corpus([f"A {who} that nobody has seen." for who in ("dragon", "library")])


@pytest.fixture
def chat_model(store, model_directory):
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    files = {path.name: path for path in model_directory.iterdir()}
    return store.publish(ArtifactKind.MODEL, None, {**files, "chat_template.jinja": template.encode()})


@EVERY
def test_a_killed_job_ends_with_the_same_answer_as_an_undisturbed_one(tune, make_control, killed, heldout, recipe):
    heldout = heldout if recipe.heldout_steps else None
    with pytest.raises(killed):
        tune(recipe, control=make_control(stop_after=4, stop_with=killed), heldout=heldout)
    resumed = make_control()
    second = tune(recipe, control=resumed, heldout=heldout)
    assert resumed.steps[0] == 4
    assert tune(recipe, heldout=heldout) == second


@EVERY
def test_an_option_changes_the_model_unless_it_only_watches_or_saves_memory(tune, heldout, recipe):
    plain = replace(BASE, learning_rate=recipe.learning_rate, gradient_accumulation=recipe.gradient_accumulation)
    plain = replace(plain, method=recipe.method, lora=LORA if recipe.method is Method.LORA else plain.lora)
    with_it, without = tune(recipe, heldout=heldout if recipe.heldout_steps else None), tune(plain)
    # The request lies beside the weights, so references differ anyway.
    assert with_it.model != without.model
    same_course = with_it.losses == without.losses
    assert same_course is (recipe.gradient_checkpointing or bool(recipe.heldout_steps) or recipe.lora.keep_adapter)


@pytest.mark.parametrize("method", Method)
def test_computing_activations_again_gives_the_same_weights_with_dropout_too(tune, store, method):
    recipe = replace(BASE, method=method, lora=LORA)
    plain, spared = tune(recipe), tune(replace(recipe, gradient_checkpointing=True))
    weights = [load_file(store.directory(tuned.model) / "model.safetensors") for tuned in (plain, spared)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_computing_activations_again_saves_them(model_directory, exact):
    kept = []
    for spare in (False, True):
        model = open_model(model_directory, exact).train()
        if spare:
            model.activation_checkpointing_enable()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            backward(model, torch.arange(1, 41)[None].repeat(4, 1), 4 * 39, None, exact)
        kept.append(sum(saved))
    assert kept[1] < kept[0]


@pytest.mark.parametrize("optimizer", [Optimizer.ADAMW, Optimizer.ADAFACTOR, Optimizer.SGD])
def test_every_optimiser_learns(tune, optimizer):
    rate = 0.3 if optimizer is Optimizer.SGD else 5e-3
    tuned = tune(replace(BASE, steps=30, optimizer=optimizer, learning_rate=rate))
    assert tuned.losses[-1].loss < 0.8 * tuned.losses[0].loss


def test_what_needs_a_gpu_is_refused_without_one_and_says_what_would_do(tune, environment):
    four_bit = replace(BASE, method=Method.LORA, lora=replace(LORA, base_weights=BaseWeights.FOUR_BIT))
    with pytest.raises(CapabilityMissing, match=r"FOUR_BIT needs a GPU .* BFLOAT16"):
        tune(four_bit)
    with pytest.raises(CapabilityMissing, match=r"ADAMW_8BIT needs a GPU .* ADAFACTOR"):
        tune(replace(BASE, optimizer=Optimizer.ADAMW_8BIT))
    # Without adapters the number type of weights that do not move means nothing.
    check_able(replace(four_bit, method=Method.FULL), environment)


def test_a_missing_library_is_named(environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CapabilityMissing, match="bitsandbytes, which is not installed"):
        check_able(replace(BASE, optimizer=Optimizer.ADAMW_8BIT), replace(environment, device="cuda"))


def test_held_out_losses_are_told_after_every_so_many_steps_and_after_the_last(tune, heldout, make_control):
    control = make_control()
    tuned = tune(replace(BASE, heldout_steps=3), heldout=heldout, control=control)
    assert [point.step for point in tuned.heldout_losses] == [3, 6, 8]
    reports = [report for report in control.reports if report.stage == "train"]
    told = {report.done: report.heldout_loss for report in reports}
    assert told[2] is None
    assert [told[point.step] for point in tuned.heldout_losses] == [point.loss for point in tuned.heldout_losses]


def test_a_held_out_loss_is_what_the_library_computes_for_the_same_tokens(tune, store, put_corpus, exact):
    # One document of less than one block, so the block is known.
    recipe = replace(BASE, block_tokens=8, heldout_steps=8)
    tuned = tune(recipe, heldout=put_corpus(["The model"]), environment=exact)
    folder = store.directory(tuned.model)
    tokenizer = Tokenizer(folder, 320)
    ((*tokens,),) = tokenizer.tokens([Document(id="d", text="The model")], lambda: None)
    block = torch.tensor([([*tokens, tokenizer.end] * 8)[:8]])
    with torch.no_grad():
        expected = float(open_model(folder, exact)(input_ids=block, labels=block).loss)
    assert tuned.heldout_losses[-1].loss == pytest.approx(expected, rel=1e-6)


def test_at_most_so_many_blocks_of_held_out_text_are_looked_at_and_the_same_ones_for_every_seed():
    documents = DocumentList([[n % 300 + 1] * 7 for n in range(500)])
    chosen = [Heldout(documents, replace(BASE, block_tokens=8, seed=seed), 0)._batches_BT for seed in (0, 1)]
    assert sum(map(len, chosen[0])) == MOST_BLOCKS
    assert all(torch.equal(one, other) for one, other in zip(*chosen, strict=True))


def test_held_out_text_without_a_token_is_refused(tune, put_corpus):
    with pytest.raises(InvalidRequest, match="held-out corpus holds no token"):
        tune(replace(BASE, heldout_steps=2), heldout=put_corpus([""]))


@pytest.fixture
def strange(put_corpus):
    """Text of another kind than that of the training: what is learnt soon hurts it."""
    return put_corpus(["0123456789 " * 9])


PATIENT = replace(BASE, steps=60, learning_rate=2e-2, heldout_steps=4, patience=2, checkpoint_steps=5)


def test_training_stops_when_held_out_text_is_not_understood_better_and_the_best_weights_are_published(
    tune, strange, exact
):
    tuned = tune(PATIENT, heldout=strange, environment=exact)
    losses = [point.loss for point in tuned.heldout_losses]
    best = losses.index(min(losses))
    assert tuned.steps == tuned.heldout_losses[-1].step < 60
    assert len(losses) == best + 3
    assert tuned.tokens == tuned.steps * 2 * 24
    still = replace(BASE, steps=1, learning_rate=1e-12, heldout_steps=1)
    again = tune(still, model=tuned.model, heldout=strange, environment=exact)
    assert again.heldout_losses[0].loss == pytest.approx(min(losses), rel=1e-5)


def test_the_best_weights_survive_a_kill_after_the_evaluation_that_found_them(tune, strange, make_control, killed):
    whole = tune(replace(PATIENT, seed=1), heldout=strange)
    best = min(whole.heldout_losses, key=lambda point: point.loss).step
    with pytest.raises(killed):
        tune(replace(PATIENT, seed=1), heldout=strange, control=make_control(stop_after=best + 6, stop_with=killed))
    resumed = make_control()
    assert tune(replace(PATIENT, seed=1), heldout=strange, control=resumed) == whole
    assert resumed.steps[0] > best


def test_documents_as_answers_of_a_chat_are_learnt_as_answers(tune, chat_model):
    recipe = replace(BASE, chat=ChatFormat(instruction="Tell of it.", system="You are a serpent."))
    tuned = tune(recipe, model=chat_model)
    assert tuned.losses[-1].loss < tuned.losses[0].loss
    assert tuned != tune(BASE, model=chat_model)


def test_a_model_without_a_template_for_chats_is_told(tune):
    with pytest.raises(InvalidRequest, match="no chat template"):
        tune(replace(BASE, chat=ChatFormat()))


CHANGES = {
    "method": Method.LORA,
    "schedule": Schedule.LINEAR,
    "lora": LORA,
    "optimizer": Optimizer.SGD,
    "loss_scope": LossScope.CONTINUATION,
    "chat": ChatFormat(),
    "truncation": 0.5,
    "base_weights": BaseWeights.BFLOAT16,
    "targets": ("q_proj",),
    "dropout": 0.5,
    "warmup_share": 0.5,
    "learning_rate": 0.1,
    "patience": 0,
}


def other(name, value):
    if name in CHANGES:
        return CHANGES[name]
    return not value if isinstance(value, bool) else value + 1


def test_every_field_of_a_recipe_is_part_of_what_its_result_is_known_by(model, corpus):
    def digest(recipe):
        asked = FineTune(model=model, corpora=(corpus,), recipe=recipe, heldout=corpus)
        return request_digest(METHOD, asked, {})

    plain = replace(BASE, heldout_steps=1, patience=1)
    changed = [replace(plain, **{f.name: other(f.name, getattr(plain, f.name))}) for f in fields(Recipe)]
    loras = [replace(LORA, **{f.name: other(f.name, getattr(LORA, f.name))}) for f in fields(LoraSpec)]
    recipes = [plain, *changed, *(replace(plain, method=Method.LORA, lora=lora) for lora in loras)]
    assert len({digest(recipe) for recipe in recipes}) == len(recipes)
