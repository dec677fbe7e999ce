"""What a training job keeps so that it can go on after a kill. Private: it stays in the job's draft, never published.

A checkpoint holds the weights that move, the optimiser's state and the course of the training so far; the order of the
data and dropout follow from the number of steps. It is read with torch's safe loader, which builds tensors and plain
values only.
"""

from __future__ import annotations

import io
from typing import Any, Protocol

import structlog
import torch

from ouroscope.records.training import LossPoint
from services.trainer.course import Course, put_back
from services.trainer.finetune import Weights

log = structlog.get_logger(__name__)

NAME = "checkpoint.pt"
State = dict[str, Any]


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

    def restore(self, weights: Weights, optimizer: torch.optim.Optimizer) -> Course:
        """Put the last state back and return what happened so far; nothing changes if there is none.

        A checkpoint that cannot be read is passed over: starting again gives the same model, only later.
        """
        state = self._read(weights) if self._draft.has(NAME) else None
        return put_state(state, weights, optimizer) if state else Course()

    def save(self, weights: Weights, optimizer: torch.optim.Optimizer, course: Course) -> None:
        """Keep the state.

        Raises:
            StorageFull: it does not fit; the checkpoint before it is intact.
        """
        self._draft.write(NAME, encoded(state_of(weights, optimizer, course)))

    def _read(self, weights: Weights) -> State | None:
        try:
            return checked(decoded(self._draft.read(NAME)), weights)
        except Exception as error:
            log.warning("checkpoint.unreadable", error=type(error).__name__)
            return None


def state_of(weights: Weights, optimizer: torch.optim.Optimizer, course: Course) -> State:
    """Return all that a checkpoint holds, as tensors and plain values."""
    return {
        "weights": {name: weight.detach() for name, weight in weights.items()},
        "optimizer": optimizer.state_dict(),
        "losses": course.losses,
        "heldout": [(point.step, point.loss) for point in course.heldout],
        "best": course.best,
    }


def put_state(state: State, weights: Weights, optimizer: torch.optim.Optimizer) -> Course:
    """Give weights and optimiser what `state` holds of them; return its course."""
    put_back(state["weights"], weights)
    optimizer.load_state_dict(state["optimizer"])
    heldout = [LossPoint(step=step, loss=loss) for step, loss in state["heldout"]]
    course = Course(losses=state["losses"], heldout=heldout, best=state["best"])
    log.info("checkpoint.restored", steps=course.steps)
    return course


def encoded(state: State) -> bytes:
    """Return a state as bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def decoded(data: bytes) -> State:
    """Return the state of bytes that `encoded` made; raises anything if they are damaged."""
    state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def checked(state: State, weights: Weights) -> State:
    """Return `state` if it is of weights like these.

    Raises:
        ValueError: it is of others.
    """
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if {name: tuple(tensor.shape) for name, tensor in state["weights"].items()} != shapes:
        raise ValueError("the checkpoint is of other weights")
    return state
