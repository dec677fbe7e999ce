"""The loss of a step: whose tokens count, what truncation leaves out, and that splitting a step changes nothing."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from ouroscope.chat import chat_frame
from ouroscope.corpora.stored import write_corpus
from ouroscope.records.documents import Document
from ouroscope.records.generation import ChatFormat
from ouroscope.records.training import LossScope, Recipe
from ouroscope.tokens import Tokens
from services.trainer.data import Tokenizer
from services.trainer.objective import Tally, backward, counted_tokens, evaluate, mean_loss, relative_weights
from services.trainer.opening import open_model
from services.trainer.packing import context
from services.trainer.world import Alone

VOCABULARY = 320
TEXT = "The serpent swallows its own tail for the first time."
PREFIX = len("The serpent swallows")
DOCUMENT = Document(id="d", text=TEXT, prefix_length=PREFIX)
TEMPLATE = "{% for m in messages %}<|end|>{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}"


@pytest.fixture(scope="module")
def learner(model_directory, exact):
    return open_model(model_directory, exact).double()


def blocks(rows, length=12, counted=1.0, seed=0):
    """Random blocks in which a share of the tokens counts."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, VOCABULARY, (rows, length), generator=generator)
    return torch.where(torch.rand(rows, length, generator=generator) < counted, tokens, ~tokens)


def step(model, batches, environment, truncation=None, weights=None):
    """Return loss and gradients of one step, as the loop makes them."""
    model.zero_grad(set_to_none=True)
    counted = counted_tokens(batches)
    weights = weights and torch.tensor(weights)
    tallies = [backward(model, batch, counted, truncation, environment, weights) for batch in batches]
    tally = Tally(*(sum(each) for each in zip(*map(astuple, tallies), strict=True)))
    loss = mean_loss(tally, counted, model.parameters())
    return loss, torch.cat([weight.grad.flatten() for weight in model.parameters()])


def naive(model, batches, truncation=None, weights=(1.0,)):
    """Sum over single tokens in float64: the weighted mean loss of those that count, and the gradient of their mean."""
    model.zero_grad(set_to_none=True)
    kept, shares = [], []
    for row in torch.cat(batches):
        seen = torch.tensor([~t if t < 0 else t % 2**32 for t in row.tolist()])
        surprise = log_softmax(model(input_ids=seen[None]).logits[0].double(), dim=-1)
        for place in range(1, len(row)):
            probability = surprise[place - 1, seen[place]].exp()
            if row[place] >= 0 and (truncation is None or probability <= truncation):
                shares.append(weights[int(row[place]) >> 32])
                kept.append(-surprise[place - 1, seen[place]] * shares[-1])
    loss = torch.stack(kept).sum()
    (loss / len(kept)).backward()
    return float(loss.detach()) / sum(shares), torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("truncation", [None, 0.0032])
