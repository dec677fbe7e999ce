"""Logits in pieces: the same gradient to the last bit, and less memory."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from services.trainer import surprise
from services.trainer.surprise import IGNORED, nats_of


def drawn(dtype, blocks=5, tokens=9, vocabulary=33):
    generator = torch.Generator().manual_seed(1)
    logits = (4 * torch.randn(blocks, tokens, vocabulary, generator=generator)).to(dtype).requires_grad_()
    targets = torch.randint(0, vocabulary, (blocks, tokens - 1), generator=generator)
    return logits, targets.masked_fill(torch.rand(targets.shape, generator=generator) < 0.3, IGNORED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("piece", [1, 2 * 9 * 33, 1 << 24])
def test_surprise_and_gradient_in_pieces_are_those_of_the_library_to_the_last_bit(monkeypatch, dtype, piece):
    monkeypatch.setattr(surprise, "LARGE", 1)
    monkeypatch.setattr(surprise, "PIECE", piece)
    logits, targets = drawn(dtype)
    told = torch.rand(targets.numel(), generator=torch.Generator().manual_seed(2))
    found = nats_of(logits, targets)
    (found * told).sum().backward()
    library = logits.detach().requires_grad_()
    expected = cross_entropy(library[:, :-1].float().flatten(0, 1), targets.flatten(), reduction="none")
    (expected * told).sum().backward()
    assert torch.equal(found, expected)
    assert torch.equal(logits.grad, library.grad)
    assert not found[targets.flatten() == IGNORED].any()


def test_the_gradient_of_the_sum_is_that_of_a_sum_made_by_the_library(monkeypatch):
    monkeypatch.setattr(surprise, "LARGE", 1)
    monkeypatch.setattr(surprise, "PIECE", 1)
    logits, targets = drawn(torch.float32)
    (nats_of(logits, targets).sum() / 7).backward()
    library = logits.detach().requires_grad_()
    (cross_entropy(library[:, :-1].flatten(0, 1), targets.flatten(), reduction="sum") / 7).backward()
    assert torch.equal(logits.grad, library.grad)


def test_nothing_of_the_size_of_the_logits_is_kept_for_the_backward_pass(monkeypatch):
    monkeypatch.setattr(surprise, "LARGE", 1)
    monkeypatch.setattr(surprise, "PIECE", 1)
    logits, targets = drawn(torch.bfloat16)
    # As the output of a model, and not a leaf.
    output = logits * 1.0
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        nats_of(output, targets)
    large = {t.data_ptr() for t in kept if t.numel() >= targets.numel() * 33}
    assert large == {output.data_ptr()}
