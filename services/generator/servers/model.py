"""A model that a server serves. What all kinds of servers share.

Texts are cut here, with the tokenizer of the stored model, so that every backend reads the same tokens. The weights
are asked for before and after every part of the work: what was made while others came is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from ouroscope.chat import ChatFrame
from ouroscope.errors import InvalidRequest, Unavailable
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import ChatFormat, SamplingSpec, Served
from ouroscope.seeds import derive_seed
from ouroscope.tokens import Tokens
from services.generator.backend import (
    Continuation,
    Examined,
    Expectation,
    Prompt,
    Pulse,
    TokenScores,
    Written,
    check_needs,
)
from services.generator.servers.base import Asked, Choices, Dialect, Judged
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport
from services.generator.servers.weights import Weights

log = structlog.get_logger(__name__)

R = TypeVar("R")

_LOSSES = 4
"""Times that a part is asked for, each after a replica was lost in the middle of it."""
_BESIDE = 2
"""Tokens beside a text that is scored: the one that follows a prompt, and the one that a server always draws."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A model that a server is known to serve."""

    weights: Weights
    model: ArtifactRef
    served: Served

    def meanwhile(self, transport: Transport, ask: Callable[[], R]) -> R:
        """Ask between two looks at the weights: what was made while other weights came is not kept.

        Nobody can tell what a replica had served that was lost meanwhile, so the others are asked for all of it.

        Raises:
            PreconditionFailed: a replica serves other weights.
            Unavailable: none can be reached, or they come and go.
        """
        for _ in range(_LOSSES):
            self.weights.verify(self.model)
            there = transport.there
            with transport.only(there):
                found = ask()
            self.weights.verify(self.model)
            if there <= transport.there:
                return found
            log.warning("part.repeated", backend=self.served.backend, reason="a replica was lost")
        raise Unavailable(f"the servers of backend {self.served.backend!r} come and go; see their logs, then ask again")


