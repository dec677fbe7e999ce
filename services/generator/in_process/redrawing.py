"""Tokens of given texts drawn anew where the model finds them too easy. Knows tensors; no text, no store.

Every position is judged on the text as it was given, so what is drawn at one does not depend on what is drawn at
another, and one forward pass is enough.

Shapes: B = texts in the batch, T = positions, R = positions looked at together, V = vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ouroscope.probabilities import log_probabilities
from ouroscope.records.generation import SamplingSpec
from services.generator.backend import STAYS
from services.generator.in_process.decoding import choose
from services.generator.in_process.scoring import Head, portions, right_padded


@torch.inference_mode()
def redraw_texts(
    head: Head,
    texts: Sequence[Sequence[int]],
    first: Sequence[int],
    noises: Sequence[NDArray[np.int64]],
    threshold: float,
    top_k: int,
    never: Sequence[int],
) -> list[NDArray[np.int64]]:
    """Return for each text what is drawn at its positions from `first` on, `STAYS` where nothing is.

    Args:
        head: The model.
        texts: Tokens of each text, start tokens included.
        first: First position of each text that may be drawn anew, at least 1; there is at least one.
        noises: Of each of these positions.
        threshold: Probability above which a token is drawn anew, in (0, 1].
        top_k: Tokens kept before drawing, at least 1.
        never: Tokens that are not drawn.
    """
    inputs_BT = right_padded([ids[:-1] for ids in texts], head.model.device)
    states_BTX = head.states(inputs_BT)
    rows = [(text, place - 1) for text, ids in enumerate(texts) for place in range(first[text], len(ids))]
    targets = torch.tensor([texts[text][place + 1] for text, place in rows])
    given_N2 = torch.stack([targets, torch.from_numpy(np.concatenate(noises))], -1).to(inputs_BT.device)
    never_E = torch.tensor(never, dtype=torch.long, device=inputs_BT.device)
    found = [
        _redrawn(logits_RV, given_R2, threshold, SamplingSpec(top_k=top_k), never_E)
        for logits_RV, given_R2 in portions(head, states_BTX, rows, given_N2)
    ]
    ends = np.cumsum([len(each) for each in noises])[:-1]
    return np.split(torch.cat(found).cpu().numpy(), ends)


def _redrawn(logits_RV: Tensor, given_R2: Tensor, threshold: float, sampling: SamplingSpec, never_E: Tensor) -> Tensor:
    targets_R, noise_R = given_R2.unbind(-1)
    easy_R = log_probabilities(logits_RV, targets_R)[0] > math.log(threshold)
    drawn_R = torch.full_like(targets_R, STAYS)
    if bool(easy_R.any()):
        scores_RV = logits_RV[easy_R]
        scores_RV[:, never_E] = -torch.inf
        drawn_R[easy_R] = choose(scores_RV, noise_R[easy_R], sampling)
    return drawn_R
