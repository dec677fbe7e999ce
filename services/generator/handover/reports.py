"""What servers say they serve, and whether that is a given model. Asks, and decides; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ouroscope.errors import OuroscopeError, PreconditionFailed
from services.generator.declared import ServerKind
from services.generator.servers import faults
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport

_MODELS = "/v1/models"
_INFO = "/info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One model that a server says it serves."""

    id: str
    """Name to ask for."""
    root: str | None = None
    """Where its weights lie, in the server's own words."""
    parent: str | None = None
    """Name of the model that it is an adapter of."""

    def carries(self, name: str) -> bool:
        """Return whether its name or its path ends in `name`."""
        return PurePosixPath(self.id).name == name or (self.root is not None and PurePosixPath(self.root).name == name)

    @property
    def place(self) -> str:
        """Return the last part of its path, or of its name where no path is told."""
        return PurePosixPath(self.root or self.id).name


async def cards_of(transport: Transport, kind: ServerKind, replica: Replica) -> list[Card]:
    """Ask a replica what it serves.

    Raises:
        Unavailable: it cannot be reached, or its answer is none.
    """
    if kind is ServerKind.TGI:
        return [_from_info(await transport.get(replica, _INFO), transport.server)]
    answer = await transport.get(replica, _MODELS)
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise faults.broken(transport.server, _MODELS)
    return [_from_entry(entry, transport.server) for entry in entries]


def other_weights(server: str, wanted: str, cards: Sequence[Card]) -> OuroscopeError:
    """Return the error of a server that serves something else; it names both."""
    seen = ", ".join(repr(card.place[:80]) for card in cards[:3]) or "nothing"
    return PreconditionFailed(
        f"the server of backend {server!r} serves {seen} and not {wanted!r}; what was made meanwhile is not kept",
        backend=server,
        wanted=wanted,
    )


def _from_info(answer: Any, server: str) -> Card:
    told = answer.get("model_id") if isinstance(answer, dict) else None
    if not isinstance(told, str) or not told:
        raise faults.broken(server, _INFO)
    return Card(id=told)


def _from_entry(entry: Any, server: str) -> Card:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise faults.broken(server, _MODELS)
    root, parent = (value if isinstance(value := entry.get(key), str) else None for key in ("root", "parent"))
    return Card(id=entry["id"], root=root, parent=parent)
