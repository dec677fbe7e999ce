"""One model learns from packed blocks. Knows tensors and a recipe; nothing of stores, corpora or files of any name.

On a CPU the result depends on the arguments alone: the order of the data has its own seed, dropout is seeded anew at
every step, and operations are the deterministic ones. So a job that was killed and resumed ends with the same bits as
one that was not, and a checkpoint needs no random state.

Shapes: B = blocks of one micro-step, T = tokens of a block, V = vocabulary.
"""

from __future__ import annotations

import contextlib
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ouroscope.errors import LimitExceeded, OuroscopeError, StorageFull, UntrustedArtifact
from ouroscope.models import BUILDING, SAFELY
from ouroscope.records.progress import Progress
from ouroscope.records.training import Recipe
from ouroscope.seeds import derive_seed
from services.trainer.environment import Environment
from services.trainer.progress import Meter, check_health, learning_rate

Weights = dict[str, torch.nn.Parameter]
Blocks = Callable[[int], Iterator["array[int]"]]  # quoted: arrays take no type argument at run time before 3.12
"""Gives the stream of packed blocks from a block number on."""

_RANDOM = threading.Lock()
"""Dropout draws from torch's one global random state, so two jobs of a process must not train at once."""


class Control(Protocol):
    """What a job owes those who wait for it."""

    def check(self) -> None:
        """Raise Cancelled or Unavailable if the work shall stop."""

    def report(self, progress: Progress, /) -> None:
        """Say how far the work is."""


class Memory(Protocol):
    """Where a job keeps what it needs to go on after a kill."""

    def restore(self, weights: Weights, optimizer: torch.optim.Optimizer) -> list[float]:
        """Put the last state back and return the loss of every step made so far."""

    def save(self, weights: Weights, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> None:
        """Keep the state, all of it or nothing."""


def open_model(directory: Path, environment: Environment) -> PreTrainedModel:
    """Return the model of a checked directory with float32 weights, on the device.

    Raises:
        UntrustedArtifact: the weights do not belong to the architecture that the configuration names.
    """
    try:
        with BUILDING:
            model, found = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=torch.float32,
                **SAFELY,
                output_loading_info=True,
            )
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        raise UntrustedArtifact(
            f"the model is refused: transformers cannot open it ({type(error).__name__})"
        ) from error
    missing = sorted(found["missing_keys"]) + sorted(str(item[0]) for item in found["mismatched_keys"])
    if missing:
        raise UntrustedArtifact(
            f"the model is refused: {len(missing)} weights are missing or misshapen, as {missing[0]}"
        )
    placed: PreTrainedModel = model.to(environment.device)
    return placed


def trainable(model: torch.nn.Module) -> Weights:
    """Return the weights that move, by name; tied weights appear once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def train(
    model: torch.nn.Module,
    blocks: Blocks,
    recipe: Recipe,
    environment: Environment,
    *,
    vocabulary: int,
    memory: Memory,
    control: Control,
    clock: Callable[[], float],
) -> list[float]:
    """Make all steps of `recipe` that are not made yet, changing `model`; return the loss of every step.

    A loss is the mean over the step's tokens, in nats per token.

    Raises:
        Cancelled, Unavailable: `control` said so; what was reached is kept in `memory`.
        TrainingDiverged: the loss left every bound.
        LimitExceeded: the batch does not fit into memory.
        StorageFull: a checkpoint does not fit; the one before it is intact.
    """
    weights = trainable(model)
    optimizer = _optimizer(weights, recipe, environment)
    losses = memory.restore(weights, optimizer)
    meter = Meter(recipe, clock, done=len(losses))
    supply = _steps(blocks, recipe, first=len(losses))
    step = partial(_step, model, weights, optimizer, recipe, environment, vocabulary)
    model.train()
    with _only_user_of_randomness(control, environment), _memory_errors(recipe):
        while len(losses) < recipe.steps:
            _check(control, keep=lambda: memory.save(weights, optimizer, losses))
            losses.append(step(len(losses), next(supply)))
            control.report(meter.progress(len(losses), losses[-1]))
            if len(losses) % recipe.checkpoint_steps == 0 and len(losses) < recipe.steps:
                memory.save(weights, optimizer, losses)
    model.eval()
    return losses


def _step(
    model: torch.nn.Module,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    environment: Environment,
    vocabulary: int,
    step: int,
    batches_BT: Sequence[torch.Tensor],
) -> float:
    """Learn from the micro-batches of one step, which count the same since all blocks are full; return its loss."""
    torch.manual_seed(derive_seed(recipe.seed, "dropout", step))
    optimizer.zero_grad(set_to_none=True)
    loss = sum(_backward(model, batch_BT, len(batches_BT), environment) for batch_BT in batches_BT)
    norm = torch.nn.utils.clip_grad_norm_(weights.values(), recipe.max_gradient_norm)
    # Before the weights move: what a checkpoint holds is always sound.
    check_health(step, loss, float(norm), vocabulary, recipe)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, recipe)
    optimizer.step()
    return loss


def _backward(model: torch.nn.Module, batch_BT: torch.Tensor, parts: int, environment: Environment) -> float:
    """Add the gradient of one micro-batch and return its part of the step's loss."""
    batch_BT = batch_BT.to(environment.device)
    # Around the forward pass only: inside, autocast keeps copies of the weights that a step would make stale.
    with environment.arithmetic():
        logits_BTV = model(input_ids=batch_BT, use_cache=False).logits
    logits_NV, targets_N = logits_BTV[:, :-1].float().flatten(0, 1), batch_BT[:, 1:].flatten()
    loss = torch.nn.functional.cross_entropy(logits_NV, targets_N) / parts
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _optimizer(weights: Weights, recipe: Recipe, environment: Environment) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices, and neither biases nor the gains of norms."""
    matrices = [weight for weight in weights.values() if weight.ndim >= 2]
    others = [weight for weight in weights.values() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.learning_rate, fused=True)


def _steps(blocks: Blocks, recipe: Recipe, first: int) -> Iterator[list[torch.Tensor]]:
    """Yield the micro-batches [B, T] of each step, from step `first` on."""
    stream = blocks(first * recipe.gradient_accumulation * recipe.batch_size)
    while True:
        yield [
            torch.stack([torch.frombuffer(block, dtype=torch.int64) for block in islice(stream, recipe.batch_size)])
            for _ in range(recipe.gradient_accumulation)
        ]


def _check(control: Control, keep: Callable[[], None]) -> None:
    """Stop if asked to, but first keep what was reached: a drained service goes on from here, not from the start."""
    try:
        control.check()
    except OuroscopeError:
        with contextlib.suppress(StorageFull):
            keep()
        raise


@contextlib.contextmanager
def _only_user_of_randomness(control: Control, environment: Environment) -> Iterator[None]:
    """Have torch's random state for oneself, and leave it as it was."""
    while not _RANDOM.acquire(timeout=0.2):
        control.check()
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if environment.device == "cuda" else []):
            yield
    finally:
        _RANDOM.release()


@contextlib.contextmanager
def _memory_errors(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
            raise
        advice = f"lower recipe.batch_size (now {recipe.batch_size}) and raise recipe.gradient_accumulation instead"
        raise LimitExceeded(f"one micro-step does not fit into memory; {advice}") from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    # On a CPU torch has no class for it.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
