"""Weights that nobody changes: the operator has declared which model a served name is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from ouroscope.errors import PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Served, Verification
from services.generator.declared import DeclaredBackend
from services.generator.handover.reports import Card, cards_of, other_weights
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport


class FixedWeights:
    """One model, always. What is verified is the name; that it is these weights is the operator's word."""

    def __init__(self, declared: DeclaredBackend, base: ArtifactRef, transport: Transport) -> None:
        self._declared, self._base, self._transport = declared, base, transport

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Return at once: nobody changes them; see `Weights.hold`."""
        return nullcontext()

    def ensure(self, model: ArtifactRef, check: Callable[[], None]) -> Served:
        """Return what answers for the model, if it is the one; see `Weights.ensure`."""
        if model != self._base:
            raise PreconditionFailed(
                f"the backend {self._declared.name!r} serves {self._base} always (weights: fixed) and not {model}; use "
                "a backend with weights: adapters or reload, or the one in process",
                backend=self._declared.name,
            )
        self._ask(check)
        return Served(
            backend=self._declared.name,
            kind=self._declared.kind.value,
            model=self._declared.served_name,
            verification=Verification.DECLARED,
        )

    def verify(self, model: ArtifactRef) -> None:
        """Ask every replica for the declared name; see `Weights.verify`."""
        self._ask(lambda: None)

    def _ask(self, check: Callable[[], None]) -> None:
        async def ask(replica: Replica) -> list[Card]:
            return await cards_of(self._transport, self._declared.kind, replica)

        name = self._declared.served_name
        for cards in self._transport.everywhere(ask, lambda _: check(), spare=True):
            if not any(name in (card.id, card.root) for card in cards):
                raise other_weights(self._declared.name, name, cards)
