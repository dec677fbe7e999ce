"""How long work is followed, and how it is stopped. Knows nothing of the work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ouroscope.records.progress import Progress

_BATCH = 256
# Documents or records between two looks at whether to stop.

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watch:
    """How the caller follows long work, and stops it by raising from `check`."""

    on_progress: Callable[[Progress], None] = field(default=lambda _: None)
    check: Callable[[], None] = field(default=lambda: None)

    def over(self, items: Iterable[T], stage: str, unit: str) -> Iterable[Sequence[T]]:
        """Yield batches of `items`, telling progress and looking for a stop before each."""
        done = 0
        for batch in _batched(items):
            self.check()
            yield batch
            done += len(batch)
            self.on_progress(Progress(stage=stage, done=done, unit=unit))


def _batched(items: Iterable[T]) -> Iterable[tuple[T, ...]]:
    remaining = iter(items)
    while batch := tuple(itertools.islice(remaining, _BATCH)):
        yield batch
