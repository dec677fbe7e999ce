"""Batches side by side: results in order, one thread each, errors and the wish to stop heard."""

from __future__ import annotations

import threading

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.generator.in_process.lanes import is_shareable, side_by_side
from services.generator.plan import ModelShape, lanes

PATIENCE = 60
"""Seconds that a test waits for another thread; none needs them."""


def shape(parameters: int) -> ModelShape:
    return ModelShape(layers=1, key_value_width=1, vocabulary=1, context_tokens=1, parameters=parameters)


def llama(**rope: object) -> LlamaForCausalLM:
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=1, rope_parameters={"rope_theta": 1e4, **rope})
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_results_come_in_the_order_of_the_batches_whoever_is_first(number: int) -> None:
    last_may_go = threading.Event()

    def work(batch: int) -> int:
        if number > 1 and batch == 0:
            # The first one ends last of those that were begun together.
            assert last_may_go.wait(PATIENCE)
        last_may_go.set()
        return batch * batch

    assert list(side_by_side(range(9), work, number)) == [(batch, batch * batch) for batch in range(9)]


def test_every_lane_computes_with_one_thread_and_leaves_the_caller_its_own() -> None:
    before = torch.get_num_threads()
    together = threading.Barrier(2)

    def work(batch: int) -> tuple[int, int]:
        together.wait(PATIENCE)
        return threading.get_ident(), torch.get_num_threads()

    found = [result for _, result in side_by_side([1, 2], work, 2)]
    assert len({thread for thread, _ in found} | {threading.get_ident()}) == 3
    assert {threads for _, threads in found} == {1}
    assert torch.get_num_threads() == before


def test_one_lane_or_one_batch_stays_in_the_thread_of_the_caller() -> None:
    def work(batch: int) -> int:
        return threading.get_ident()

    own = threading.get_ident()
    assert [thread for _, thread in side_by_side([1, 2], work, 1)] == [own, own]
    assert [thread for _, thread in side_by_side([1], work, 4)] == [own]


def test_an_error_is_heard_and_nothing_is_left_running() -> None:
    begun: list[int] = []

    def work(batch: int) -> int:
        begun.append(batch)
        if batch == 0:
            raise ValueError("no")
        return batch

    with pytest.raises(ValueError, match="no"):
        list(side_by_side(range(100), work, 2))
    count = len(begun)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]
    assert len(begun) == count


def test_only_small_models_are_asked_side_by_side() -> None:
    assert lanes(shape(4_000_000), threads=3) == 3
    assert lanes(shape(1_000_000_000), threads=3) == 1


def test_a_model_that_a_forward_pass_changes_is_not_shared() -> None:
    assert is_shareable(llama(rope_type="default"))
    assert not is_shareable(llama(rope_type="dynamic", factor=2.0))
