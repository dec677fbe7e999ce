"""Every backend of a generator by its name: the one in this process first, then the servers that were declared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ouroscope.errors import CapabilityMissing, NotFound, OuroscopeError, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import BackendInfo, Capability
from services.generator.backend import Backend, LanguageModel, check_needs

_PATIENCE = 10.0
"""Seconds that a backend gets to say what it can do."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A declared backend that cannot be opened: it says why, and can do nothing."""

    name: str
    kind: str
    problem: str

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return nothing."""
        return frozenset()

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Refuse; see `open`."""
        raise self._refusal()

    def fingerprint(self) -> Mapping[str, str]:
        """Return what is declared."""
        return {"backend": self.name, "kind": self.kind}

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        """Refuse; see `open`."""
        raise self._refusal()

    def open(self, model: ArtifactRef) -> LanguageModel:
        """Refuse.

        Raises:
            PreconditionFailed: always.
        """
        raise self._refusal()

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _refusal(self) -> PreconditionFailed:
        return PreconditionFailed(self.problem, backend=self.name)


@dataclass(frozen=True, slots=True)
class Backends:
    """What a request can choose from."""

    own: Backend
    """Runs models in this process; the empty name means it."""
    declared: Sequence[Backend] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    """How the weights of a generation reach a declared one, by its name."""

    @property
    def all(self) -> tuple[Backend, ...]:
        """Return every backend, the one in this process first."""
        return (self.own, *self.declared)

    def named(self, name: str) -> Backend:
        """Return the backend that a request means.

        Raises:
            NotFound: there is none of that name; the message lists those that there are.
        """
        found = next((backend for backend in self.all if name in ("", backend.name)), None)
        if found is None:
            names = ", ".join(backend.name for backend in self.all)
            hint = "declare it in the file that OURO_GENERATOR_BACKENDS or --backends names"
            raise NotFound(f"there is no backend {name[:80]!r}; there are {names}; {hint}", backend=name[:80])
        return found

    def require(self, name: str, capability: Capability, needs: Iterable[Capability] = ()) -> Backend:
        """Return the backend that a request means, if it has `capability` and honours what the request `needs` beside.

        Raises:
            NotFound: there is none of that name.
            CapabilityMissing: it cannot do it; the message says why and which others can, or what to change.
            Unavailable: nobody can tell now.
        """
        backend = self.named(name)
        # Asked for once: a server that cannot score is asked again each time.
        has = backend.capabilities
        if capability in has:
            check_needs(backend.name, has, needs)
            return backend
        able = ", ".join(repr(info.name) for info in self.infos() if capability in info.capabilities)
        why = f": {problem}" if (problem := backend.problem) else ""
        raise CapabilityMissing(
            f"the backend {backend.name!r} cannot {capability.value.lower()}{why}; those that can: {able or 'none'}",
            backend=backend.name,
            capability=capability.value,
        )

    def infos(self) -> tuple[BackendInfo, ...]:
        """Return what every backend can do; of a server that cannot be reached, why. All are asked at once."""
        asking = ThreadPoolExecutor(len(self.all), "backend")
        asked = [asking.submit(self._info, backend) for backend in self.all]
        # A server that hangs is not waited for; its thread ends with its request.
        asking.shutdown(wait=False)
        return tuple(self._told(backend, info) for backend, info in zip(self.all, asked, strict=True))

    async def close(self) -> None:
        """Let the connections to servers go; what is asked of them ends."""
        for backend in self.declared:
            await asyncio.to_thread(backend.close)

    def _told(self, backend: Backend, asked: Future[BackendInfo]) -> BackendInfo:
        try:
            return asked.result(_PATIENCE)
        except TimeoutError:
            problem = f"no answer within {_PATIENCE:g} seconds"
            return BackendInfo(name=backend.name, kind=backend.kind, problem=problem, weights=self._way(backend))

    def _info(self, backend: Backend) -> BackendInfo:
        able: list[Capability] = []
        try:
            able = sorted(backend.capabilities, key=list(Capability).index)
            problem = backend.problem
        except OuroscopeError as error:
            problem = error.message
        return BackendInfo(
            name=backend.name,
            kind=backend.kind,
            capabilities=tuple(able),
            problem=problem,
            weights=self._way(backend),
        )

    def _way(self, backend: Backend) -> str:
        return self.weights.get(backend.name, "")
