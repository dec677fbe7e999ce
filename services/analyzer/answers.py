"""What a model expected after single prompts, kept for people who ask which of them moved. No metric.

A bounded part of the prompts is kept, those whose ids have the smallest hashes, so that two models that were asked the
same prompts keep the same ones. Merging in any order gives equal bits.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ouroscope.canonical import canonical_json
from ouroscope.errors import CorruptArtifact
from ouroscope.records.predictions import NextToken
from services.analyzer.keys import prompt_key

KEPT = 2_000
"""Prompts that are kept."""
LONGEST_ID = 256
"""Characters of the longest id that is kept; a prompt with a longer one cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model expected after one prompt."""

    key: str
    """Hash of the id of the prompt, as 16 hexadecimal digits."""
    entropy: float
    """In nats."""
    top1: float
    """Largest probability, in [0, 1]."""
    prompt_id: str = ""
    """Empty in a frozen baseline, and where it is too long to be kept."""


class AnswerSample:
    """The answers to the prompts with the smallest hashes."""

    def __init__(self) -> None:
        self._kept: dict[int, Answer] = {}
        self._last: list[int] = []  # negated hashes, a heap with the largest hash on top

    def add(self, record: NextToken) -> None:
        """Take in one answer. Of several answers to one prompt the surest counts, whatever their order.

        An answer without an entropy says too little to be shown.
        """
        if record.entropy is None:
            return
        key = prompt_key(record.prompt_id)
        if len(self._last) < KEPT or key <= -self._last[0]:
            answer = Answer(
                key=f"{key:016x}",
                entropy=max(0.0, record.entropy),
                top1=record.top_probabilities[0],
                prompt_id=record.prompt_id if len(record.prompt_id) <= LONGEST_ID else "",
            )
            self._insert(key, answer)

    def merge(self, other: AnswerSample) -> None:
        """Take in what another has kept."""
        for key, answer in other._kept.items():
            self._insert(key, answer)

    def kept(self) -> tuple[Answer, ...]:
        """Return the answers in order of their keys."""
        return tuple(self._kept[key] for key in sorted(self._kept))

    def _insert(self, key: int, answer: Answer) -> None:
        known = self._kept.get(key)
        if known is None:
            heapq.heappush(self._last, -key)
        self._kept[key] = answer if known is None else min(known, answer, key=lambda one: (one.entropy, one.top1))
        if len(self._last) > KEPT:
            del self._kept[-heapq.heappop(self._last)]


def to_bytes(answers: Iterable[Answer]) -> bytes:
    """Write answers as JSON, a row for each; equal answers give equal bytes."""
    return canonical_json([[one.key, one.entropy, one.top1, one.prompt_id] for one in answers]).encode("ascii")


def from_bytes(content: bytes) -> tuple[Answer, ...]:
    """Read what `to_bytes` wrote.

    Raises:
        CorruptArtifact: the bytes are something else.
    """
    try:
        # By hand: two thousand rows are read for every comparison.
        return tuple(
            Answer(key=str(key), entropy=float(entropy), top1=float(top1), prompt_id=str(prompt_id))
            for key, entropy, top1, prompt_id in json.loads(content)
        )
    except (TypeError, ValueError) as error:
        raise CorruptArtifact("the answers of a report cannot be read; measure the predictions again") from error


def nameless(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """Return the answers without the ids of their prompts."""
    return tuple(replace(answer, prompt_id="") for answer in answers)
