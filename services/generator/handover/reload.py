"""Servers that are made to serve another directory: TGI, vLLM with whole weights, and others.

One such server is shared by all arms of a run, so whoever writes a generation holds it: a lock in the shared directory
keeps the other threads, and the other generators that use the directory, from changing the weights meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog

from ouroscope.errors import PreconditionFailed, Unavailable
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Served, Verification
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.files import storage_errors
from ouroscope.stored_models import base_of
from services.generator.declared import DeclaredBackend, ReloadHook, ServerKind
from services.generator.handover.cluster import Cluster
from services.generator.handover.export import Export, Exports, name_of
from services.generator.handover.hooks import call, run_command
from services.generator.handover.hooks import filled as filled_in
from services.generator.handover.prefix_cache import reset_prefix_caches
from services.generator.handover.reports import Card, cards_of, other_weights
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport
from services.generator.servers.weights import turn

log = structlog.get_logger(__name__)

_HOLD = ".ouroscope-hold"
_LOOK = 0.1
_POLL = 1.0
"""Seconds between two questions whether the server is ready."""


class ReloadedWeights:
    """Whole models, one at a time, on every replica of a server. Thread-safe; one change at a time."""

    def __init__(
        self,
        declared: DeclaredBackend,
        hook: ReloadHook,
        store: ArtifactStore,
        exports: Exports,
        transport: Transport,
        environ: Mapping[str, str],
        *,
        poll: float = _POLL,
    ) -> None:
        """Note what makes the server serve another directory; nothing is asked yet.

        Args:
            declared: The server.
            hook: What the operator has declared for it.
            store: Where models are.
            exports: The directory that it reads models from.
            transport: The way to its replicas.
            environ: Tells a pod where its cluster is.
            poll: Seconds between two questions whether the server is ready.
        """
        self._declared, self._hook, self._store = declared, hook, store
        self._exports, self._transport, self._environ, self._poll = exports, transport, environ, poll
        self._changing = threading.Lock()

    @contextmanager
    def hold(self, check: Callable[[], None]) -> Iterator[None]:
        """Keep the server for oneself; see `Weights.hold`."""
        with _locked(Path(self._declared.directory) / _HOLD, check):
            yield

    def ensure(self, model: ArtifactRef, check: Callable[[], None]) -> Served:
        """Let every replica serve the model; see `Weights.ensure`."""
        if base_of(self._store, model) is not None:
            raise PreconditionFailed(
                f"the backend {self._declared.name!r} is loaded with whole models (weights: reload) and {model} is an "
                "adapter; train with lora.keep_adapter: false, or use a vLLM backend with weights: adapters"
            )
        with turn(self._changing, check):
            if (cards := self._serving(name_of(model), check, spare=True)) is None:
                cards = self._reloaded(model, check)
        return self._served(cards[0], name_of(model))

    def verify(self, model: ArtifactRef) -> None:
        """Ask every replica what it serves; see `Weights.verify`."""
        name = name_of(model)
        for cards in self._reports(lambda: None, spare=True):
            if _carrying(cards, name) is None:
                raise other_weights(self._declared.name, name, cards)

    def _reloaded(self, model: ArtifactRef, check: Callable[[], None]) -> list[Card]:
        export = self._exports.put(model, check=check)
        log.info("weights.changing", backend=self._declared.name, name=export.name)
        deadline = time.monotonic() + self._hook.ready_seconds
        self._pull(export, deadline, check)
        cards = self._ready(export.name, deadline, check)
        reset_prefix_caches(self._transport, self._declared.kind, check)
        log.info("weights.changed", backend=self._declared.name, name=export.name)
        self._exports.keep_only(export.name)
        return cards

    def _pull(self, export: Export, deadline: float, check: Callable[[], None]) -> None:
        """Do what was declared."""
        hook, seconds = self._hook, max(0.0, deadline - time.monotonic())
        values = {"directory": export.directory, "name": export.name}
        if hook.kubernetes is not None:
            Cluster.inside(self._environ).roll_out(hook.kubernetes, export.directory, seconds, check)
        elif hook.http is not None:
            call(hook.http, values, seconds, check)
        else:
            run_command(filled_in(hook.command, values), seconds, check)

    def _ready(self, name: str, deadline: float, check: Callable[[], None]) -> list[Card]:
        """Wait until every replica says that it serves the model."""
        while (cards := self._serving(name, check)) is None:
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"the server of backend {self._declared.name!r} does not serve {name!r} within "
                    f"{self._hook.ready_seconds:g} seconds of its reload; see its log, or raise reload.ready_seconds"
                )
            _sleep(self._poll, check)
        return cards

    def _serving(self, name: str, check: Callable[[], None], *, spare: bool = False) -> list[Card] | None:
        """Return the card of each replica if all serve the model; None if one does not, or is not there.

        `spare`: those that are there are enough.
        """
        try:
            found = [_carrying(cards, name) for cards in self._reports(check, soon=True, spare=spare)]
        except Unavailable:
            return None
        known = [card for card in found if card is not None]
        return known if len(known) == len(found) else None

    def _reports(self, check: Callable[[], None], *, soon: bool = False, spare: bool = False) -> list[list[Card]]:
        async def ask(replica: Replica) -> list[Card]:
            return await cards_of(self._transport, self._declared.kind, replica)

        return self._transport.everywhere(ask, lambda _: check(), soon=soon, spare=spare)

    def _served(self, card: Card, name: str) -> Served:
        # TGI is not asked by name, and its own is a path of the server's machine.
        asked_for = name if self._declared.kind is ServerKind.TGI else card.id
        return Served(
            backend=self._declared.name,
            kind=self._declared.kind.value,
            model=asked_for,
            verification=Verification.REPORTED,
        )


def _carrying(cards: list[Card], name: str) -> Card | None:
    return next((card for card in cards if card.carries(name)), None)


@contextmanager
def _locked(path: Path, check: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file against threads and processes; `check` is called while it is waited for."""
    with storage_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened anew: a lock belongs to what was opened, so threads of one process wait for each other too.
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _taken(handle):
            _sleep(_LOOK, check)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    """Sleep, and look ten times a second whether the work is to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(_LOOK, left))
