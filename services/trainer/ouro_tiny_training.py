"""The loop that teaches an untrained `ouro-tiny`: packed documents in, the best weights seen out.

Takes texts and a schedule; knows nothing of corpora, parts or files. Everything random follows the seed.

Shapes: B = sequences of a batch, T = tokens of a sequence, V = vocabulary.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ouroscope.errors import InvalidRequest, TrainingDiverged
from services.trainer.ouro_tiny import encoded, new_model, quality

_REPORTED_EVERY = 10
OnProgress = Callable[[int, int, float, float], None]
"""Called with (steps done, steps in all, mean loss in nats per token, tokens per second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How the model is trained. The defaults made the committed model."""

    steps: int = 2600
    minutes: float | None = None
    """Where given, replaces `steps` by as many as fit, measured on the first ones."""
    seed: int = 1
    batch: int = 8
    """Sequences per step."""
    length: int = 256
    """Tokens per sequence; documents are packed, so none is padding."""
    learning_rate: float = 2e-3
    warm_up: int = 60
    weight_decay: float = 0.1
    dropout: float = 0.1
    """On the output of every attention and feed-forward block, in training only, in [0, 1)."""
    threads: int = 2
    watch_every: int = 200
    """Steps between looks at the watched documents."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.length < 2:
            raise InvalidRequest("steps, batch and length of a schedule must be positive")
        if not 0 <= self.dropout < 1:
            raise InvalidRequest(f"dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The outcome of a training."""

    model: LlamaForCausalLM
    """With the weights that predicted the watched texts best."""
    schedule: Schedule
    """As asked, with the number of steps really made."""
    best_step: int
    """The step whose weights these are."""


class _Best:
    """The weights that predicted the watched texts best so far."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, watched: Sequence[str]) -> None:
        self._model, self._tokenizer, self._watched = model, tokenizer, watched
        self._perplexity = math.inf
        self.step = 0
        self.state = copy.deepcopy(model.state_dict())

    def look(self, step: int) -> None:
        """Keep the present weights if they are better than those kept."""
        perplexity = quality(self._model, self._tokenizer, self._watched).perplexity
        if perplexity < self._perplexity:
            self._perplexity, self.step = perplexity, step
            self.state = copy.deepcopy(self._model.state_dict())
        self._model.train()


def trained(
    tokenizer: PreTrainedTokenizerFast,
    train: Sequence[str],
    watched: Sequence[str],
    schedule: Schedule,
    on_progress: OnProgress,
) -> Trained:
    """Train a new model on `train` and return it as it was when it predicted the watched texts best."""
    torch.manual_seed(schedule.seed)
    model = new_model(tokenizer)
    batches = packed_batches(encoded(tokenizer, train), int(tokenizer.eos_token_id), schedule)
    optimizer, best = _optimizer(model, schedule), _Best(model, tokenizer, watched)
    losses: deque[float] = deque(maxlen=_REPORTED_EVERY)
    started, step = time.monotonic(), 0
    with _dropout(model, schedule.dropout):
        while step < schedule.steps:
            losses.append(_step(model, optimizer, next(batches), _rate(step, schedule)))
            step += 1
            seconds = time.monotonic() - started
            if step == _REPORTED_EVERY and schedule.minutes is not None:
                schedule = _fitted(schedule, seconds / step)
            if step % _REPORTED_EVERY == 0 or step == schedule.steps:
                speed = step * schedule.batch * schedule.length / seconds
                on_progress(step, schedule.steps, math.fsum(losses) / len(losses), speed)
            if step % schedule.watch_every == 0 or step == schedule.steps:
                best.look(step)
    model.load_state_dict(best.state)
    return Trained(model=model, schedule=schedule, best_step=best.step)


def packed_batches(documents: Sequence[Sequence[int]], end: int, schedule: Schedule) -> Iterator[torch.Tensor]:
    """Yield batches of packed sequences [B, T + 1] without end; each pass over the documents has its own order."""
    rng = random.Random(schedule.seed)
    stream: list[int] = []
    need = schedule.batch * (schedule.length + 1)
    order = list(range(len(documents)))
    while True:
        rng.shuffle(order)
        for index in order:
            stream.append(end)
            stream.extend(documents[index])
            while len(stream) >= need:
                yield torch.tensor(stream[:need]).view(schedule.batch, schedule.length + 1)
                stream = stream[need:]


def _step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, batch_BT: torch.Tensor, rate: float) -> float:
    """Learn from one batch and return its loss in nats per token."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_BTV = model(input_ids=batch_BT[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), batch_BT[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if not math.isfinite(value := float(loss.detach())):
        raise TrainingDiverged("the loss is not finite; lower the learning rate")
    return value


def _rate(step: int, schedule: Schedule) -> float:
    """Return the learning rate: a linear rise, then half a cosine down to a hundredth."""
    if step < schedule.warm_up:
        return schedule.learning_rate * (step + 1) / schedule.warm_up
    done = (step - schedule.warm_up) / max(1, schedule.steps - schedule.warm_up)
    return schedule.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _fitted(schedule: Schedule, seconds_per_step: float) -> Schedule:
    """Return the schedule with as many steps as its minutes allow."""
    assert schedule.minutes is not None
    return replace(schedule, steps=max(20, int(schedule.minutes * 60 / seconds_per_step)))


def _optimizer(model: LlamaForCausalLM, schedule: Schedule) -> torch.optim.AdamW:
    """Return AdamW that decays matrices, not the gains of the norms."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98))


@contextmanager
def _dropout(model: LlamaForCausalLM, share: float) -> Iterator[None]:
    """Drop a share of each block's output while training.

    By hooks, because the Llama architecture has no such dropout: the saved model is a plain Llama.
    """
    drop = torch.nn.Dropout(share)

    def dropped(module: torch.nn.Module, _: object, output: object) -> object:
        if not module.training:
            return output
        return (drop(output[0]), *output[1:]) if isinstance(output, tuple) else drop(output)

    blocks = [block for layer in model.model.layers for block in (layer.self_attn, layer.mlp)]
    hooks = [block.register_forward_hook(dropped) for block in (*blocks, model.model.embed_tokens)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
