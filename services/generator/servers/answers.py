"""What servers answer, looked at before it is believed. Decides only; knows neither a transport nor a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ouroscope.errors import PreconditionFailed

_ROUNDING = 1e-3
"""Log-probabilities a little above 0 come from sums in half precision."""

_LEAST = -1e9
"""Below every log-probability; JSON may hold numbers that no float does."""
MOST_TOKENS = 1 << 31
"""More than any vocabulary has."""


class Broken(ValueError):
    """An answer is not of the form that this kind of server has. Becomes Unavailable at the edge: maybe it was cut."""


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object."""
    if not isinstance(value, dict):
        raise Broken
    return value


def listed(value: Any) -> Sequence[Any]:
    """Return `value` if it is a JSON list."""
    if not isinstance(value, list):
        raise Broken
    return value


def only_choice(answer: Any) -> Mapping[str, Any]:
    """Return the one choice of a completion."""
    choices = listed(mapping(answer).get("choices"))
    if len(choices) != 1:
        raise Broken
    return mapping(choices[0])


def text_of(value: Any) -> str:
    """Return `value` if it is text, with halves of characters as U+FFFD: JSON may hold what UTF-8 cannot."""
    if not isinstance(value, str):
        raise Broken
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def token_ids(value: Any, vocabulary: int = MOST_TOKENS) -> list[int]:
    """Return `value` if it is a list of tokens below `vocabulary`."""
    ids = list(listed(value))
    if not all(type(token) is int and 0 <= token < vocabulary for token in ids):
        raise Broken
    return ids


def log_probability(value: Any) -> float:
    """Return a log-probability, at most 0.

    Raises:
        PreconditionFailed: it is not a number; so it is with a model whose training diverged.

    >>> log_probability(-1)
    -1.0
    """
    if type(value) not in (int, float):
        raise Broken
    if type(value) is float and not math.isfinite(value):
        raise PreconditionFailed("the model's probabilities are not numbers: its training diverged; use an earlier one")
    if value > _ROUNDING:
        raise Broken
    return float(min(0, max(value, _LEAST)))


def count(value: Any, most: int) -> int | None:
    """Return a count in [0, most]; None for everything else, which is then counted here."""
    return value if type(value) is int and 0 <= value <= most else None
