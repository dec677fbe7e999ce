"""A backend over a stand-in server, with waits too short to be felt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.settings import Secret
from ouroscope.store.artifacts import ArtifactStore
from services.generator.declared import DeclaredBackend, ServerKind, Weights
from services.generator.handover.fixed import FixedWeights
from services.generator.servers.backend import ServerBackend
from services.generator.servers.openai import OpenAiDialect
from services.generator.servers.transport import Transport
from services.generator.servers.vllm import VllmDialect

NAME = "tiny"
_DIALECTS = {ServerKind.OPENAI: OpenAiDialect, ServerKind.VLLM: VllmDialect}


def declared(urls: tuple[str, ...], base: ArtifactRef, kind: ServerKind, **settings: Any) -> DeclaredBackend:
    """Return a server that always serves `base` under one name."""
    return DeclaredBackend(
        name="pool", kind=kind, urls=urls, weights=Weights.FIXED, base=base, served_name=NAME, **settings
    )


@contextmanager
def transport(*urls: str, token: str | None = None, **settings: Any) -> Iterator[Transport]:
    """Open a transport; it is closed at the end."""
    secret = Secret(token) if token else None
    settings = {"first_wait": 0.01, "timeout": 30.0, **settings}
    opened = Transport("pool", urls, token=secret, token_variable="POOL_TOKEN", **settings)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def backend_of(
    store: ArtifactStore,
    base: ArtifactRef,
    *urls: str,
    kind: ServerKind = ServerKind.VLLM,
    max_scored_tokens: int = 2048,
    **settings: Any,
) -> Iterator[ServerBackend]:
    """Open a backend of fixed weights."""
    said = declared(urls, base, kind, max_scored_tokens=max_scored_tokens)
    with transport(*urls, **settings) as way:
        yield ServerBackend(said, store, way, _DIALECTS[kind](way), FixedWeights(said, base, way))
