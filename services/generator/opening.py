"""Declared servers as backends: how each kind is asked, and how its weights are handed over. Asks nobody yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ouroscope.errors import InvalidRequest
from ouroscope.store.artifacts import ArtifactStore
from services.generator.declared import DeclaredBackend, ServerKind, token_of
from services.generator.declared import Weights as Way
from services.generator.handover.adapters import AdapterWeights
from services.generator.handover.export import Exports
from services.generator.handover.fixed import FixedWeights
from services.generator.handover.reload import ReloadedWeights
from services.generator.servers.backend import ServerBackend
from services.generator.servers.base import Dialect
from services.generator.servers.openai import OpenAiDialect
from services.generator.servers.tgi import TgiDialect
from services.generator.servers.transport import Transport
from services.generator.servers.vllm import VllmDialect
from services.generator.servers.weights import Weights

_DIALECTS: Mapping[ServerKind, type[Dialect]] = {
    ServerKind.OPENAI: OpenAiDialect,
    ServerKind.VLLM: VllmDialect,
    ServerKind.TGI: TgiDialect,
}


def open_backend(
    declared: DeclaredBackend, store: ArtifactStore, environ: Mapping[str, str] = os.environ
) -> ServerBackend:
    """Return the backend that was declared; the server need not be there yet.

    Args:
        declared: The server.
        store: Where models are.
        environ: Holds the server's token, and tells a pod where its cluster is.

    Raises:
        InvalidRequest: the variable that should hold the token is not set.
    """
    transport = Transport(
        declared.name,
        declared.urls,
        token=token_of(declared, environ),
        token_variable=declared.token_variable,
        concurrency=declared.concurrency,
        scoring_concurrency=declared.scoring_concurrency,
        timeout=declared.timeout,
        attempts=declared.attempts,
    )
    weights = weights_of(declared, store, transport, environ)
    return ServerBackend(declared, store, transport, _DIALECTS[declared.kind](transport), weights)


def weights_of(
    declared: DeclaredBackend, store: ArtifactStore, transport: Transport, environ: Mapping[str, str] = os.environ
) -> Weights:
    """Return what brings weights to the declared server."""
    if declared.weights is Way.RELOAD and declared.reload is not None:
        return ReloadedWeights(declared, declared.reload, store, _exports(declared, store), transport, environ)
    if declared.base is None:
        # The record of a declared backend refuses this already.
        raise InvalidRequest(f"backend {declared.name!r} needs base, as model/<digest>")
    if declared.weights is Way.ADAPTERS:
        return AdapterWeights(declared, declared.base, store, _exports(declared, store), transport)
    return FixedWeights(declared, declared.base, transport)


def _exports(declared: DeclaredBackend, store: ArtifactStore) -> Exports:
    return Exports(store, Path(declared.directory), server_directory=declared.server_directory)