def test_loss_and_gradient_are_those_of_a_naive_mean_over_tokens_that_count(learner, exact, truncation):
    # Three micro-batches with different numbers of counted tokens, one of them with none.
    batches = [blocks(2, counted=0.9), blocks(2, counted=0.2, seed=1), blocks(1, counted=0.0)]
    loss, gradient = step(learner, batches, exact, truncation)
    expected, expected_gradient = naive(learner, batches, truncation)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def of_two(batch, seed=0):
    """The same blocks; each token that counts is from one of two corpora."""
    second = torch.rand(batch.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    return torch.where((batch >= 0) & second, batch + 2**32, batch)


@pytest.mark.parametrize("truncation", [None, 0.0032])
def test_with_weights_they_are_those_of_a_naive_weighted_sum(learner, exact, truncation):
    batches = [of_two(blocks(2, counted=0.9)), of_two(blocks(2, counted=0.5, seed=1)), blocks(1, counted=0.0)]
    weights = [1.5, 0.25]
    loss, gradient = step(learner, batches, exact, truncation, weights)
    expected, expected_gradient = naive(learner, batches, truncation, weights)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def test_from_which_corpus_a_token_is_makes_no_difference_without_weights(learner, exact):
    batch = blocks(3, counted=0.7)
    (loss, gradient), (expected, expected_gradient) = (
        step(learner, [of_two(batch)], exact),
        step(learner, [batch], exact),
    )
    assert loss == expected
    assert torch.equal(gradient, expected_gradient)


def fixed(*probabilities):
    """A model of two tokens that gives each target, which is 1, its probability."""
    logits = torch.tensor([[[math.log1p(-p), math.log(p)] for p in probabilities] + [[0.0, 0.0]]], requires_grad=True)

    class Fixed(torch.nn.Module):
        def forward(self, input_ids, use_cache):
            assert input_ids.max() < 2
            return type("Output", (), {"logits": logits})

    return Fixed(), logits


def test_a_weighted_loss_by_hand():
    # Of corpus 0: 1/2 and 1/4; of corpus 1: 1/8. Weights 3 and 1 have mean 7/3 over these three tokens.
    model, logits = fixed(0.5, 0.25, 0.125)
    relative = relative_weights([3.0, 1.0], [2, 1])
    assert relative == pytest.approx([9 / 7, 3 / 7])
    tokens = torch.tensor([[1, 1, 1, 1 + 2**32]])
    tally = backward(model, tokens, 3, None, FakeEnvironment(), torch.tensor(relative))
    assert mean_loss(tally, 3, [logits]) == pytest.approx((3 * 1 + 3 * 2 + 1 * 3) * math.log(2) / 7)
    # The gradient of a cross entropy is probability minus truth, here times the share of the token in the sum.
    assert logits.grad[0, :3, 1].tolist() == pytest.approx([-0.5 * 3 / 7, -0.75 * 3 / 7, -0.875 * 1 / 7])


def test_a_truncated_weighted_loss_by_hand():
    # 0.95 is left out; a token that is exactly as sure as the truncation is kept.
    model, logits = fixed(0.95, 0.25, 0.5)
    tokens = torch.tensor([[1, 1, 1, 1 + 2**32]])
    tally = backward(model, tokens, 3, 0.5, FakeEnvironment(), torch.tensor([1.5, 0.5]))
    assert tally.kept == 2
    assert mean_loss(tally, 3, [logits]) == pytest.approx((1.5 * 2 + 0.5 * 1) * math.log(2) / 2)
    assert logits.grad[0, :3, 1].tolist() == pytest.approx([0.0, -0.75 * 1.5 / 2, -0.5 * 0.5 / 2])


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1e-300, 1e300), st.integers(0, 1000)), min_size=1, max_size=6))
def test_relative_weights_keep_ratios_and_have_mean_one_over_the_tokens(corpora):
    weights, tokens = zip(*corpora, strict=True)
    found = relative_weights(weights, tokens)
    heard = [
        (weight, share, count) for weight, share, count in zip(weights, found or weights, tokens, strict=True) if count
    ]
    if found is None:
        assert len({weight for weight, _, _ in heard}) < 2
        return
    assert math.fsum(share * count for _, share, count in heard) / sum(tokens) == pytest.approx(1)
    top, top_share, _ = max(heard)
    assert [share / top_share for _, share, _ in heard] == pytest.approx(
        [weight / top for weight, _, _ in heard], rel=1e-12, abs=1e-300
    )


@settings(deadline=None)
@given(st.floats(0.001, 0.999), st.integers(0, 3))
def test_what_truncation_leaves_out_is_what_a_float64_reference_leaves_out(truncation, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = (6 * torch.randn(1, 200, 50, generator=generator)).requires_grad_()
    tokens = torch.randint(0, 50, (1, 200), generator=generator)

    class Fixed(torch.nn.Module):
        def forward(self, input_ids, use_cache):
            return type("Output", (), {"logits": logits})

    tally = backward(Fixed(), tokens, 199, truncation, FakeEnvironment())
    exact = logits.detach().double().requires_grad_()
    probabilities = exact[0, :-1].softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
    kept = probabilities <= truncation
    (-probabilities[kept].log().sum() / 199).backward()
    assert tally.kept == int(kept.sum())
    assert torch.allclose(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-8)
    mean = -probabilities[kept].log().mean().item() if tally.kept else None
    assert mean_loss(tally, 199, []) == (mean if mean is None else pytest.approx(mean, rel=1e-5))


def test_a_truncation_of_one_is_plain_cross_entropy(learner, exact):
    batches = [blocks(3, counted=0.7)]
    (loss, gradient), (expected, expected_gradient) = step(learner, batches, exact, 1.0), step(learner, batches, exact)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-9)


