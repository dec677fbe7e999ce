"""How far long work is, in documents and tokens per second. Takes its clock, so it can be tested without waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ouroscope.records.progress import Progress


class Task(Protocol):
    """What work knows of the operation that it is."""

    def check(self) -> None:
        """Raise Cancelled (or Unavailable at shutdown) when the work is to stop."""

    def report(self, progress: Progress) -> None:
        """Say how far the work is."""


class Meter:
    """Turns steps of a model into progress, and passes the wish to stop on to whoever makes the steps.

    Documents of a batch end together; until then they are told in proportion to the tokens that are made.
    """

    def __init__(
        self,
        task: Task,
        stage: str,
        total: int,
        *,
        on_tokens: Callable[[int], None] = lambda _: None,
        unit: str = "documents",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`total`: documents in all, 0 while unknown; `on_tokens` hears of all tokens, for a service metric.

        `unit` is what documents are called where they are none.
        """
        self._task, self._stage, self._total = task, stage, total
        self._on_tokens, self._unit, self._clock = on_tokens, unit, clock
        self._began = clock()
        self._tokens = 0
        self._done = 0
        self._part = (0, 0, 1)

    def begin(self, documents: int, tokens: int) -> None:
        """Note that the next part of the work has so many documents, which need about so many tokens in all."""
        self._part = (self._tokens, documents, max(1, tokens))
        self._report(self._done)

    def pulse(self, tokens: int) -> None:
        """Note that a step made so many tokens; raises what `Task.check` raises."""
        self._task.check()
        self._on_tokens(tokens)
        self._tokens += tokens
        before, documents, expected = self._part
        self._report(self._done + min(documents, (self._tokens - before) * documents // expected))

    def finish(self, documents: int) -> None:
        """Note that so many more documents are done."""
        self._done += documents
        self._part = (self._tokens, 0, 1)
        self._report(self._done)

    def _report(self, done: int) -> None:
        seconds = self._clock() - self._began
        speed = self._tokens / seconds if seconds > 0 and self._tokens else None
        self._task.report(
            Progress(stage=self._stage, done=done, total=self._total, unit=self._unit, tokens_per_second=speed)
        )
