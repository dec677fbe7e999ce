"""How much is done together, and how progress is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import Cancelled, UntrustedArtifact
from services.generator.meter import Meter
from services.generator.plan import ModelShape, batch_size, parts, plan_for

SHAPE = ModelShape(layers=4, key_value_width=512, vocabulary=4096, context_tokens=512, parameters=4_000_000)
GIB = 1 << 30


@given(memory=st.integers(1, 1 << 45), limit=st.integers(1, 4096), tokens=st.integers(1, 10_000))
def test_a_batch_is_a_power_of_two_within_its_limit(memory: int, limit: int, tokens: int) -> None:
    found = batch_size(SHAPE, new_tokens=tokens, memory_bytes=memory, number_bytes=4, limit=limit)
    assert 1 <= found <= limit
    assert found & (found - 1) == 0


def test_more_memory_never_means_a_smaller_batch() -> None:
    found = [
        batch_size(SHAPE, new_tokens=48, memory_bytes=(GIB << shift) >> 6, number_bytes=4, limit=512)
        for shift in range(12)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1] == 512


def test_a_large_model_gets_a_small_batch() -> None:
    seven = ModelShape(layers=32, key_value_width=8192, vocabulary=32_000, context_tokens=4096, parameters=7 * 10**9)
    assert batch_size(seven, new_tokens=512, memory_bytes=80 * GIB, number_bytes=2, limit=256) == 8


@given(st.integers(1, 1000))
def test_shards_hold_whole_batches_and_near_two_hundred_documents(batch: int) -> None:
    plan = plan_for(batch)
    assert plan.shard_documents % plan.batch_size == 0
    assert 100 <= plan.shard_documents <= 300 or batch > 300


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_parts_are_the_whole(items: list[int], size: int) -> None:
    found = list(parts(items, size))
    assert [item for part in found for item in part] == items
    assert all(len(part) == size for part in found[:-1])


@pytest.mark.parametrize(
    ("config", "width"),
    [
        ({"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 9}, 128),
        ({"n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 9, "n_positions": 128}, 128),
        (
            {"text_config": {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32}}
            | {"num_hidden_layers": 2, "vocab_size": 9},
            64,
        ),
    ],
)
def test_shapes_are_read_from_the_configurations_of_several_families(config: dict[str, Any], width: int) -> None:
    shape = ModelShape.of(config, 1000)
    assert (shape.key_value_width, shape.layers, shape.vocabulary) == (width, 2, 9)


@pytest.mark.parametrize("broken", [{}, {"hidden_size": "64"}, {"hidden_size": True, "num_attention_heads": 1}])
def test_a_configuration_without_sizes_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(UntrustedArtifact, match="positive number"):
        ModelShape.of(broken, 1000)


def test_progress_follows_the_tokens_within_a_part(noting_task: Callable[..., Any]) -> None:
    task, now = noting_task(), iter(range(0, 1000, 2))
    heard: list[int] = []
    meter = Meter(task, "generate", 10, on_tokens=heard.append, clock=lambda: float(next(now)))
    meter.begin(4, 100)
    for _ in range(4):
        meter.pulse(25)
    meter.pulse(25)
    meter.finish(4)
    assert [progress.done for progress in task.told] == [0, 1, 2, 3, 4, 4, 4]
    assert task.told[-1].tokens_per_second == pytest.approx(125 / 14)
    assert sum(heard) == 125


def test_a_meter_passes_the_wish_to_stop_on(noting_task: Callable[..., Any]) -> None:
    with pytest.raises(Cancelled):
        Meter(noting_task(0), "generate", 10).pulse(1)
