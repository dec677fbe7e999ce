"""What the generator can be asked, as (the request with every automatic choice made, the work that answers it).

The first half is digested: it must say everything that the answer depends on, together with `fingerprint`. Finding out
may read manifests, so these methods may block. Knows no transport.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import (
    Capability,
    Generate,
    Generated,
    ModelInfo,
    PreparePrompts,
    Score,
    Scored,
)
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator import models, windows
from services.generator.backend import Backend, require
from services.generator.generation import generate
from services.generator.meter import Task
from services.generator.plan import plan_for
from services.generator.scoring import score

R = TypeVar("R")
Job = tuple[Any, Callable[[Task], R]]

_ALGORITHM = "generator/1"
"""Raise it when the same request would give another answer although no library changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The work of one generator."""

    store: ArtifactStore
    backend: Backend
    max_model_bytes: int
    on_tokens: Callable[[int], None] = lambda _: None
    """Hears how many tokens were drawn."""

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Return what else than the request changes an answer."""
        return {**self.backend.fingerprint(), "algorithm": _ALGORITHM}

    def import_model(self, source: str) -> Job[ModelInfo]:
        """Find the model now, so that a wrong name fails at once; the work copies, checks and publishes it."""
        found = models.find(source)

        def work(task: Task) -> ModelInfo:
            return models.import_model(
                self.store, found, self.backend.capabilities, task, max_bytes=self.max_model_bytes
            )

        return {"source": found.name, "state": found.state}, work

    def get_model(self, ref: ArtifactRef) -> ModelInfo:
        """Return what is known of a stored model."""
        return models.stored_model(self.store, ref, self.backend.capabilities)

    def prepare_prompts(self, request: PreparePrompts) -> Job[Generated]:
        """Cut a corpus with the tokenizer of a model; the model itself is not needed."""
        self._check(model=request.model, corpus=request.corpus)

        def work(task: Task) -> Generated:
            tokens = Tokens.open(self.store.directory(request.model))
            return windows.prepare_prompts(self.store, request, tokens, task)

        return request, work

    def generate(self, request: Generate) -> Job[Generated]:
        """Write a corpus. The batch size is chosen here, before the request is digested."""
        require(self.backend, Capability.GENERATE)
        self._check(model=request.model, prompts=request.prompts)
        sampling = request.sampling
        batch = sampling.batch_size or self.backend.batch_size(request.model, sampling.max_new_tokens)
        asked = replace(request, sampling=replace(sampling, batch_size=batch))

        def work(task: Task) -> Generated:
            key = request_digest("Generate", asked, self.fingerprint)
            return generate(self.store, self.backend, asked, plan_for(batch), key, task, on_tokens=self.on_tokens)

        return asked, work

    def score(self, request: Score) -> Job[Scored]:
        """Ask for probabilities. The batch size is chosen here, before the request is digested."""
        require(self.backend, Capability.SCORE)
        corpora = {"prompts": request.prompts, "heldout": request.heldout, "documents": request.documents}
        self._check(model=request.model, **corpora, unigram_corpus=request.unigram_corpus)
        batch = request.batch_size or self.backend.batch_size(request.model, request.max_tokens)
        asked = replace(request, batch_size=batch)

        def work(task: Task) -> Scored:
            return score(self.store, self.backend, asked, task)

        return asked, work

    def _check(self, *, model: ArtifactRef, **corpora: ArtifactRef | None) -> None:
        """Let a wrong or missing artifact fail now and not in the queue."""
        self.store.manifest(model.expect(ArtifactKind.MODEL, "model"))
        for field, ref in corpora.items():
            if ref is not None:
                self.store.manifest(ref.expect(ArtifactKind.CORPUS, field))
