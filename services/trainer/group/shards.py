"""Checkpoints of several processes: each writes its own part, and the parts count together or not at all.

Nothing is gathered, so a checkpoint costs each process the size of its share. The parts of a new checkpoint are written
beside those of the last one, and a small file says which of the two counts: it is replaced when every part is written.
(torch.distributed.checkpoint would do as much, but its metadata is a pickle; these files are read by the safe loader.)
A checkpoint is for the same number of processes, which is a part of the request that the draft belongs to.
"""

from __future__ import annotations

import json
from typing import Any

import structlog
import torch

from ouroscope.canonical import canonical_json
from services.trainer.checkpoints import Draft, State, checked, decoded, encoded, put_state, state_of
from services.trainer.course import Course
from services.trainer.finetune import Weights
from services.trainer.world import World

log = structlog.get_logger(__name__)

LATEST = "checkpoint.json"


class ShardedCheckpoints:
    """The one latest checkpoint of one job that several processes work on. Every method is called by all of them."""

    def __init__(self, draft: Draft, world: World) -> None:
        self._draft, self._world = draft, world
        self._slot = 0
        """Which of two places the latest checkpoint is in."""

    def restore(self, weights: Weights, optimizer: torch.optim.Optimizer) -> Course:
        """Put the last state back and return what happened so far; nothing changes if one part of it is missing."""
        state = self._read(weights)
        (readable,) = self._world.mean(state is not None)
        if state is None or readable < 1:
            return Course()
        return put_state(state, weights, optimizer)

    def save(self, weights: Weights, optimizer: torch.optim.Optimizer, course: Course) -> None:
        """Keep the state.

        Raises:
            StorageFull: this process's part, or the word that all are there, does not fit; the last one is intact.
            Unavailable: another process could not write its part.
        """
        slot = 1 - self._slot
        data = encoded(self._world.plain(state_of(weights, optimizer, course)))
        self._world.together(lambda: self._draft.write(self._name(slot), data))
        self._world.together(lambda: self._count(slot))
        self._slot = slot

    def _count(self, slot: int) -> None:
        if self._world.rank == 0:
            told = canonical_json({"slot": slot, "processes": self._world.size})
            self._draft.write(LATEST, told.encode("ascii"))

    def _read(self, weights: Weights) -> State | None:
        try:
            self._slot = self._latest()
            return checked(self._world.sharded(decoded(self._draft.read(self._name(self._slot)))), weights)
        except Exception as error:
            if self._draft.has(LATEST):
                log.warning("checkpoint.unreadable", error=type(error).__name__)
            return None

    def _latest(self) -> int:
        told: Any = json.loads(self._draft.read(LATEST))
        if told["processes"] != self._world.size or told["slot"] not in (0, 1):
            raise ValueError("the checkpoint is of another group")
        slot: int = told["slot"]
        return slot

    def _name(self, slot: int) -> str:
        return f"checkpoint-{slot}-{self._world.rank:05d}.pt"
