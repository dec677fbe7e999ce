"""What the generator can be asked, as (the request with every automatic choice made, the work that answers it).

The first half is digested: it must say everything that the answer depends on, together with `fingerprint`. Finding out
may read manifests and ask servers, so these methods may block. Knows no transport.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import (
    Capability,
    Classified,
    Classify,
    Edit,
    EvaluatedTasks,
    EvaluateTasks,
    Generate,
    Generated,
    ModelInfo,
    PreparePrompts,
    Score,
    Scored,
)
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.stored_models import base_of
from ouroscope.tokens import Tokens
from services.generator import models, tasks, windows
from services.generator.backend import Backend
from services.generator.backends import Backends
from services.generator.classifying import BATCH_SIZE, Opens, check_classifies, classify
from services.generator.cluster import Cluster
from services.generator.editing import check_edits, edit
from services.generator.generation import generate
from services.generator.meter import Task
from services.generator.plan import plan_for
from services.generator.scoring import score
from services.generator.servers.weights import turn
from services.generator.workplace import Here, Workplace

R = TypeVar("R")
Job = tuple[Any, Callable[[Task], R]]

_ALGORITHM = "generator/3"
"""Raise it when the same request would give another answer although no library changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The work of one generator."""

    store: ArtifactStore
    backends: Backends
    max_model_bytes: int
    sources: AllowedSources = EVERYTHING
    """Where models and classifiers may come from."""
    tasks_folder: Path | None = None
    """Tasks of lm-evaluation-harness beside those that it ships."""
    cluster: Cluster | None = None
    """Writes and scores in the place of this process; the rest is done here."""
    on_tokens: Callable[[int], None] = lambda _: None
    """Hears how many tokens were drawn."""
    _device: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Return what else than the request changes an answer of this process."""
        return _fingerprint(self.backends.own)

    def import_model(self, source: str, base: ArtifactRef | None = None) -> Job[ModelInfo]:
        """Find the model now, so that a wrong name fails at once; the work copies, checks and publishes it.

        `base` is the stored model that an adapter was made for.
        """
        found = models.find(source, self.sources)
        if base is not None:
            self._check(model=base)

        def work(task: Task) -> ModelInfo:
            return models.import_model(
                self.store, found, self.backends.own.capabilities, task, max_bytes=self.max_model_bytes, base=base
            )

        return {"source": found.name, "state": found.state, "base": base}, work

    def get_model(self, ref: ArtifactRef) -> ModelInfo:
        """Return what is known of a stored model."""
        return models.stored_model(self.store, ref, self.backends.own.capabilities)

    def prepare_prompts(self, request: PreparePrompts) -> Job[Generated]:
        """Cut a corpus with the tokenizer of a model; the model itself is not needed."""
        self._check(model=request.model, corpus=request.corpus)

        def work(task: Task) -> Generated:
            tokens = Tokens.open(self.store.directory(base_of(self.store, request.model) or request.model))
            return windows.prepare_prompts(self.store, request, tokens, task)

        return request, work

    def generate(self, request: Generate) -> Job[Generated]:
        """Write a corpus. The batch size is chosen here, before the request is digested."""
        backend = self.backends.require(request.backend, Capability.GENERATE, request.sampling.needs)
        self._check(model=request.model, prompts=request.prompts)
        sampling = request.sampling
        place = self._place(backend)
        batch = sampling.batch_size or place.batch_size(request.model, sampling.max_new_tokens)
        asked = replace(request, backend=backend.name, sampling=replace(sampling, batch_size=batch))
        fingerprint = _fingerprint(place)

        def work(task: Task) -> Generated:
            key, plan = request_digest("Generate", asked, fingerprint), plan_for(batch)
            with self._turn(backend, task, place):
                return generate(self.store, backend, asked, plan, key, task, on_tokens=self.on_tokens, place=place)

        return (asked, fingerprint), work

    def score(self, request: Score) -> Job[Scored]:
        """Ask for probabilities. The batch size is chosen here, before the request is digested."""
        backend = self.backends.require(request.backend, Capability.SCORE, request.needs)
        corpora = {"prompts": request.prompts, "heldout": request.heldout, "documents": request.documents}
        self._check(model=request.model, **corpora, unigram_corpus=request.unigram_corpus)
        place = self._place(backend)
        batch = request.batch_size or place.batch_size(request.model, request.max_tokens)
        asked, fingerprint = replace(request, backend=backend.name, batch_size=batch), _fingerprint(place)

        def work(task: Task) -> Scored:
            key = request_digest("Score", asked, fingerprint)
            with self._turn(backend, task, place):
                return score(self.store, backend, asked, task, key, place)

        return (asked, fingerprint), work

    def evaluate_tasks(self, request: EvaluateTasks) -> Job[EvaluatedTasks]:
        """Do tasks of lm-evaluation-harness, in this process. The batch size is chosen here, as in `generate`."""
        own = self.backends.own
        tasks.check_tasks(own)
        self._check(model=request.model)
        asked = replace(request, batch_size=request.batch_size or own.batch_size(request.model, 1))

        def work(task: Task) -> EvaluatedTasks:
            with self._turn(own, task):
                return tasks.evaluate_tasks(self.store, own, asked, self.tasks_folder, task)

        return (asked, tasks.fingerprint(self.tasks_folder)), work

    def edit(self, request: Edit) -> Job[Generated]:
        """Draw the tokens of a text anew that a model finds too easy, in this process; batches as in `generate`."""
        own = self.backends.own
        check_edits(own)
        self._check(model=request.model, corpus=request.corpus)
        batch = request.batch_size or own.batch_size(request.model, 1)
        asked, fingerprint = replace(request, batch_size=batch), _fingerprint(own)

        def work(task: Task) -> Generated:
            key = request_digest("Edit", asked, fingerprint)
            with self._turn(own, task):
                return edit(self.store, own, asked, plan_for(batch), key, task)

        return (asked, fingerprint), work

    def classify(self, request: Classify) -> Job[Classified]:
        """Find the classifier now, so that a wrong name fails at once; the work copies and checks it and asks it."""
        own = self.backends.own
        check_classifies(own)
        found = models.find(request.classifier, self.sources)
        self.store.manifest(request.corpus.expect(ArtifactKind.CORPUS, "corpus"))
        asked = replace(request, batch_size=request.batch_size or BATCH_SIZE)

        def work(task: Task) -> Classified:
            with self._turn(own, task):
                return classify(self.store, cast(Opens, own), found, asked, task, max_bytes=self.max_model_bytes)

        return {"request": asked, "state": found.state, **_fingerprint(own)}, work

    async def close(self) -> None:
        """Let connections to servers go, and leave the cluster."""
        await self.backends.close()
        if self.cluster:
            await asyncio.to_thread(self.cluster.close)

    def _place(self, backend: Backend) -> Workplace:
        """Return where a backend is asked: what would run in this process may run on a cluster."""
        own = backend is self.backends.own
        return self.cluster if own and self.cluster else Here(self.store, backend)

    @contextmanager
    def _turn(self, backend: Backend, task: Task, place: Workplace | None = None) -> Iterator[None]:
        """Hold the backend; in this process one piece of work has the device and its memory, others take several."""
        own = backend is self.backends.own and not isinstance(place, Cluster)
        with turn(self._device, task.check) if own else nullcontext(), backend.hold(task.check):
            yield

    def _check(self, *, model: ArtifactRef, **corpora: ArtifactRef | None) -> None:
        """Let a wrong or missing artifact fail now and not in the queue."""
        self.store.manifest(model.expect(ArtifactKind.MODEL, "model"))
        for name, ref in corpora.items():
            if ref is not None:
                self.store.manifest(ref.expect(ArtifactKind.CORPUS, name))


def _fingerprint(place: Backend | Workplace) -> Mapping[str, str]:
    return {**place.fingerprint(), "algorithm": _ALGORITHM}
