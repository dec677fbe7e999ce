"""How far long work is. Kept apart from runs, since workers report it too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a long-running operation is."""

    stage: str = ""
    done: int = 0
    total: int = 0
    """0 while unknown."""
    unit: str = ""
    seconds_left: float | None = None
    loss: float | None = None
    """Of a training step, nats per token."""
    tokens_per_second: float | None = None
    heldout_loss: float | None = None
    """Of the last evaluation on held-out text, nats per token."""
