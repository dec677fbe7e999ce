"""Asking a model in the middle of its training so that the training does not notice: modes and random states come back.

Knows torch; nothing of what is asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Put every part of a model into evaluation mode, and afterwards back; random numbers go on where they were."""
    # Part by part: some may be frozen in evaluation mode on purpose.
    training = [(module, module.training) for module in model.modules()]
    with _random_states(), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, mode in training:
                module.training = mode


@contextmanager
def _random_states() -> Iterator[None]:
    plain, numbers = random.getstate(), np.random.get_state()
    # A seed reaches all accelerators, so all of their states are kept.
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    apple = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numbers)
            if apple is not None:
                torch.mps.set_rng_state(apple)
