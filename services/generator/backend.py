"""What the generator needs of whatever runs a model: in this process today, a server elsewhere tomorrow.

Knows texts, tokens and numbers; nothing of torch, of devices or of a transport. A backend says what it can do before it
is asked to do it (`capabilities`), so that a request it cannot serve fails at once and not after hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ouroscope.errors import CapabilityMissing
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Capability, SamplingSpec, Served, changes_for
from ouroscope.tokens import Tokens

Pulse = Callable[[int], None]
"""Called after every step with the number of tokens that it made; raises Cancelled when the work is to stop."""

STAYS = -1
"""In the place of a drawn token: the one that is there stays."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to continue."""

    id: str
    """Key of its noise: equal ids, texts and seeds give equal continuations."""
    text: str
    summary: str | None = None
    """What the document is about, as the instruction of a chat tells it; None where nobody said."""

    def spoken(self, tokens: int) -> str:
        """Return how messages speak of a prompt that has so many tokens, all that is before it included."""
        told = " with its summary" if self.summary is not None else ""
        return f"prompt {self.id[:80]!r}{told} has {tokens} tokens"


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a model wrote after a prompt."""

    text: str
    """Without the prompt."""
    tokens: int
    """Tokens drawn, the end marker not counted."""


@dataclass(frozen=True, slots=True)
class Written:
    """Continuations in the order of their prompts."""

    continuations: tuple[Continuation, ...]
    batch_size: int
    """Smallest batch size that was needed: smaller than asked after the memory ran out."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a model expects as the next token."""

    top_probabilities: tuple[float, ...]
    """In falling order."""
    entropy: float | None
    """Of the whole distribution, in nats; None where the model tells only its first choices."""
    true_rank: int | None
    true_probability: float | None


@dataclass(frozen=True, slots=True)
class TokenScores:
    """How a model judges each scored token of a text; the arrays have one entry per scored token."""

    log_probabilities: NDArray[np.float64]
    """Natural logarithms, at most 0."""
    greedy: NDArray[np.bool_] | None
    """Whether the token is the model's first choice; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What a model says of a text."""

    scores: TokenScores
    expectation: Expectation | None = None
    """At the position that was asked about."""


class LanguageModel(Protocol):
    """An opened model. Every text is read as if it stood at the beginning of a document: after `tokens.start`."""

    @property
    def tokens(self) -> Tokens:
        """Return how it cuts text."""

    @property
    def served(self) -> Served:
        """Return what answers, as it is recorded with the corpus."""

    @property
    def context_tokens(self) -> int:
        """Return the longest input, start tokens included."""

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens it can choose from."""

    def write(self, prompts: Sequence[Prompt], sampling: SamplingSpec, batch_size: int, pulse: Pulse) -> Written:
        """Continue every prompt.

        Raises:
            InvalidRequest: a prompt with its continuation does not fit into the context.
            PreconditionFailed: the model's probabilities are not numbers.
        """

    def expect(
        self,
        prompts: Sequence[Sequence[int]],
        following: Sequence[int | None],
        top_n: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[Expectation]:
        """Return what is expected after each prompt (tokens), and how the token that really follows fares."""

    def judge(
        self, texts: Sequence[Sequence[int]], scored_from: Sequence[int], batch_size: int, pulse: Pulse
    ) -> list[TokenScores]:
        """Return the scores of each text's tokens from position `scored_from` on."""

    def examine(
        self,
        texts: Sequence[Sequence[int]],
        scored_from: Sequence[int],
        asked: Sequence[int | None],
        top_n: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[Examined]:
        """Return what `judge` says of each text and, where a scored position is asked about, what `expect` says of it.

        The tokens before that position are the prompt and the one at it follows; a model that sees the whole text
        anyway looks at it once for both.
        """


class Backend(Protocol):
    """Opens models of the store."""

    @property
    def name(self) -> str:
        """Return what people call it."""

    @property
    def kind(self) -> str:
        """Return what it is: `transformers`, `openai`, `vllm` or `tgi`."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what its models can do; a server is asked, and its answer remembered.

        Raises:
            Unavailable: nobody can tell now.
        """

    @property
    def problem(self) -> str:
        """Return why a capability is missing, as far as was found out; empty if none is."""

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Keep the weights that are served from being changed by others while inside.

        Waits for its turn and calls `check` meanwhile, which may raise to stop.
        """

    def fingerprint(self) -> Mapping[str, str]:
        """Return everything about machine and software that can change a result; part of every digest."""

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        """Return how many documents to work on together, fixed for one model on one machine."""

    def open(self, model: ArtifactRef) -> LanguageModel:
        """Return the model: loaded and verified, or served by a server that has been asked whether it serves it.

        Raises:
            NotFound: it is not in the store.
            UntrustedArtifact: loading it could run somebody's code.
            PreconditionFailed: the server serves other weights and cannot be made to serve these.
            Unavailable: the server cannot be reached.
        """

    def close(self) -> None:
        """Let go of connections; what is asked over them ends."""


def require(backend: Backend, capability: Capability) -> None:
    """Raise CapabilityMissing unless `backend` has `capability`."""
    if capability not in backend.capabilities:
        able = ", ".join(sorted(each.value for each in backend.capabilities)) or "nothing"
        raise CapabilityMissing(
            f"the backend {backend.name!r} cannot {capability.value.lower()}: it declares {able}; choose another",
            backend=backend.name,
            capability=capability.value,
        )


def check_needs(name: str, able: Iterable[Capability], needs: Iterable[Capability]) -> None:
    """Raise CapabilityMissing unless the backend `name` honours all that is wanted; the message says what to change."""
    if changes := changes_for(needs, able):
        told = "; ".join(f"{change.field}: {change.description}" for change in changes)
        raise CapabilityMissing(
            f"the backend {name!r} cannot do all that is asked: {told}; or use another backend", backend=name
        )


def facts_of(served: Served) -> dict[str, str | bool]:
    """Return what a manifest keeps of what answered, beside a corpus or predictions."""
    return {
        "backend": served.backend,
        "backend_kind": served.kind,
        "served_model": served.model,
        "verification": served.verification.value,
        "reproducible": served.reproducible,
    }
