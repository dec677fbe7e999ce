"""Where a model is asked: in this process, or elsewhere by many at once. Knows neither a cluster nor what is asked.

Work is a function of a module; it finds its documents in its item, and what it leaves lies in a draft of the store. So
the same function, with the same items, leaves the same bytes wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Served
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Backend, LanguageModel
from services.generator.meter import Meter

T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[ArtifactStore, LanguageModel, Meter, T], R]
"""What is done with one item; the meter hears when it begins and how many tokens it makes, and may raise to stop it."""


class Team(Protocol):
    """Whoever answers for one opened model."""

    @property
    def served(self) -> Served:
        """Return what answers, as it is recorded."""

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens that the model can choose from."""

    def map(self, work: Work[T, R], items: Iterable[T], meter: Meter) -> Iterator[R]:
        """Yield what the work says of each item, in order; items are taken as answers are.

        What the work raises is raised, and what the meter raises when it is to stop.
        """


class Workplace(Protocol):
    """Somewhere where models run."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return everything about machine and software that can change a result; part of every digest."""

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        """Return how many documents to work on together; see `Backend.batch_size`."""

    def open(self, model: ArtifactRef, draft: str, check: Callable[[], None]) -> Team:
        """Return who answers for the model.

        `draft` is where the work leaves what it makes; `check` is called while others open the model, and may raise.
        """


@dataclass(frozen=True, slots=True)
class Here:
    """A backend of this process, one item after the other."""

    store: ArtifactStore
    backend: Backend

    def fingerprint(self) -> Mapping[str, str]:
        """Return that of the backend."""
        return self.backend.fingerprint()

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        """Return that of the backend."""
        return self.backend.batch_size(model, new_tokens)

    def open(self, model: ArtifactRef, draft: str, check: Callable[[], None]) -> _Alone:
        """Open the model; see `Backend.open`."""
        return _Alone(self.store, self.backend.open(model))


@dataclass(frozen=True, slots=True)
class _Alone:
    """An opened model of this process; see `Team`."""

    store: ArtifactStore
    model: LanguageModel

    @property
    def served(self) -> Served:
        return self.model.served

    @property
    def vocabulary(self) -> int:
        return self.model.vocabulary

    def map(self, work: Work[T, R], items: Iterable[T], meter: Meter) -> Iterator[R]:
        for item in items:
            yield work(self.store, self.model, meter, item)
