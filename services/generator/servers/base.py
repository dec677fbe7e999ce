"""How one kind of server is asked, as an interface, and what goes through it. Knows neither weights nor a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ouroscope.errors import CapabilityMissing
from ouroscope.records.generation import Capability, SamplingSpec, Served
from ouroscope.tokens import Tokens
from services.generator.backend import Continuation, Prompt
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport


@dataclass(frozen=True, slots=True)
class Asked:
    """A document that a server is to write."""

    prompt: Prompt
    before: tuple[int, ...]
    """Tokens before the prompt: `Tokens.start`, or what the template of a chat puts before an answer."""
    tokens: tuple[int, ...]
    """Of the prompt itself."""
    ends: frozenset[int]
    """Tokens that end the document."""
    seed: int
    sampling: SamplingSpec


@dataclass(frozen=True, slots=True)
class Judged:
    """What a server says of the tokens of a text, from some position on."""

    log_probabilities: NDArray[np.float64]
    ranks: NDArray[np.int64] | None = None
    """Place of each token among all, from 1; None where the server does not tell."""
    greedy: NDArray[np.bool_] | None = None
    """Whether each is the first choice; None where the server does not tell."""
    exact: bool = True
    """Whether these are the tokens that were asked about: a server that takes texts may have cut the text anew."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a server expects after a text: its first choices, in falling order."""

    log_probabilities: tuple[float, ...]
    tokens: tuple[int, ...] | None = None
    """Which they are; None where the server names them in a way that is not unique."""


class Dialect(ABC):
    """How one kind of server is asked. Every method makes one request, or a few that belong together."""

    choices_score_prompts = False
    """Whether asking for first choices makes the server compute log-probabilities of the whole prompt too."""
    honours: ClassVar[frozenset[Capability]]
    """What this kind of server honours beside writing and scoring; the rest it would silently do otherwise."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @abstractmethod
    async def room(self, replica: Replica, served: Served) -> int | None:
        """Return how many tokens a text and its continuation may have together; None if the server does not tell."""

    @abstractmethod
    async def write(self, replica: Replica, served: Served, tokens: Tokens, asked: Asked) -> Continuation:
        """Return the continuation of one prompt."""

    @abstractmethod
    async def judge(
        self, replica: Replica, served: Served, tokens: Tokens, ids: Sequence[int], scored_from: int
    ) -> Judged:
        """Return what is thought of the tokens `ids` (start included) from `scored_from` (at least 1) on.

        A server that takes texts only may cut one into other tokens; then `Judged.exact` is False.
        """

    @abstractmethod
    async def choices(
        self, replica: Replica, served: Served, tokens: Tokens, ids: Sequence[int], top_n: int
    ) -> Choices:
        """Return the first `top_n` choices after `ids`, start included."""

    @abstractmethod
    async def scoring_problem(self, replica: Replica, model: str) -> str:
        """Return why the server gives no log-probabilities, found out by a small request; empty if it does."""


def no_scores(server: str, problem: str) -> CapabilityMissing:
    """Return the error of a server that was asked for log-probabilities and gives none."""
    return CapabilityMissing(
        f"the backend {server!r} cannot score: {problem}", backend=server, capability=Capability.SCORE.value
    )
