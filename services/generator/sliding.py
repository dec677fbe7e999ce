"""Texts longer than a model's context, as windows that overlap; each token is scored once. Knows no torch and no text.

A window holds as many tokens as fit, moves on by `stride`, and scores what the windows before it have not; the last one
ends with the text. So beyond the first window a token has at least `room - stride` tokens before it, and a smaller
stride gives more context for more work. Every window is read as if it stood at the beginning of a document, after the
model's start tokens, as every text is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ouroscope.errors import InvalidRequest
from services.generator.backend import Examined, LanguageModel, Pulse, TokenScores


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens [begin, end) of a text, of which those from `scored_from` on are scored; positions in the text."""

    begin: int
    end: int
    scored_from: int


def room_of(model: LanguageModel) -> int:
    """Return how many tokens of a text the model sees at once."""
    return model.context_tokens - len(model.tokens.start)


def stride_of(model: LanguageModel, stride: int) -> int:
    """Return by how many tokens a window moves on: `stride`, or half of what the model sees at once where that is 0.

    Raises:
        InvalidRequest: it is more than the model sees at once, so that tokens would be left out.
    """
    room = room_of(model)
    if stride > room:
        raise InvalidRequest(f"stride is {stride} and the model sees {room} tokens of a text at once; lower it")
    return stride or max(1, room // 2)


def windows(tokens: int, scored_from: int, room: int, stride: int) -> Iterator[Window]:
    """Yield the windows of a text whose tokens from `scored_from` on are scored.

    >>> [(w.begin, w.end, w.scored_from) for w in windows(10, 1, room=6, stride=3)]
    [(0, 6, 1), (3, 9, 6), (4, 10, 9)]
    """
    first, end = scored_from, min(tokens, room)
    while first < tokens:
        if end > first:
            yield Window(max(0, end - room), end, first)
            first = end
        end = min(tokens, end + stride)


def judge_sliding(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    scored_from: Sequence[int],
    stride: int,
    batch_size: int,
    pulse: Pulse,
) -> list[TokenScores]:
    """Return the scores of each text's tokens from position `scored_from` on; see `examine_sliding`."""
    found = examine_sliding(model, texts, scored_from, [None] * len(texts), 1, stride, batch_size, pulse)
    return [each.scores for each in found]


def examine_sliding(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    scored_from: Sequence[int],
    asked: Sequence[int | None],
    top_n: int,
    stride: int,
    batch_size: int,
    pulse: Pulse,
) -> list[Examined]:
    """Return what `LanguageModel.examine` says of each text, whatever its length.

    Args:
        model: What judges.
        texts: Tokens of each text.
        scored_from: First scored position of each text.
        asked: A scored position of each text that the first window holds, or None.
        top_n: Probabilities kept of what is expected there.
        stride: Tokens that a window moves on, in [1, room]; see `stride_of`.
        batch_size: Windows looked at together.
        pulse: Hears of every step.
    """
    room = room_of(model)
    cut = [list(windows(len(ids), first, room, stride)) for ids, first in zip(texts, scored_from, strict=True)]
    pieces = [ids[w.begin : w.end] for ids, found in zip(texts, cut, strict=True) for w in found]
    firsts = [w.scored_from - w.begin for found in cut for w in found]
    places = [
        place if number == 0 else None for found, place in zip(cut, asked, strict=True) for number in range(len(found))
    ]
    told = iter(model.examine(pieces, firsts, places, top_n, batch_size, pulse))
    return [_joined([next(told) for _ in found]) for found in cut]


def _joined(parts: Sequence[Examined]) -> Examined:
    greedy = [part.scores.greedy for part in parts if part.scores.greedy is not None]
    scores = TokenScores(
        np.concatenate([part.scores.log_probabilities for part in parts]),
        # What is not known of a part is not known of the text.
        np.concatenate(greedy) if len(greedy) == len(parts) else None,
    )
    return Examined(scores, parts[0].expectation)
