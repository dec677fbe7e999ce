"""Optimisers by their names in a recipe. Their rate is set before every step by who uses them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from transformers.optimization import Adafactor

from ouroscope.records.training import Optimizer, Recipe


def new_optimizer(weights: Mapping[str, torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser, which decays matrices, and neither biases nor the gains of norms."""
    matrices = [weight for weight in weights.values() if weight.ndim >= 2]
    others = [weight for weight in weights.values() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return _NEW[recipe.optimizer]([group for group in groups if group["params"]], lr=recipe.learning_rate)


def _eight_bit(groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = importlib.import_module("bitsandbytes").optim.AdamW8bit(groups, lr=lr)
    return made


_NEW: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    Optimizer.ADAMW: partial(torch.optim.AdamW, fused=True),
    Optimizer.ADAMW_8BIT: _eight_bit,
    # With the rate of the schedule alone: its own would make the recipe's a dead letter.
    Optimizer.ADAFACTOR: partial(Adafactor, scale_parameter=False, relative_step=False, warmup_init=False),
    # Decay goes through the momentum here, as in torch: with SGD it is not decoupled.
    Optimizer.SGD: partial(torch.optim.SGD, momentum=0.9),
}
