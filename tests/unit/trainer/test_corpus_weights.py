"""Weights of corpora in whole trainings: only their ratios matter, and what weighs nothing is not learnt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ouroscope.canonical import digest_of, from_plain, to_plain
from ouroscope.errors import InvalidRequest
from ouroscope.operations.requests import request_digest
from ouroscope.records.training import FineTune, Optimizer, Recipe, Schedule
from services.trainer.requests import METHOD

RECIPE = Recipe(steps=12, batch_size=2, block_tokens=24, learning_rate=5e-3, checkpoint_steps=5)


@pytest.fixture
def corpora(corpus, put_corpus):
    """Two kinds of text that share hardly a token."""
    return corpus, put_corpus([f"{number} 0123456789 9876543210" for number in range(12)])


@pytest.fixture
def learnt(tune, store, corpora):
    """Train with weights; return the curve and the weights of the model."""

    def learnt(weights, recipe=RECIPE, **options):
        tuned = tune(recipe, corpora=corpora, weights=weights, **options)
        return tuned, load_file(store.directory(tuned.model) / "model.safetensors")

    return learnt


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_weights_that_are_all_alike_change_no_bit(learnt):
    plain, weights = learnt(())
    for alike in ((1.0, 1.0), (2.0, 2.0), (1e-30, 1e-30)):
        found, same = learnt(alike)
        assert found.losses == plain.losses
        assert equal(same, weights)


def test_only_ratios_of_weights_matter(learnt):
    first, weights = learnt((3.0, 1.0))
    second, same = learnt((6.0, 2.0))
    assert second.losses == first.losses
    assert equal(same, weights)
    assert first.losses != learnt(())[0].losses


def test_of_a_corpus_that_weighs_next_to_nothing_next_to_nothing_is_learnt(tune, learnt, corpora, exact):
    recipe = replace(RECIPE, steps=40, heldout_steps=40)
    strange = {"heldout": corpora[1], "environment": exact}
    (spared, _), (alike, _) = learnt((1.0, 1e-9), recipe, **strange), learnt((), recipe, **strange)
    alone = tune(recipe, corpora=corpora[:1], **strange)
    assert alike.heldout_losses[-1].loss < 0.8 * alone.heldout_losses[-1].loss
    assert spared.heldout_losses[-1].loss == pytest.approx(alone.heldout_losses[-1].loss, rel=0.1)


def test_a_step_without_the_heavier_corpus_hardly_moves_the_weights(tune, store, model, put_corpus, exact):
    # Documents of one block each, so that a step sees one corpus only; without momentum from steps before.
    corpora = put_corpus(["The model"] * 6), put_corpus(["0123456789 0123456789"])
    plain = replace(RECIPE, steps=1, batch_size=1, block_tokens=8, optimizer=Optimizer.SGD, warmup_share=0.0)
    plain = replace(plain, schedule=Schedule.CONSTANT, weight_decay=0.0)
    before = load_file(store.directory(model) / "model.safetensors")

    def moved(seed):
        tuned = tune(replace(plain, seed=seed), corpora=corpora, weights=(1e-6, 1.0), environment=exact)
        after = load_file(store.directory(tuned.model) / "model.safetensors")
        return math.sqrt(sum(float((after[name] - before[name].float()).square().sum()) for name in before))

    steps = sorted(moved(seed) for seed in range(12))
    assert steps[0] < 1e-4 * steps[-1]


def test_the_loss_of_a_step_is_the_weighted_mean_of_its_tokens(tune, put_corpus, corpora, exact):
    # Each corpus alone, in blocks of the same length, and both of them in one batch.
    texts = "The model swallows its own tail.", "0123456789 is no text."
    both = tuple(put_corpus([text]) for text in texts)
    recipe = replace(RECIPE, steps=1, batch_size=64, block_tokens=64, seed=5)
    losses = [tune(recipe, corpora=both, weights=w, environment=exact).losses[0].loss for w in ((1, 1e-12), (1e-12, 1))]
    mixed, share = {}, {}
    for weights in ((1.0, 3.0), (1.0, 1.0)):
        mixed[weights] = tune(recipe, corpora=both, weights=weights, environment=exact).losses[0].loss
        # mixed = (w1 n1 l1 + w2 n2 l2) / (w1 n1 + w2 n2), solved for n2 / (n1 + n2).
        relative = (mixed[weights] - losses[0]) / (losses[1] - losses[0])
        share[weights] = relative / (relative + weights[1] * (1 - relative))
    assert share[1.0, 3.0] == pytest.approx(share[1.0, 1.0], rel=1e-3)


def test_a_killed_weighted_job_ends_with_the_same_answer(learnt, make_control, killed):
    with pytest.raises(killed):
        learnt((0.2, 0.8), control=make_control(stop_after=7, stop_with=killed))
    resumed = make_control()
    again, weights = learnt((0.2, 0.8), control=resumed)
    assert resumed.steps[0] == 6
    undisturbed, same = learnt((0.2, 0.8))
    assert (again, True) == (undisturbed, equal(weights, same))


def test_a_request_without_weights_is_known_by_the_digest_that_it_had_before_there_were_any(model, corpora):
    request = FineTune(model=model, corpora=corpora, recipe=RECIPE)
    before = {"model": str(model), "corpora": [str(each) for each in corpora], "recipe": RECIPE, "heldout": None}
    assert request_digest(METHOD, request, {}) == digest_of(METHOD, before, {})
    weighted = replace(request, corpus_weights=(1.0, 2.0))
    assert request_digest(METHOD, weighted, {}) != request_digest(METHOD, request, {})
    assert [from_plain(FineTune, to_plain(each)) for each in (request, weighted)] == [request, weighted]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, math.inf), (1.0, math.nan)])
def test_weights_that_mean_nothing_are_refused(model, corpora, weights):
    with pytest.raises(InvalidRequest, match="corpus_weights"):
        FineTune(model=model, corpora=corpora, recipe=RECIPE, corpus_weights=weights)
