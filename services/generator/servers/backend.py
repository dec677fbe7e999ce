"""Models of the store that a server runs, as a `Backend`: one kind of server as any other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial

import structlog

from ouroscope.chat import chat_frame
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Capability, Served
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.stored_models import base_of
from ouroscope.tokens import Tokens
from services.generator.declared import DeclaredBackend
from services.generator.models import stored_shape
from services.generator.servers.base import Dialect
from services.generator.servers.model import ServerModel, Verified
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport
from services.generator.servers.weights import Weights

log = structlog.get_logger(__name__)


class ServerBackend:
    """Models that a server runs, one kind of server as any other. Thread-safe."""

    def __init__(
        self, declared: DeclaredBackend, store: ArtifactStore, transport: Transport, dialect: Dialect, weights: Weights
    ) -> None:
        self.name, self.kind = declared.name, declared.kind.value
        self._declared, self._store = declared, store
        self._transport, self._dialect, self._weights = transport, dialect, weights
        self._scores = False
        self._problem = ""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what the server can do. A yes is remembered; a no is asked again, since a setting may help.

        Raises:
            Unavailable: the server cannot be reached.
        """
        if not self._scores:
            self._problem = self._asked_for_scores()
            self._scores = not self._problem
        able = {Capability.GENERATE, *self._dialect.honours}
        return frozenset({*able, Capability.SCORE} if self._scores else able)

    @property
    def problem(self) -> str:
        """Return why a capability is missing, as far as was found out; empty if none is."""
        return self._problem

    @contextmanager
    def hold(self, check: Callable[[], None]) -> Iterator[None]:
        """Keep the weights that are served from being changed by others; see `Backend.hold`.

        What is opened inside may wait for a server that loads weights, and hears of the wish to stop by `check` too.
        """
        with self._weights.hold(check), self._transport.stoppable(check):
            yield

    def fingerprint(self) -> Mapping[str, str]:
        """Return what is declared of the server; nobody knows what else changes its answers."""
        return {"backend": self.name, "kind": self.kind, "weights": self._declared.weights.value}

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        """Return how many documents are in flight: what the operator allows."""
        return self._declared.concurrency

    def open(self, model: ArtifactRef) -> ServerModel:
        """Return the model, which the server serves from now on; see `Backend.open`."""
        whole = base_of(self._store, model) or model
        directory = self._store.directory(whole)
        shape = stored_shape(self._store, whole)
        served = self._weights.ensure(model, self._transport.check)
        log.info("model.served", backend=self.name, model=model.digest[:12], verification=served.verification.value)
        return ServerModel(
            self._transport,
            self._dialect,
            Verified(self._weights, model, served),
            Tokens.open(directory),
            cache(partial(chat_frame, directory)),
            room=min(shape.context_tokens, self._room(served)),
            max_scored_tokens=self._declared.max_scored_tokens,
            vocabulary=shape.vocabulary,
        )

    def close(self) -> None:
        """Let the connections go."""
        self._transport.close()

    def _room(self, served: Served) -> int:
        """Return how many tokens every replica that is there has room for."""

        async def ask(replica: Replica) -> int | None:
            return await self._dialect.room(replica, served)

        return min((room for room in self._transport.everywhere(ask, spare=True) if room), default=sys.maxsize)

    def _asked_for_scores(self) -> str:
        async def ask(replica: Replica) -> str:
            return await self._dialect.scoring_problem(replica, self._declared.served_name)

        return next(filter(None, self._transport.everywhere(ask, soon=True, spare=True)), "")
