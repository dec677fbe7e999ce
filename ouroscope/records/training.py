"""How one generation is fine-tuned, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems


class Method(Enum):
    """Which weights move."""

    FULL = "FULL"
    LORA = "LORA"


class Schedule(Enum):
    """How the learning rate moves after warm-up."""

    CONSTANT = "CONSTANT"
    LINEAR = "LINEAR"
    COSINE = "COSINE"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSpec:
    """Low-rank adapters; the defaults are the published loop's (r 16, alpha 16, all linear projections)."""

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    """In [0, 1)."""
    targets: tuple[str, ...] = ()
    """Names of the modules that get an adapter; empty means every linear projection."""

    def __post_init__(self) -> None:
        problems = Problems("lora")
        problems.check(self.rank >= 1, "rank", "must be at least 1")
        problems.check(self.alpha > 0, "alpha", "must be above 0")
        problems.check(0 <= self.dropout < 1, "dropout", "must be in [0, 1)")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one generation is fine-tuned; the same in every arm of a run."""

    method: Method = Method.FULL
    steps: int = 200
    """Optimiser steps, at least 1; equal in all arms, so that compute is equal whatever the training set."""
    batch_size: int = 16
    """Blocks per optimiser micro-step."""
    gradient_accumulation: int = 1
    block_tokens: int = 128
    """Tokens of one packed block."""
    learning_rate: float = 5e-4
    warmup_share: float = 0.1
    """Share of the steps in which the rate rises from 0, in [0, 1]."""
    schedule: Schedule = Schedule.COSINE
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    lora: LoraSpec = field(default_factory=LoraSpec)
    seed: int = 0
    checkpoint_steps: int = 50
    """Steps between private checkpoints, from which a killed job goes on."""

    def __post_init__(self) -> None:
        problems = Problems("recipe")
        problems.check(self.steps >= 1, "steps", "must be at least 1")
        problems.check(self.batch_size >= 1, "batch_size", "must be at least 1")
        problems.check(self.gradient_accumulation >= 1, "gradient_accumulation", "must be at least 1")
        problems.check(self.block_tokens >= 8, "block_tokens", "must be at least 8")
        problems.check(0 < self.learning_rate < 1, "learning_rate", f"must be in (0, 1), got {self.learning_rate}")
        problems.check(0 <= self.warmup_share <= 1, "warmup_share", "must be in [0, 1]")
        problems.check(self.weight_decay >= 0, "weight_decay", "must be 0 or more")
        problems.check(self.max_gradient_norm > 0, "max_gradient_norm", "must be above 0")
        problems.check(self.checkpoint_steps >= 1, "checkpoint_steps", "must be at least 1")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """Train `model` further on the union of `corpora`."""

    model: ArtifactRef
    corpora: tuple[ArtifactRef, ...]
    recipe: Recipe

    def __post_init__(self) -> None:
        problems = Problems("fine-tune")
        problems.check(bool(self.corpora), "corpora", "give at least one corpus")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """Mean training loss (nats per token) up to one step since the point before."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuned:
    """The next model."""

    model: ArtifactRef
    steps: int
    tokens: int
    """Tokens that were trained on, repetitions counted."""
    losses: tuple[LossPoint, ...] = ()
