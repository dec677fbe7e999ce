"""LoRA adapters over the base that vLLM runs: one per generation, several served side by side.

A new adapter is a new name, so nothing that is served changes under a request. A replica that was restarted has lost
its adapters; it is found out before each part of the work, and the adapter is loaded again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import structlog

from ouroscope.errors import CapabilityMissing, InvalidRequest, OuroscopeError, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Served, Verification
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.stored_models import base_of
from services.generator.declared import DeclaredBackend, Load
from services.generator.handover.export import PREFIX, Export, Exports, name_of
from services.generator.handover.prefix_cache import reset_prefix_caches
from services.generator.handover.reports import Card, cards_of, other_weights
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport
from services.generator.servers.weights import turn

log = structlog.get_logger(__name__)

KEPT = 16
"""Adapters that stay loaded, the last used ones: two arms with some seeds each go on side by side."""
_LOAD = "/v1/load_lora_adapter"
_UNLOAD = "/v1/unload_lora_adapter"
_COMPLETIONS = "/v1/completions"


class AdapterWeights:
    """Adapters of one base on every replica of a vLLM server. Thread-safe; one change at a time."""

    def __init__(
        self,
        declared: DeclaredBackend,
        base: ArtifactRef,
        store: ArtifactStore,
        exports: Exports,
        transport: Transport,
        *,
        kept: int = KEPT,
    ) -> None:
        """Note where adapters go; nothing is asked yet.

        Args:
            declared: The server.
            base: Whole model that it runs, by the operator's word.
            store: Where adapters are.
            exports: The directory that it reads adapters from.
            transport: The way to its replicas.
            kept: Adapters that stay loaded.
        """
        self._declared, self._base, self._store = declared, base, store
        self._exports, self._transport, self._kept = exports, transport, kept
        self._loaded: OrderedDict[str, Export] = OrderedDict()
        self._changing = threading.Lock()

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Return at once: adapters are served side by side; see `Weights.hold`."""
        return nullcontext()

    def ensure(self, model: ArtifactRef, check: Callable[[], None]) -> Served:
        """Let every replica serve the adapter, or the base itself; see `Weights.ensure`."""
        self._check_base(model)
        with turn(self._changing, check):
            bases = self._bases(check)
            if model == self._base:
                return self._served_base(bases)
            # The resolver of vLLM compares the base that an adapter names with what the server was started with.
            started_with = bases[0].root or bases[0].id
            export = self._exports.put(model, base_name=started_with, check=check)
            self._load(export, check)
        return self._served(export.name, Verification.REPORTED)

    def verify(self, model: ArtifactRef) -> None:
        """Ask every replica for the adapter; one that was restarted gets it again; see `Weights.verify`."""
        if model == self._base:
            self._bases(lambda: None)
            return
        with turn(self._changing, self._transport.check):
            export = self._loaded.get(name_of(model))
            if export is None:
                raise PreconditionFailed(
                    f"{model} is no longer loaded on backend {self._declared.name!r}: too many adapters were asked for "
                    "meanwhile; ask again"
                )
            self._load(export, lambda: None)

    def _check_base(self, model: ArtifactRef) -> None:
        found = base_of(self._store, model)
        if model == self._base or found == self._base:
            return
        what = f"an adapter of {found}" if found else "a whole model"
        raise PreconditionFailed(
            f"the backend {self._declared.name!r} serves adapters of {self._base}, and {model} is {what}; train with "
            "lora.keep_adapter from that base, or use a backend with weights: reload",
            backend=self._declared.name,
        )

    def _bases(self, check: Callable[[], None]) -> list[Card]:
        """Return what each replica says of the base.

        Raises:
            PreconditionFailed: one serves another base.
        """

        async def ask(replica: Replica) -> Card:
            return self._base_among(await self._cards(replica))

        return self._transport.everywhere(ask, lambda _: check(), spare=True)

    def _base_among(self, cards: Sequence[Card]) -> Card:
        name = self._declared.served_name
        own = next((card for card in cards if card.id == name and not card.parent), None)
        # A path of ours carries a digest: then it is not only the operator's word which base it is.
        if own is None or (own.place.startswith(PREFIX) and own.place != name_of(self._base)):
            raise other_weights(self._declared.name, name, cards)
        return own

    def _load(self, export: Export, check: Callable[[], None]) -> None:
        """Let every replica have the adapter, verified; those that have it are left alone."""

        async def load(replica: Replica) -> bool:
            if self._has(export, await self._cards(replica)):
                return False
            await self._bring(replica, export)
            cards = await self._cards(replica)
            if not self._has(export, cards):
                raise other_weights(self._declared.name, export.name, cards)
            return True

        changed = self._transport.everywhere(load, lambda _: check(), spare=True)
        self._loaded[export.name] = export
        self._loaded.move_to_end(export.name)
        if any(changed):
            log.info("adapter.loaded", backend=self._declared.name, name=export.name, replicas=sum(changed))
            reset_prefix_caches(self._transport, self._declared.kind, check)
            self._retire(check)

    async def _cards(self, replica: Replica) -> list[Card]:
        return await cards_of(self._transport, self._declared.kind, replica)

    def _has(self, export: Export, cards: Sequence[Card]) -> bool:
        """Return whether the adapter is loaded.

        Raises:
            PreconditionFailed: something else is, under its name, or the base is not the declared one.
        """
        base = self._base_among(cards)
        own = next((card for card in cards if card.id == export.name), None)
        if own is not None and (own.place != export.name or own.parent not in (None, base.id)):
            raise other_weights(self._declared.name, export.name, [own])
        return own is not None

    async def _bring(self, replica: Replica, export: Export) -> None:
        """Tell a replica of an adapter, or ask it for a token, so that its resolver looks into the directory."""
        by_request = self._declared.load is Load.REQUEST
        body: dict[str, Any] = {"lora_name": export.name, "lora_path": export.directory}
        try:
            if by_request:
                await self._transport.send(replica, "POST", _LOAD, plain=True, json=body)
            else:
                body = {"model": export.name, "prompt": "a", "max_tokens": 1, "temperature": 0}
                await self._transport.post(replica, _COMPLETIONS, body)
        except InvalidRequest as error:
            # Somebody else was faster, or the server refuses it.
            if not self._has(export, await self._cards(replica)):
                raise self._refused(export) from error
        except (CapabilityMissing, PreconditionFailed) as error:
            raise self._refused(export) from error

    def _refused(self, export: Export) -> OuroscopeError:
        by_request = "start vLLM with --enable-lora, --max-lora-rank of at least its rank and "
        by_request += "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and let it see the directory as `server_directory`"
        by_resolver = ", VLLM_PLUGINS=lora_filesystem_resolver and VLLM_LORA_RESOLVER_CACHE_DIR set to it"
        hint = by_request + ("" if self._declared.load is Load.REQUEST else by_resolver)
        return PreconditionFailed(
            f"the server of backend {self._declared.name!r} does not load the adapter {export.name!r}; {hint}",
            backend=self._declared.name,
        )

    def _retire(self, check: Callable[[], None]) -> None:
        """Let go of the adapters that were not used for longest."""
        while len(self._loaded) > self._kept:
            name, _ = self._loaded.popitem(last=False)

            async def unload(replica: Replica, name: str = name) -> None:
                # A replica that was restarted does not know it any more.
                with suppress(CapabilityMissing, InvalidRequest, PreconditionFailed):
                    await self._transport.send(replica, "POST", _UNLOAD, plain=True, json={"lora_name": name})

            self._transport.everywhere(unload, lambda _: check(), spare=True)
            self._exports.release(name)
            log.info("adapter.unloaded", backend=self._declared.name, name=name)
        self._exports.remove_old()

    def _served_base(self, bases: Sequence[Card]) -> Served:
        named = all(card.place == name_of(self._base) for card in bases)
        return self._served(self._declared.served_name, Verification.REPORTED if named else Verification.DECLARED)

    def _served(self, name: str, verification: Verification) -> Served:
        kind = self._declared.kind.value
        return Served(backend=self._declared.name, kind=kind, model=name, verification=verification)
