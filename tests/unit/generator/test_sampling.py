"""Noise and draws, against the definition and against the library's own filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from ouroscope.errors import PreconditionFailed
from ouroscope.records.generation import SamplingSpec
from services.generator.in_process.decoding import choose
from services.generator.sampling import noise

GRID = 8192
"""Draws with evenly spaced noise: the share of each token is its probability, up to one part in GRID."""


def shares(logits: torch.Tensor, sampling: SamplingSpec) -> np.ndarray:
    """Return how often each token is drawn over the whole range of the noise."""
    spaced = (torch.arange(GRID) * (1 << 32)) // GRID
    drawn = choose(logits.repeat(GRID, 1), spaced, sampling)
    return np.bincount(drawn.numpy(), minlength=logits.shape[-1]) / GRID


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2


def test_noise_of_a_document_is_its_own_and_does_not_depend_on_how_much_is_asked() -> None:
    assert (noise(7, "a", 5) == noise(7, "a", 50)[:5]).all()
    assert (noise(7, "a", 5) != noise(7, "b", 5)).any()
    assert (noise(7, "a", 5) != noise(8, "a", 5)).any()


def test_noise_is_the_same_for_ever() -> None:
    """Golden values: a change here changes every corpus that was ever generated."""
    assert noise(0, "document", 3).tolist() == [906806177, 3976612338, 2513581329]


def test_noise_is_uniform() -> None:
    many = noise(1, "x", 50_000) / 2**32
    assert 0 <= many.min() < many.max() < 1
    assert np.histogram(many, bins=10, range=(0, 1))[0] == pytest.approx(5000, rel=0.06)


def test_without_filters_each_token_is_drawn_with_its_probability(logits: torch.Tensor) -> None:
    expected = torch.softmax(logits.double() / 0.7, -1).numpy()
    found = shares(logits, SamplingSpec(temperature=0.7, top_k=0))
    assert found == pytest.approx(expected, abs=1.5 / GRID)


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (0, 0.8), (10, 0.6), (0, 0.01), (40, 0.95), (1, 1.0)])
def test_filters_agree_with_those_of_the_library(logits: torch.Tensor, top_k: int, top_p: float) -> None:
    filtered = logits[None] / 1.3
    if top_k:
        filtered = TopKLogitsWarper(top_k)(None, filtered)
    if top_p < 1:
        filtered = TopPLogitsWarper(top_p)(None, filtered)
    expected = torch.softmax(filtered[0].double(), -1).numpy()
    assert shares(logits, SamplingSpec(temperature=1.3, top_k=top_k, top_p=top_p)) == pytest.approx(
        expected, abs=1.5 / GRID
    )


def test_temperature_zero_takes_the_most_probable(logits: torch.Tensor) -> None:
    assert shares(logits, SamplingSpec(temperature=0))[int(logits.argmax())] == 1


@pytest.mark.parametrize("temperature", [1e-9, 10.0])
def test_extreme_temperatures_stay_in_the_vocabulary(logits: torch.Tensor, temperature: float) -> None:
    assert shares(logits * 1e4, SamplingSpec(temperature=temperature, top_k=0)).sum() == pytest.approx(1)


def test_a_draw_does_not_depend_on_the_rest_of_the_batch(logits: torch.Tensor) -> None:
    rows = torch.stack([logits, logits.flip(0), logits * 3])
    spread = torch.tensor([1 << 31, 1 << 30, 3 << 30])
    together = choose(rows, spread, SamplingSpec(top_p=0.9))
    alone = [int(choose(rows[i : i + 1], spread[i : i + 1], SamplingSpec(top_p=0.9))) for i in range(3)]
    assert together.tolist() == alone


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_probabilities_that_are_no_numbers_are_an_error(temperature: float) -> None:
    with pytest.raises(PreconditionFailed, match="diverged"):
        choose(torch.full((1, 4), torch.nan), torch.zeros(1, dtype=torch.long), SamplingSpec(temperature=temperature))
