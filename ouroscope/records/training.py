"""How one generation is fine-tuned, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.generation import ChatFormat
from ouroscope.shapes import UNLESS_DEFAULT


class Method(Enum):
    """Which weights move."""

    FULL = "FULL"
    LORA = "LORA"


class Schedule(Enum):
    """How the learning rate moves after warm-up."""

    CONSTANT = "CONSTANT"
    LINEAR = "LINEAR"
    COSINE = "COSINE"


class Optimizer(Enum):
    """What moves the weights."""

    ADAMW = "ADAMW"
    ADAMW_8BIT = "ADAMW_8BIT"
    """Moments in eight bits; needs bitsandbytes and a GPU."""
    ADAFACTOR = "ADAFACTOR"
    SGD = "SGD"
    """With momentum 0.9, through which weight decay goes too."""


class LossScope(Enum):
    """Which tokens the loss counts."""

    ALL = "ALL"
    CONTINUATION = "CONTINUATION"
    """Behind the real prefix of each document."""


class BaseWeights(Enum):
    """Number type of weights that do not move."""

    FLOAT32 = "FLOAT32"
    BFLOAT16 = "BFLOAT16"
    FOUR_BIT = "FOUR_BIT"
    """NF4; needs bitsandbytes and a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSpec:
    """Low-rank adapters; the defaults are the published loop's (r 16, alpha 16, all linear projections)."""

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    """In [0, 1)."""
    targets: tuple[str, ...] = ()
    """Names of the modules that get an adapter; empty means every linear projection."""
    rank_stabilized: bool = False
    """Whether adapters are multiplied by alpha / sqrt(rank) instead of alpha / rank (rsLoRA)."""
    keep_adapter: bool = False
    """Whether the adapter is published beside its base instead of merged into it."""
    base_weights: BaseWeights = BaseWeights.FLOAT32
    """Number type of the weights under the adapters."""

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
    """Blocks per optimiser micro-step, of all processes together; a multiple of `processes`."""
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
    optimizer: Optimizer = Optimizer.ADAMW
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, about a third more time."""
    loss_scope: LossScope = LossScope.ALL
    chat: ChatFormat | None = None
    """Documents as turns of a chat, by the template of the model; None reads them as plain text."""
    truncation: float | None = None
    """Tokens to which the model gives more than this probability do not count (truncated cross-entropy), in (0, 1]."""
    heldout_steps: int = 0
    """Steps between evaluations on held-out text; the last step is followed by one too. 0 never."""
    patience: int = 0
    """Evaluations in a row without improvement after which training stops; the weights of the best evaluation are
    published, whether it stopped or not. 0 never stops and publishes the last weights."""
    processes: int = 1
    """Processes that train together."""

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
        truncation = self.truncation
        problems.check(truncation is None or 0 < truncation <= 1, "truncation", "must be in (0, 1], or absent")
        problems.check(self.heldout_steps >= 0, "heldout_steps", "must be 0 (never) or more")
        problems.check(self.patience >= 0, "patience", "must be 0 (never) or more")
        needless = self.patience and not self.heldout_steps
        problems.check(not needless, "patience", "needs heldout_steps: it counts evaluations on held-out text")
        problems.check(self.processes >= 1, "processes", "must be at least 1")
        shared = self.processes < 1 or self.batch_size % self.processes == 0
        wanted = f"must be a multiple of processes ({self.processes}), got {self.batch_size}"
        problems.check(shared, "batch_size", wanted)
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRecipe:
    """Ask whether a trainer can fine-tune `model` by `recipe`, without doing it."""

    model: ArtifactRef
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """Train `model` further on the union of `corpora`."""

    model: ArtifactRef
    corpora: tuple[ArtifactRef, ...]
    recipe: Recipe
    heldout: ArtifactRef | None = None
    """Human text that nobody trains on, for `recipe.heldout_steps`."""
    corpus_weights: tuple[float, ...] = field(default=(), metadata=UNLESS_DEFAULT)
    """Loss weight of the tokens of each corpus, above 0: only their ratios matter; empty weighs all alike."""

    def __post_init__(self) -> None:
        problems = Problems("fine-tune")
        weights = self.corpus_weights
        paired = not weights or len(weights) == len(self.corpora)
        problems.check(paired, "corpus_weights", f"give one for each of the {len(self.corpora)} corpora, or none")
        finite = all(0 < weight < math.inf for weight in weights)
        problems.check(finite, "corpus_weights", "must be above 0 and finite")
        problems.check(bool(self.corpora), "corpora", "give at least one corpus")
        heard = not self.recipe.heldout_steps or self.heldout is not None
        problems.check(heard, "heldout", "give a corpus, since recipe.heldout_steps asks for evaluations on one")
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
    """Optimiser steps that were made: fewer than asked for after an early stop."""
    tokens: int
    """Tokens that were trained on, repetitions counted."""
    losses: tuple[LossPoint, ...] = ()
    heldout_losses: tuple[LossPoint, ...] = ()
    """Loss on held-out text, in the order of the steps."""