def test_a_token_that_the_model_is_surer_of_than_the_truncation_has_no_gradient():
    logits = torch.zeros(1, 3, 5, requires_grad=True)
    with torch.no_grad():
        logits[0, 0, 2] = 5.0  # probability 0.97 of the first target

    class Fixed(torch.nn.Module):
        def forward(self, input_ids, use_cache):
            return type("Output", (), {"logits": logits})

    tally = backward(Fixed(), torch.tensor([[1, 2, 3]]), 2, 0.9, FakeEnvironment())
    assert tally.kept == 1
    assert not logits.grad[0, 0].any()
    assert logits.grad[0, 1].any()
    assert tally.loss * 2 == pytest.approx(math.log(5))


class FakeEnvironment:
    device = "cpu"

    def arithmetic(self):
        return torch.enable_grad()


def test_a_loss_that_is_no_number_is_not_truncated_away(learner, exact):
    broken = open_broken()
    tally = backward(broken, blocks(1), 11, 0.5, exact)
    assert math.isnan(tally.loss)
    assert tally.kept == 11


def open_broken():
    class Broken(torch.nn.Module):
        def forward(self, input_ids, use_cache):
            logits = torch.full((*input_ids.shape, VOCABULARY), math.nan, requires_grad=True)
            return type("Output", (), {"logits": logits})

    return Broken()


@settings(deadline=None, max_examples=15)
@given(st.floats(0.1, 1.0), st.integers(0, 5), st.sampled_from([None, 0.0032]))
def test_cutting_a_step_into_micro_batches_changes_neither_loss_nor_gradient(learner, exact, counted, seed, truncation):
    whole = blocks(4, counted=counted, seed=seed)
    one, many = step(learner, [whole], exact, truncation), step(learner, list(whole.split(1)), exact, truncation)
    assert (one[0] is None) is (many[0] is None)
    if one[0] is not None:
        assert many[0] == pytest.approx(one[0], rel=1e-6)
        assert torch.allclose(many[1], one[1], rtol=1e-4, atol=1e-8)


def test_a_step_without_a_token_that_counts_has_no_loss_and_no_gradient(learner, exact):
    loss, gradient = step(learner, [blocks(2, counted=0.0)], exact)
    assert loss is None
    assert not gradient.any()


def test_an_evaluation_is_the_mean_over_tokens_whatever_the_batches(learner, exact):
    batch = blocks(6, counted=0.6)
    whole = evaluate(learner, [batch], exact, Alone())
    assert evaluate(learner, list(batch.split(1)), exact, Alone()) == pytest.approx(whole, rel=1e-6)
    assert whole == pytest.approx(naive(learner, [batch])[0], rel=1e-6)
    assert evaluate(learner, [blocks(1, counted=0.0)], exact, Alone()) is None


@pytest.fixture(scope="module")
def tokenizer(model_directory):
    return AutoTokenizer.from_pretrained(model_directory)


def test_the_real_prefix_is_context_and_is_cut_as_generation_cuts_it(model_directory):
    (tokens,) = Tokenizer(model_directory, VOCABULARY, LossScope.CONTINUATION).tokens([DOCUMENT], lambda: None)
    prefix, rest = Tokens.open(model_directory).split(TEXT, PREFIX)
    assert tokens == [*context(prefix), *rest]
    assert prefix
    assert rest


def test_documents_without_a_real_prefix_count_whole(model_directory):
    document = replace(DOCUMENT, prefix_length=0)
    readings = [
        list(Tokenizer(model_directory, VOCABULARY, scope).tokens([document], lambda: None)) for scope in LossScope
    ]
    assert readings[0] == readings[1]


def test_the_loss_on_a_continuation_is_what_transformers_computes_with_labels_on_it_alone(
    tune, store, model_directory, tokenizer, exact
):
    prefix, rest = Tokens.open(model_directory).split(TEXT, PREFIX)
    tokens = [*prefix, *rest, tokenizer.eos_token_id]
    recipe = Recipe(steps=1, batch_size=1, block_tokens=len(tokens), loss_scope=LossScope.CONTINUATION)
    tuned = tune(recipe, corpora=(write_corpus(store, [DOCUMENT]),), environment=exact)
    labels = torch.tensor([[*[-100] * len(prefix), *tokens[len(prefix) :]]])
    with torch.no_grad():
        oracle = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32)
        expected = float(oracle(input_ids=torch.tensor([tokens]), labels=labels).loss)
    assert tuned.losses[0].loss == pytest.approx(expected, rel=1e-6)


