"""Held-out text that a training is watched on: the same blocks at every evaluation. Knows nothing of stores."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import islice

import torch

from ouroscope.errors import InvalidRequest, TrainingDiverged
from ouroscope.records.training import Recipe
from services.trainer.course import Course
from services.trainer.environment import Environment
from services.trainer.objective import evaluate
from services.trainer.packing import Documents, epoch_tokens, packed_blocks
from services.trainer.progress import evaluates
from services.trainer.world import World

MOST_BLOCKS = 64
"""Blocks that are looked at, whatever the size of the held-out corpus."""
_SEED = 0
"""Of the choice of blocks. No seed of a recipe: arms of a run are compared on the same text."""


class Heldout:
    """Blocks of held-out text, in memory."""

    def __init__(self, documents: Documents, recipe: Recipe, end: int) -> None:
        """Choose at most `MOST_BLOCKS` blocks, and no document twice unless all of them do not fill one block.

        Raises:
            InvalidRequest: no document has a token.
        """
        if not epoch_tokens(documents):
            raise InvalidRequest("the held-out corpus holds no token; give documents that are not empty")
        blocks = max(1, min(MOST_BLOCKS, epoch_tokens(documents) // recipe.block_tokens))
        stream = packed_blocks(documents, block_tokens=recipe.block_tokens, end=end, seed=_SEED)
        self._batches_BT = _batches(list(islice(stream, blocks)), recipe.batch_size)
        self._recipe = recipe

    def watch(
        self,
        model: torch.nn.Module,
        weights: dict[str, torch.nn.Parameter],
        course: Course,
        environment: Environment,
        world: World,
    ) -> None:
        """Evaluate if it is time to: after every `heldout_steps` steps, and after the last.

        Raises:
            TrainingDiverged: the loss is no number.
            InvalidRequest: of the chosen blocks no token counts.
        """
        if not evaluates(course.steps, self._recipe):
            return
        model.eval()
        loss = evaluate(model, self._batches_BT, environment, world)
        model.train()
        if loss is None:
            raise InvalidRequest("no token of the held-out text counts under recipe.loss_scope; use whole documents")
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the loss on held-out text is no number at step {course.steps}")
        course.judge(loss, weights, self._recipe)


def _batches(blocks: Sequence[array[int]], size: int) -> list[torch.Tensor]:
    """Return the blocks as tensors [B, T] of at most `size` blocks."""
    rows = [torch.frombuffer(block, dtype=torch.int64) for block in blocks]
    return [torch.stack(rows[start : start + size]) for start in range(0, len(rows), size)]
