"""Batches side by side on the processor, each with one thread of its own. Knows neither models nor texts.

The matrices of a small model are too small to be cut in two: a second thread in one operation gains little, a second
batch beside the first gains nearly all. What is in a batch, and so every value, does not depend on who is first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

import torch

_CHANGING_ROTATIONS = {"dynamic", "longrope"}
"""Kinds of rotary positions that a forward pass changes in the model itself, by the length of what it sees."""

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def is_shareable(model: Any) -> bool:
    """Return whether several threads may ask a model of transformers at once: a forward pass leaves it as it is."""
    kinds = (getattr(module, "rope_type", None) for module in model.modules())
    used = chain.from_iterable(kind.values() if isinstance(kind, dict) else (kind,) for kind in kinds)
    return _CHANGING_ROTATIONS.isdisjoint(used)


def side_by_side(
    batches: Sequence[Batch], work: Callable[[Batch], Result], lanes: int
) -> Iterator[tuple[Batch, Result]]:
    """Yield each batch with what `work` makes of it, in their order; with one lane, in the thread of the caller.

    Whoever stops listening, or hears an error of `work`, does so when the batches that were begun are done; no other
    is begun.
    """
    if lanes == 1 or len(batches) == 1:
        yield from ((batch, work(batch)) for batch in batches)
        return
    # Torch counts threads per thread that calls it.
    pool = ThreadPoolExecutor(lanes, "lane", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from zip(batches, pool.map(work, batches), strict=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