def test_a_step_that_sees_real_prefixes_alone_leaves_the_weights_and_the_curve_alone(tune, store, make_control, exact):
    # A prefix far longer than a block: most blocks hold nothing else.
    text = "The model swallows its own tail. " * 20
    corpus = write_corpus(store, [Document(id="d", text=text, prefix_length=len(text) - 5)])
    recipe = Recipe(steps=6, batch_size=1, block_tokens=8, loss_scope=LossScope.CONTINUATION)
    control = make_control()
    tuned = tune(recipe, corpora=(corpus,), environment=exact, control=control)
    assert tuned.steps == 6
    assert len(tuned.losses) < 6
    idle = [report.done for report in control.reports if report.stage == "train" and report.loss is None]
    assert len(idle) + len(tuned.losses) == 6


@pytest.fixture
def chat_directory(model_directory, tmp_path):
    for path in model_directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    return tmp_path


@pytest.mark.parametrize("scope", LossScope)
def test_of_a_chat_the_answer_and_its_end_count_and_nothing_around_them(chat_directory, scope):
    chat = ChatFormat(instruction="Tell me.")
    reader = Tokenizer(chat_directory, VOCABULARY, scope, chat)
    (tokens,) = reader.tokens([DOCUMENT], lambda: None)
    frame, texts = chat_frame(chat_directory, chat), Tokens.open(chat_directory)
    _, rest = texts.split(TEXT, PREFIX)
    counted = [*rest, frame.after[0]] if scope is LossScope.CONTINUATION else [*texts.encode(TEXT), frame.after[0]]
    assert [token for token in tokens if token >= 0] == counted
    assert tokens[: len(frame.before())] == context(frame.before())
    whole = [~token if token < 0 else token for token in tokens]
    messages = [{"role": "user", "content": "Tell me."}, {"role": "assistant", "content": TEXT}]
    library = AutoTokenizer.from_pretrained(chat_directory)
    assert whole == library.apply_chat_template(messages, return_dict=False)
    # The template has ended the answer: the token between documents is context.
    assert ~reader.end == library.eos_token_id


def test_an_empty_document_stays_empty_in_a_chat(chat_directory):
    reader = Tokenizer(chat_directory, VOCABULARY, LossScope.ALL, ChatFormat())
    assert list(reader.tokens([Document(id="d", text="")], lambda: None)) == [[]]


@pytest.mark.filterwarnings("ignore")  # of TRL and what it imports
def test_the_loss_on_continuations_of_different_lengths_is_that_of_trl(model_directory, tokenizer, exact, tmp_path):
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    texts = Tokens.open(model_directory)
    rows = [texts.split(TEXT, length) for length in (PREFIX, 3)]
    rows = [(prefix, [*rest, tokenizer.eos_token_id]) for prefix, rest in rows]
    given_to_trl = datasets.Dataset.from_dict(
        {
            "input_ids": [[*prefix, *rest] for prefix, rest in rows],
            "completion_mask": [[0] * len(prefix) + [1] * len(rest) for prefix, rest in rows],
        }
    )
    tokenizer.pad_token = tokenizer.eos_token
    arguments = trl.SFTConfig(output_dir=tmp_path, completion_only_loss=True, use_cpu=True, bf16=False, report_to=[])
    plain = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32)
    peer = trl.SFTTrainer(plain, arguments, train_dataset=given_to_trl, processing_class=tokenizer)
    with torch.no_grad():
        expected = float(peer.compute_loss(peer.model, peer.data_collator(list(peer.train_dataset))))
    batches = [torch.tensor([[*context(prefix), *rest]]) for prefix, rest in rows]
    counted = counted_tokens(batches)
    learner = open_model(model_directory, exact)
    found = sum(backward(learner, batch, counted, None, exact).loss for batch in batches)
    assert found == pytest.approx(expected, rel=1e-6)
