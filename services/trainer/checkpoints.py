"""What a training job keeps so that it can go on after a kill. Private: it stays in the job's draft, never published.

A checkpoint holds the weights that move, the optimiser's state and the losses so far; the order of the data and dropout
follow from the number of steps. It is read with torch's safe loader, which builds tensors and plain values only.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Protocol

import structlog
import torch

from services.trainer.finetune import Weights

log = structlog.get_logger(__name__)

NAME = "checkpoint.pt"


class Draft(Protocol):
    """A private working area that survives a crash; its writes are all or nothing."""

    def has(self, name: str) -> bool:
        """Return whether `name` was written."""

    def write(self, name: str, data: bytes) -> None:
        """Replace `name`."""

    def read(self, name: str) -> bytes:
        """Return what was written."""


class Checkpoints:
    """The one latest checkpoint of one job, in its draft."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def restore(self, weights: Weights, optimizer: torch.optim.Optimizer) -> list[float]:
        """Put the last state back and return the loss of every step made so far; nothing changes if there is none.

        A checkpoint that cannot be read is passed over: starting again gives the same model, only later.
        """
        if not self._draft.has(NAME):
            return []
        try:
            state = _load(self._draft.read(NAME), weights)
        except Exception as error:
            log.warning("checkpoint.unreadable", error=type(error).__name__)
            return []
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(state["weights"][name])
        optimizer.load_state_dict(state["optimizer"])
        losses: list[float] = state["losses"].tolist()
        log.info("checkpoint.restored", steps=len(losses))
        return losses

    def save(self, weights: Weights, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> None:
        """Keep the state.

        Raises:
            StorageFull: it does not fit; the checkpoint before it is intact.
        """
        state = {
            "weights": {name: weight.detach() for name, weight in weights.items()},
            "optimizer": optimizer.state_dict(),
            "losses": torch.tensor(losses, dtype=torch.float64),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._draft.write(NAME, buffer.getvalue())


def _load(data: bytes, weights: Weights) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if {name: tuple(tensor.shape) for name, tensor in state["weights"].items()} != shapes:
        raise ValueError("the checkpoint is of other weights")
    return state
