"""One model learns from packed blocks. Knows tensors and a recipe; nothing of stores, corpora or files of any name.

On a CPU the result depends on the arguments alone: the order of the data has its own seed, dropout is seeded anew at
every step, and operations are the deterministic ones. So a job that was killed and resumed ends with the same bits as
one that was not, and a checkpoint needs no random state. Several processes make every step together: each learns from
its blocks of the same batch, and what is summed or decided is the same number in all of them (see world.py).

Shapes: B = blocks of one micro-step, T = tokens of a block.
"""

from __future__ import annotations

import contextlib
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from functools import partial
from itertools import islice
from typing import Protocol

import torch

from ouroscope.errors import LimitExceeded, OuroscopeError, StorageFull
from ouroscope.memory import is_lack_of_memory
from ouroscope.records.progress import Progress
from ouroscope.records.training import Recipe
from ouroscope.seeds import derive_seed
from services.trainer.course import Course, put_back
from services.trainer.environment import Environment
from services.trainer.heldout import Heldout
from services.trainer.objective import Tally, backward, counted_tokens, mean_loss
from services.trainer.optimizers import new_optimizer
from services.trainer.progress import Meter, check_health, learning_rate
from services.trainer.world import Alone, World, plain_number

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

    def restore(self, weights: Weights, optimizer: torch.optim.Optimizer) -> Course:
        """Put the last state back and return what happened so far."""

    def save(self, weights: Weights, optimizer: torch.optim.Optimizer, course: Course) -> None:
        """Keep the state, all of it or nothing."""


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
    heldout: Heldout | None = None,
    world: World | None = None,
    corpus_weights: Sequence[float] | None = None,
) -> Course:
    """Make all steps of `recipe` that are not made yet, changing `model`; return what happened.

    A loss is the mean over the step's tokens that count, in nats per token; where corpora have weights, which are then
    those of `relative_weights`, the weighted mean. With `recipe.patience` the model ends with the weights of the best
    evaluation on `heldout`, which may be those of an earlier step.

    Raises:
        Cancelled, Unavailable: `control` said so; what was reached is kept in `memory`.
        TrainingDiverged: the loss left every bound.
        LimitExceeded: the batch does not fit into memory.
        StorageFull: a checkpoint does not fit; the one before it is intact.
    """
    world = world or Alone()
    weights = trainable(model)
    optimizer = new_optimizer(weights, recipe)
    course = memory.restore(weights, optimizer)
    meter = Meter(recipe, clock, done=course.steps)
    supply = _steps(blocks, recipe, world, first=course.steps)
    learn = partial(backward, truncation=recipe.truncation, environment=environment)
    if corpus_weights:
        learn = partial(learn, weights_C=torch.tensor(corpus_weights, dtype=torch.float32, device=environment.device))
    step = partial(_step, model, weights, optimizer, recipe, learn, world, vocabulary)
    model.train()
    with _only_user_of_randomness(control, environment), _memory_errors(recipe):
        while not course.over(recipe):
            _check(control, world, keep=lambda: memory.save(weights, optimizer, course))
            course.losses.append(step(course.steps, next(supply)))
            if heldout:
                heldout.watch(model, weights, course, environment, world)
            control.report(meter.progress(course.steps, course.losses[-1], course.last_heldout_loss))
            if course.steps % recipe.checkpoint_steps == 0 and not course.over(recipe):
                memory.save(weights, optimizer, course)
    if course.best:
        put_back(course.best, weights)
    model.eval()
    return course


def _step(
    model: torch.nn.Module,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    learn: Callable[[torch.nn.Module, torch.Tensor, float], Tally],
    world: World,
    vocabulary: int,
    step: int,
    batches_BT: Sequence[torch.Tensor],
) -> float | None:
    """Learn from the micro-batches of one step; return its loss, or None where no token counts and no weight moves."""
    torch.manual_seed(derive_seed(recipe.seed, "dropout", step, *([world.rank] if world.rank else [])))
    optimizer.zero_grad(set_to_none=True)
    (counted,) = world.mean(counted_tokens(batches_BT))
    tallies = [learn(model, batch_BT, counted) for batch_BT in batches_BT]
    sums = world.mean(*(sum(each) for each in zip(*map(astuple, tallies), strict=True)))
    loss = mean_loss(Tally(*sums), counted, weights.values())
    if loss is None:
        return None
    norm = plain_number(torch.nn.utils.clip_grad_norm_(weights.values(), recipe.max_gradient_norm))
    # Before the weights move: what a checkpoint holds is always sound.
    check_health(step, loss, norm, vocabulary, recipe)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, recipe)
    optimizer.step()
    return loss


def _steps(blocks: Blocks, recipe: Recipe, world: World, first: int) -> Iterator[list[torch.Tensor]]:
    """Yield this process's share of the micro-batches [B, T] of each step, from step `first` on."""
    stream = blocks(first * recipe.gradient_accumulation * recipe.batch_size)
    while True:
        batches_BT = (_stacked(islice(stream, recipe.batch_size)) for _ in range(recipe.gradient_accumulation))
        yield [world.share(batch_BT) for batch_BT in batches_BT]


def _stacked(blocks: Iterator[array[int]]) -> torch.Tensor:
    return torch.stack([torch.frombuffer(block, dtype=torch.int64) for block in blocks])


def _check(control: Control, world: World, keep: Callable[[], None]) -> None:
    """Stop if asked to, but first keep what was reached: a drained service goes on from here, not from the start."""
    try:
        world.together(control.check)
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
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        advice = f"lower recipe.batch_size (now {recipe.batch_size}) and raise recipe.gradient_accumulation instead"
        raise LimitExceeded(f"one micro-step does not fit into memory; {advice}") from error
