"""The decoding loop: many prompts continued at once with a key-value cache. Knows tensors; no text, no store.

Our own loop and not `model.generate`, since the noise of a document must not depend on its neighbours, and since a step
must be able to stop the work and to drop documents that have ended.

Shapes: B = rows of the batch, T = positions so far, V = vocabulary, K = tokens kept for the draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ouroscope.probabilities import check_finite
from ouroscope.records.generation import SamplingSpec
from services.generator.backend import Pulse
from services.generator.in_process.cache import cache_with_room
from services.generator.sampling import MASS_BITS, NOISE_BITS

_MASSES = float(1 << MASS_BITS)


@torch.inference_mode()
def continue_prompts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    noise_BN: NDArray[np.int64],
    sampling: SamplingSpec,
    ends: Sequence[int],
    pulse: Pulse,
) -> list[list[int]]:
    """Return the new tokens of each prompt, without the token that ended it.

    Args:
        model: A causal language model of transformers in evaluation mode.
        prompts: Tokens of each prompt, at least one; equal lengths are fastest.
        noise_BN: For each prompt the noise of each of the N = max_new_tokens positions.
        sampling: How to draw.
        ends: Tokens that end a document; they are not drawn before min_new_tokens.
        pulse: Called after every step; may raise to stop.

    Raises:
        PreconditionFailed: the probabilities are not numbers.
    """
    batch = _Batch(model, prompts, noise_BN)
    ends_E = torch.tensor(ends, dtype=torch.long, device=model.device)
    for step in range(sampling.max_new_tokens):
        logits_BV = batch.logits()
        if step < sampling.min_new_tokens:
            logits_BV[:, ends_E] = -torch.inf
        chosen_B = choose(logits_BV, batch.noise_BN[:, step], sampling)
        alive = batch.add(chosen_B, torch.isin(chosen_B, ends_E).tolist())
        pulse(alive)
        if not alive:
            break
    return batch.written


def choose(logits_BV: Tensor, noise_B: Tensor, sampling: SamplingSpec) -> Tensor:
    """Return the drawn token of each row: temperature, then top-k, then top-p, then the law of `sampling`.

    The result is a function of the row alone.
    """
    best_B1 = logits_BV.amax(-1, keepdim=True)
    check_finite(best_B1)
    if sampling.temperature == 0:
        return logits_BV.argmax(-1)
    scores_BK, tokens_BK = _kept(logits_BV, sampling)
    # The largest score is subtracted first, so that no temperature overflows.
    shares_BK = torch.softmax((scores_BK - best_B1) / sampling.temperature, -1)
    mass_BK = (shares_BK * _MASSES).long()
    sums_BK = mass_BK.cumsum(-1)
    total_B = sums_BK[:, -1]
    if sampling.top_p < 1:
        # A token stays if those before it do not reach top_p yet; so the most probable one always stays.
        inside_BK = (sums_BK - mass_BK) < (total_B[:, None] * sampling.top_p)
        total_B = (mass_BK * inside_BK).sum(-1)
    target_B1 = (noise_B * total_B >> NOISE_BITS)[:, None]
    column_B1 = torch.searchsorted(sums_BK, target_B1, right=True)
    return (column_B1 if tokens_BK is None else tokens_BK.gather(-1, column_B1)).squeeze(-1)


def _kept(logits_BV: Tensor, sampling: SamplingSpec) -> tuple[Tensor, Tensor | None]:
    """Return the scores that may be drawn, in falling order, with their tokens; (all scores, None) if all may."""
    vocabulary = logits_BV.shape[-1]
    if 0 < sampling.top_k < vocabulary:
        kept = logits_BV.topk(sampling.top_k, -1)
        return kept.values, kept.indices
    if sampling.top_p < 1:
        ordered = logits_BV.sort(dim=-1, descending=True, stable=True)
        return ordered.values, ordered.indices
    return logits_BV, None


class _Batch:
    """Rows in work, their cache, and what was written so far. Rows that ended leave once they are half of all."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], noise_BN: NDArray[np.int64]) -> None:
        self._model = model
        self._cache = cache_with_room(model.config, max(map(len, prompts)) + noise_BN.shape[1])
        self._inputs_BT, self._mask_BT = _left_padded(prompts, model.device)
        self.noise_BN = torch.from_numpy(noise_BN).to(model.device)
        self.written: list[list[int]] = [[] for _ in prompts]
        self._document = list(range(len(prompts)))
        """Which document each row is."""
        self._ended = [False] * len(prompts)

    def logits(self) -> Tensor:
        """Return what comes next in each row as [B, V] in float32, after feeding what was added last."""
        output = self._model(
            input_ids=self._inputs_BT,
            attention_mask=self._mask_BT,
            position_ids=self._positions(),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BV: Tensor = output.logits[:, -1].float()
        return logits_BV

    def add(self, chosen_B: Tensor, ends_B: list[bool]) -> int:
        """Append a token to each row that goes on; return how many do."""
        for row, (token, ends) in enumerate(zip(chosen_B.tolist(), ends_B, strict=True)):
            self._ended[row] = self._ended[row] or ends
            if not self._ended[row]:
                self.written[self._document[row]].append(token)
        self._inputs_BT = chosen_B[:, None]
        if self._mask_BT is not None:
            self._mask_BT = torch.nn.functional.pad(self._mask_BT, (0, 1), value=1)
        alive = self._ended.count(False)
        if 0 < alive <= len(self._ended) // 2:
            self._drop_ended()
        return alive

    def _positions(self) -> Tensor | None:
        """Return the position of each input; None lets the model count, which is right where nothing is padded."""
        if self._mask_BT is None:
            return None
        positions_BT = (self._mask_BT.cumsum(-1) - 1).clamp(min=0)
        return positions_BT[:, -self._inputs_BT.shape[1] :]

    def _drop_ended(self) -> None:
        rows = [row for row, ended in enumerate(self._ended) if not ended]
        kept = torch.tensor(rows, device=self._inputs_BT.device)
        self._cache.batch_select_indices(kept)
        self._inputs_BT, self.noise_BN = self._inputs_BT[kept], self.noise_BN[kept]
        self._mask_BT = None if self._mask_BT is None else self._mask_BT[kept]
        self._document = [self._document[row] for row in rows]
        self._ended = [False] * len(rows)


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return the prompts as [B, T] with 0 before short ones, and the mask of real tokens, None if none is short."""
    width = max(map(len, prompts))
    inputs_BT = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
    if all(len(ids) == width for ids in prompts):
        return inputs_BT, None
    mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    return inputs_BT, mask_BT
