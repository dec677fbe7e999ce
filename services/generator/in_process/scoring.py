"""Probabilities of given texts. Knows tensors; no text, no store.

The whole vocabulary is looked at for a bounded number of positions at a time, so memory does not grow with texts times
vocabulary. Texts are padded on the right: a causal model sees no padding before it has seen the text.

Shapes: B = texts in the batch, T = positions, H = width of the model, R = positions looked at together, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ouroscope.probabilities import check_finite, expectations, log_probabilities
from services.generator.backend import Examined, Expectation, TokenScores

_LOGIT_BYTES = {"cpu": 8 << 20, "cuda": 64 << 20, "mps": 32 << 20}
"""Of one array of float32 logits; about four exist at once."""
_POSITIONS = {"cpu": 2_048, "cuda": 16_384, "mps": 16_384}
"""Of one batch: more do not make a forward pass quicker, only larger, and slower where they leave the cache."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last hidden state of a model and the step from there to logits, apart where the architecture allows it."""

    model: Any
    vocabulary: int
    apart: bool
    """Whether the output layer alone turns hidden states into the model's logits: some scale or cap them afterwards."""
    lanes: int = 1
    """Batches that share the memory for logits."""

    @classmethod
    @torch.inference_mode()
    def of(cls, model: Any, lanes: int = 1) -> Head:
        """Find out by trying, on a few tokens."""
        probe = torch.arange(4, device=model.device)[None]
        whole_BTV = model(input_ids=probe, use_cache=False).logits.float()
        try:
            found_BTV = model.get_output_embeddings()(_hidden(model, probe)).float()
            apart = bool(torch.allclose(found_BTV, whole_BTV, rtol=1e-3, atol=1e-3))
        except (AttributeError, TypeError, RuntimeError):  # an architecture that is put together in another way
            apart = False
        return cls(model, vocabulary=int(whole_BTV.shape[-1]), apart=apart, lanes=lanes)

    def texts_at_once(self, positions: int) -> int:
        """Return how many texts of that length one batch may have."""
        most = _POSITIONS[self.model.device.type] if self.apart else self.positions_at_once
        return max(1, most // positions)

    @property
    def positions_at_once(self) -> int:
        """Return for how many positions the whole vocabulary is looked at together."""
        return max(1, _LOGIT_BYTES[self.model.device.type] // (4 * self.vocabulary * self.lanes))

    def states(self, inputs_BT: Tensor) -> Tensor:
        """Return what `logits` needs per position, as [B, T, H or V]."""
        if self.apart:
            return _hidden(self.model, inputs_BT)
        logits_BTV: Tensor = self.model(input_ids=inputs_BT, use_cache=False).logits
        return logits_BTV

    def logits(self, states_RX: Tensor) -> Tensor:
        """Return logits [R, V] in float32."""
        found = self.model.get_output_embeddings()(states_RX) if self.apart else states_RX
        logits_RV: Tensor = found.float()
        check_finite(logits_RV)
        return logits_RV


@torch.inference_mode()
def examine_texts(
    head: Head,
    texts: Sequence[Sequence[int]],
    scored_from: Sequence[int],
    asked: Sequence[int | None],
    top_n: int,
) -> list[Examined]:
    """Return the scores of each text's tokens, and what is expected where that is asked; one forward pass for both.

    Args:
        head: The model.
        texts: Tokens of each text, start tokens included; at least one token of each is scored.
        scored_from: First scored position of each text, at least 1.
        asked: A scored position of each text, of which the expectation is wanted, or None.
        top_n: Probabilities kept of an expectation.
    """
    inputs_BT = right_padded([ids[:-1] for ids in texts], head.model.device)
    states_BTX = head.states(inputs_BT)
    rows = [(text, place - 1) for text, ids in enumerate(texts) for place in range(scored_from[text], len(ids))]
    targets = torch.tensor([texts[text][place + 1] for text, place in rows], device=inputs_BT.device)
    ends = np.cumsum([len(ids) - first for ids, first in zip(texts, scored_from, strict=True)]).tolist()
    questions = {
        end - len(ids) + place: text
        for text, (end, ids, place) in enumerate(zip(ends, texts, asked, strict=True))
        if place is not None
    }
    found, expected, begin = [], dict[int, Expectation](), 0
    for logits_RV, targets_R in portions(head, states_BTX, rows, targets):
        found.append(log_probabilities(logits_RV, targets_R))
        here = [row for row in range(begin, begin + len(targets_R)) if row in questions]
        expected.update(_asked(logits_RV, targets_R, begin, here, top_n))
        begin += len(targets_R)
    log_all, greedy_all = (torch.cat(column).cpu() for column in zip(*found, strict=True))
    pairs = zip(np.split(log_all.double().numpy(), ends[:-1]), np.split(greedy_all.numpy(), ends[:-1]), strict=True)
    told = {questions[row]: expectation for row, expectation in expected.items()}
    return [Examined(TokenScores(log, greedy), told.get(text)) for text, (log, greedy) in enumerate(pairs)]


def _asked(
    logits_RV: Tensor, targets_R: Tensor, begin: int, rows: Sequence[int], top_n: int
) -> Iterator[tuple[int, Expectation]]:
    """Yield what is expected at some rows; `begin` is the number of the first one in the logits."""
    if rows:
        places = torch.tensor(rows, device=targets_R.device) - begin
        found = expectations(logits_RV[places], targets_R[places], top_n)
        yield from ((row, Expectation(*each)) for row, each in zip(rows, found, strict=True))


@torch.inference_mode()
def expect_next(
    head: Head, prompts: Sequence[Sequence[int]], following: Sequence[int | None], top_n: int
) -> list[Expectation]:
    """Return what is expected after each prompt, and how the token that really follows fares."""
    inputs_BT = right_padded(prompts, head.model.device)
    states_BTX = head.states(inputs_BT)
    rows = [(row, len(ids) - 1) for row, ids in enumerate(prompts)]
    # A prompt whose following token is not known is compared with token 0, and the comparison is thrown away.
    targets = torch.tensor([0 if token is None else token for token in following], device=inputs_BT.device)
    known = iter(following)
    return [
        expectation
        for logits_RV, targets_R in portions(head, states_BTX, rows, targets)
        for expectation in _expectations(logits_RV, targets_R, known, top_n)
    ]


def portions(
    head: Head, states_BTX: Tensor, rows: Sequence[tuple[int, int]], targets: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits [R, V] and targets [R] of all rows (text, position), a bounded number at a time."""
    where = torch.tensor(rows, device=states_BTX.device)
    size = head.positions_at_once
    for begin in range(0, len(rows), size):
        text_R, place_R = where[begin : begin + size].unbind(-1)
        yield head.logits(states_BTX[text_R, place_R]), targets[begin : begin + size]


def _expectations(
    logits_RV: Tensor, targets_R: Tensor, following: Iterator[int | None], top_n: int
) -> Iterator[Expectation]:
    for top, entropy, rank, probability in expectations(logits_RV, targets_R, top_n):
        known = next(following) is not None
        yield Expectation(top, entropy, rank if known else None, probability if known else None)


def _hidden(model: Any, inputs_BT: Tensor) -> Tensor:
    states_BTH: Tensor = model.base_model(input_ids=inputs_BT, use_cache=False).last_hidden_state
    return states_BTH


def right_padded(texts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return the texts as [B, T], with 0 behind short ones."""
    width = max(map(len, texts))
    return torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in texts], device=device)