class ServerModel:
    """A model that a server serves; see `LanguageModel`."""

    def __init__(
        self,
        transport: Transport,
        dialect: Dialect,
        verified: Verified,
        tokens: Tokens,
        frame: Callable[[ChatFormat], ChatFrame],
        *,
        room: int,
        max_scored_tokens: int,
        vocabulary: int,
    ) -> None:
        self._transport, self._dialect, self._verified = transport, dialect, verified
        self._frame, self._room = frame, room
        """Tokens of a prompt and its continuation together."""
        self.tokens, self.vocabulary = tokens, vocabulary
        self.context_tokens = min(room - _BESIDE, max_scored_tokens)
        """Of a text that is scored; longer ones are for windows."""
        self.served = verified.served

    def write(self, prompts: Sequence[Prompt], sampling: SamplingSpec, batch_size: int, pulse: Pulse) -> Written:
        """Continue every prompt; see `LanguageModel.write`."""
        check_needs(self.served.backend, self._dialect.honours, sampling.needs)
        asked = self._asked(prompts, sampling)

        def call(one: Asked) -> Callable[[Replica], Awaitable[Continuation]]:
            return lambda replica: self._dialect.write(replica, self.served, self.tokens, one)

        def ask() -> list[Continuation]:
            return self._transport.run([call(one) for one in asked], pulse, tokens=lambda _, written: written.tokens)

        return Written(tuple(self._verified.meanwhile(self._transport, ask)), batch_size)

    def expect(
        self,
        prompts: Sequence[Sequence[int]],
        following: Sequence[int | None],
        top_n: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[Expectation]:
        """Say what is expected after each prompt; see `LanguageModel.expect`."""
        most = min(top_n, self.vocabulary)
        inputs = [[*self.tokens.start, *ids] for ids in prompts]
        known = partial(self._expected, inputs, following, most, pulse)
        found, judged = self._verified.meanwhile(self._transport, known)
        pairs = zip(found, following, strict=True)
        return [_expectation(choices, true, judged.get(place)) for place, (choices, true) in enumerate(pairs)]

    def _expected(
        self, inputs: Sequence[list[int]], following: Sequence[int | None], most: int, pulse: Pulse
    ) -> tuple[list[Choices], dict[int, Judged]]:
        """Return the first choices after each prompt, and what is thought of tokens that are not among them."""

        def ask(ids: list[int]) -> Callable[[Replica], Awaitable[Choices]]:
            return lambda replica: self._dialect.choices(replica, self.served, self.tokens, ids, most)

        scoring = self._dialect.choices_score_prompts
        found = self._transport.run([ask(ids) for ids in inputs], pulse, tokens=_lengths(inputs), scoring=scoring)
        # Only a token that is not among the first choices needs a request of its own.
        outside = {
            place: ([*inputs[place], true], len(inputs[place]))
            for place, true in enumerate(following)
            if true is not None and true not in (found[place].tokens or ())
        }
        return found, dict(zip(outside, self._judged(list(outside.values()), pulse), strict=True))

    def judge(
        self, texts: Sequence[Sequence[int]], scored_from: Sequence[int], batch_size: int, pulse: Pulse
    ) -> list[TokenScores]:
        """Score each text; see `LanguageModel.judge`."""
        before = len(self.tokens.start)
        inputs = [[*self.tokens.start, *ids] for ids in texts]
        self._check_length(inputs)
        asked = [(ids, before + first) for ids, first in zip(inputs, scored_from, strict=True)]
        found = self._verified.meanwhile(self._transport, partial(self._judged, asked, pulse))
        return [TokenScores(judged.log_probabilities, judged.greedy) for judged in found]

    def examine(
        self,
        texts: Sequence[Sequence[int]],
        scored_from: Sequence[int],
        asked: Sequence[int | None],
        top_n: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[Examined]:
        """Score each text, and ask about positions apart: no server tells both; see `LanguageModel.examine`."""
        scores = self.judge(texts, scored_from, batch_size, pulse)
        places = [(ids, place) for ids, place in zip(texts, asked, strict=True) if place is not None]
        prompts, following = [ids[:place] for ids, place in places], [ids[place] for ids, place in places]
        expected = iter(self.expect(prompts, following, top_n, batch_size, pulse) if places else ())
        pairs = zip(scores, asked, strict=True)
        return [Examined(each, None if place is None else next(expected)) for each, place in pairs]

    def _judged(self, texts: Sequence[tuple[list[int], int]], pulse: Pulse) -> list[Judged]:
        """Return what is thought of each text (start included) from some position on."""

        def ask(ids: list[int], first: int) -> Callable[[Replica], Awaitable[Judged]]:
            return lambda replica: self._dialect.judge(replica, self.served, self.tokens, ids, first)

        calls = [ask(ids, first) for ids, first in texts]
        return self._transport.run(calls, pulse, tokens=_lengths([ids for ids, _ in texts]), scoring=True)

    def _asked(self, prompts: Sequence[Prompt], sampling: SamplingSpec) -> list[Asked]:
        befores, ends = self._around(prompts, sampling)
        encoded = self.tokens.encode_many([prompt.text for prompt in prompts])
        for prompt, before, ids in zip(prompts, befores, encoded, strict=True):
            self._check_room(prompt, len(before) + len(ids), sampling.max_new_tokens)
        seeds = [derive_seed(sampling.seed, prompt.id) for prompt in prompts]
        return [
            Asked(prompt, before, tuple(ids), ends, seed, sampling)
            for prompt, before, ids, seed in zip(prompts, befores, encoded, seeds, strict=True)
        ]

    def _around(
        self, prompts: Sequence[Prompt], sampling: SamplingSpec
    ) -> tuple[list[tuple[int, ...]], frozenset[int]]:
        """Return the tokens before each prompt, and those that end a document."""
        if sampling.chat is None:
            return [self.tokens.start] * len(prompts), self.tokens.ends
        frame = self._frame(sampling.chat)
        return [frame.before(prompt.summary) for prompt in prompts], self.tokens.ends | frame.ends

    def _check_room(self, prompt: Prompt, length: int, new_tokens: int) -> None:
        if length == 0:
            raise InvalidRequest(f"prompt {prompt.id[:80]!r} is empty and the model has no start token; give prefixes")
        if length + new_tokens > self._room:
            raise InvalidRequest(
                f"{prompt.spoken(length)}; with {new_tokens} new ones it does not fit into the {self._room} that the "
                "server has room for; lower sampling.max_new_tokens or shorten what the model is told"
            )

    def _check_length(self, inputs: Sequence[Sequence[int]]) -> None:
        longest = max(map(len, inputs), default=0)
        if longest > self.context_tokens:
            raise InvalidRequest(
                f"a text of {longest} tokens is longer than the {self.context_tokens} that are sent for "
                "log-probabilities; lower max_tokens, or raise `max_scored_tokens` of the backend"
            )


def _lengths(inputs: Sequence[Sequence[int]]) -> Callable[[int, object], int]:
    """Return what the answer to each text is worth: the tokens that were read."""
    return lambda place, _: len(inputs[place])


def _expectation(choices: Choices, true: int | None, judged: Judged | None) -> Expectation:
    """Return what is expected, and how the token that really follows fares: among the choices, or judged apart."""
    top = tuple(map(math.exp, choices.log_probabilities))
    if true is None or (judged is not None and not judged.exact):
        return Expectation(top, None, None, None)
    log_probability, rank = _found(choices, true) if judged is None else _first(judged)
    if log_probability >= choices.log_probabilities[-1]:
        rank = _rank(choices, log_probability)
    return Expectation(top, None, rank, math.exp(log_probability))


def _found(choices: Choices, token: int) -> tuple[float, None]:
    return choices.log_probabilities[(choices.tokens or ()).index(token)], None


def _first(judged: Judged) -> tuple[float, int | None]:
    return float(judged.log_probabilities[0]), int(judged.ranks[0]) if judged.ranks is not None else None


def _rank(choices: Choices, log_probability: float) -> int:
    return 1 + sum(each > log_probability for each in choices.log_probabilities)
