"""The decoding loop, against the library's `generate` and against itself one document at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from ouroscope.errors import Cancelled, InvalidRequest, LimitExceeded, PreconditionFailed
from ouroscope.records.generation import SamplingSpec
from ouroscope.tokens import Tokens
from services.generator.backend import Prompt
from services.generator.in_process import model as in_process_model
from services.generator.in_process.loaded import LoadedModel
from services.generator.in_process.model import HfModel

PROMPTS = [
    Prompt(f"p{number}", text)
    for number, text in enumerate(
        [
            "The serpent",
            "T",
            "swallows its own tail for the",
            " of it the whole wide",
            "The café 🐍",
            "naïve",
            "time, and",
        ]
    )
]
SAMPLING = SamplingSpec(min_new_tokens=0, max_new_tokens=20, seed=11)


def silent(_: int) -> None:
    """Let the work go on."""


def texts(model: HfModel, prompts: Sequence[Prompt], sampling: SamplingSpec, batch_size: int = 8) -> list[str]:
    return [each.text for each in model.write(prompts, sampling, batch_size, silent).continuations]


def made_of(model: HfModel, network: Any, tokens: Tokens | None = None) -> HfModel:
    """Return a model with another network or tokens that is like `model` in all else."""
    loaded = LoadedModel(network, tokens or model.tokens, 96, model.loaded._lock, threads=1)
    return HfModel(loaded, model.served)


def ends_early(model: HfModel) -> HfModel:
    """Return a model that draws its end marker often."""
    network = model.loaded.model
    favourites = network(input_ids=torch.tensor([[0]])).logits[0, -1].topk(60).indices.tolist()
    return made_of(model, network, Tokens(model.tokens._tokenizer, start=model.tokens.start, ends=favourites))


def of_family(model: HfModel, family: str) -> HfModel:
    """Return an untrained model of another architecture with the tokens of `model`."""
    if family == "llama":
        return model
    size: dict[str, Any] = {"vocab_size": 320, "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        if family == "absolute positions":
            made: Any = GPT2LMHeadModel(GPT2Config(**size, n_embd=16, n_layer=2, n_head=2, n_positions=96))
        else:
            heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "num_hidden_layers": 2}
            made = Gemma2ForCausalLM(
                Gemma2Config(**size, **heads, hidden_size=16, intermediate_size=16, sliding_window=6)
            )
    return made_of(model, made.eval())


@pytest.mark.parametrize("family", ["llama", "absolute positions", "sliding window"])
def test_greedy_text_is_that_of_the_library_whatever_the_lengths_in_the_batch(model: HfModel, family: str) -> None:
    model = of_family(model, family)
    found = texts(model, PROMPTS, replace(SAMPLING, temperature=0.0, min_new_tokens=20))
    for prompt, text in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([[*model.tokens.start, *model.tokens.encode(prompt.text)]])
        length = {"do_sample": False, "max_new_tokens": 20, "min_new_tokens": 20, "pad_token_id": 0}
        whole = model.loaded.model.generate(ids, attention_mask=torch.ones_like(ids), **length)
        assert model.tokens.decode_many([whole[0, ids.shape[1] :].tolist()]) == [text]


def test_text_of_a_document_depends_neither_on_its_batch_nor_on_the_order(model: HfModel) -> None:
    together = texts(model, PROMPTS, SAMPLING)
    assert texts(model, PROMPTS, SAMPLING, batch_size=3) == together
    assert texts(model, PROMPTS[::-1], SAMPLING, batch_size=2)[::-1] == together
    assert [texts(model, [prompt], SAMPLING)[0] for prompt in PROMPTS] == together


def test_text_depends_on_seed_and_on_the_id_of_the_prompt(model: HfModel) -> None:
    one, other = (texts(model, [Prompt(name, "The mirror")], SAMPLING) for name in ("a", "b"))
    assert one != other
    assert texts(model, [Prompt("a", "The mirror")], replace(SAMPLING, seed=12)) != one


def test_a_document_ends_at_the_end_marker_and_only_after_the_least_length(model: HfModel) -> None:
    model = ends_early(model)
    short = model.write(PROMPTS, SAMPLING, 8, silent).continuations
    least = model.write(PROMPTS, replace(SAMPLING, min_new_tokens=6), 8, silent).continuations
    assert min(each.tokens for each in short) < 6 <= min(each.tokens for each in least)
    assert max(each.tokens for each in least) <= 20
    exact = model.write(PROMPTS, replace(SAMPLING, min_new_tokens=20), 8, silent).continuations
    assert {each.tokens for each in exact} == {20}


def test_documents_that_ended_leave_without_changing_the_others(model: HfModel) -> None:
    model = ends_early(model)
    made: list[int] = []
    together = model.write(PROMPTS, SAMPLING, 8, made.append).continuations
    assert [model.write([prompt], SAMPLING, 8, silent).continuations[0] for prompt in PROMPTS] == list(together)
    assert sum(made) == sum(each.tokens for each in together)


def test_the_end_marker_spelt_in_a_prompt_is_text(model: HfModel) -> None:
    assert not set(model.tokens.encode("a<|end|>b")) & set(model.tokens.ends)


def test_the_batch_is_halved_when_memory_runs_out_and_it_is_said(
    model: HfModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = texts(model, PROMPTS, SAMPLING)
    roomy = in_process_model.continue_prompts

    def tight(*arguments: object) -> list[list[int]]:
        if len(arguments[1]) > 2:  # type: ignore[arg-type]  # the prompts
            raise torch.OutOfMemoryError
        return roomy(*arguments)  # type: ignore[arg-type]  # what the model passed

    monkeypatch.setattr(in_process_model, "continue_prompts", tight)
    written = model.write(PROMPTS, SAMPLING, 7, silent)
    assert written.batch_size <= 2
    assert [each.text for each in written.continuations] == together


def test_memory_that_does_not_hold_one_document_is_told(model: HfModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> list[list[int]]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(in_process_model, "continue_prompts", full)
    with pytest.raises(LimitExceeded, match="single document"):
        model.write(PROMPTS, SAMPLING, 4, silent)


def test_work_stops_at_the_next_step(model: HfModel) -> None:
    steps: list[int] = []

    def stop_at_third(tokens: int) -> None:
        steps.append(tokens)
        if len(steps) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        model.write(PROMPTS, replace(SAMPLING, min_new_tokens=20), 8, stop_at_third)
    assert steps == [len(PROMPTS)] * 3


def test_a_prompt_that_leaves_no_room_is_refused_with_its_numbers(model: HfModel) -> None:
    with pytest.raises(InvalidRequest, match=r"prompt 'p0' .* context of 96"):
        model.write(PROMPTS, replace(SAMPLING, max_new_tokens=96), 8, silent)


def test_a_model_that_diverged_is_told(model: HfModel) -> None:
    broken = type(model.loaded.model)(model.loaded.model.config).eval()
    with torch.no_grad():
        broken.lm_head.weight.fill_(torch.nan)
    with pytest.raises(PreconditionFailed, match="diverged"):
        made_of(model, broken).write(PROMPTS, SAMPLING, 8, silent)


def test_an_empty_prompt_begins_a_document(model: HfModel) -> None:
    assert texts(model, [Prompt("x", "")], replace(SAMPLING, min_new_tokens=5))[0]
