"""Models that the workers of a Ray cluster run, each with a copy in its memory. Imports neither ray nor torch.

A worker opens the model out of the artifact store, where its files are verified, and keeps it for the next item. All
workers are alike to the digit of every version, and each shows that it is before it does anything. Documents travel to
the workers; what they make they write into a draft of the store, and tell only that it is there.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ouroscope.cluster.executor import RAY, RayExecutor, open_executor
from ouroscope.errors import Cancelled, FieldProblem, InvalidRequest, NotFound, OuroscopeError, PreconditionFailed
from ouroscope.memory import importing
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Served
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.drafts import Draft
from ouroscope.store.sharing import shared_url
from services.generator.backend import Backend, LanguageModel
from services.generator.meter import Meter
from services.generator.workplace import R, T, Work

_REMEMBERED = 1000
"""Answers of workers that are kept."""
_LOOK_SECONDS = 1.0
"""Between two looks of a worker whether its work is still wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """How every worker runs models; see `HfBackend`."""

    store: str
    """URL."""
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    kept_models: int = 1


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker tells of a model that it has opened."""

    served: Served
    vocabulary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where work is done and what it leaves lies; the same for all items."""

    equipment: Equipment
    fingerprint: tuple[tuple[str, str], ...]
    """Of the worker that was asked first; all are to be like it."""
    model: ArtifactRef
    draft: str
    mark: str
    """Name of a file in the draft that says: stop."""


class Cluster:
    """Workers of a Ray cluster as a workplace; see `Workplace`. Connected when first asked; any thread may ask."""

    def __init__(self, executor: RayExecutor, equipment: Equipment) -> None:
        self._executor, self._equipment = executor, equipment
        self._remembered: dict[object, Any] = {}

    def fingerprint(self) -> Mapping[str, str]:
        """Return that of a worker.

        Raises:
            Unavailable: the cluster cannot be reached, or has no room.
            PreconditionFailed: it runs other versions.
        """
        return dict(self._asked(fingerprint_of, self._equipment))

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        """Return how many documents a worker holds, as the first that was asked says."""
        return self._asked(batch_size_of, (self._equipment, model, new_tokens))

    def open(self, model: ArtifactRef, draft: str, check: Callable[[], None]) -> _Workers:
        """Let a worker open the model; the others do when their first item comes.

        Raises:
            PreconditionFailed: the worker does not find the model in its store.
        """
        place = Place(
            equipment=self._equipment,
            fingerprint=tuple(sorted(self.fingerprint().items())),
            model=model,
            draft=draft,
            mark=f"stop-{uuid.uuid4().hex}",
        )
        return _Workers(self, place, self._asked(told_of, (self._equipment, model), check))

    def map(self, work: Callable[[T], R], items: Iterable[T], look: Callable[[], None] | None = None) -> Iterator[R]:
        """Yield what the workers answer; after an error another cluster may be there, so nothing is remembered."""
        try:
            with closing(self._executor.map(work, items, look)) as answers:
                yield from answers
        except OuroscopeError:
            self._remembered = {}
            raise

    def close(self) -> None:
        """Leave the cluster."""
        self._executor.close()

    def _asked(self, question: Callable[[T], R], about: T, look: Callable[[], None] | None = None) -> R:
        """Return what a worker says; once known it is not asked again, since a worker may be busy for minutes."""
        remembered, key = self._remembered, (question, about)
        if key not in remembered:
            (remembered[key],) = self.map(question, [about], look)
            if len(remembered) >= _REMEMBERED:
                self._remembered = {}
        answer: R = remembered[key]
        return answer


@dataclass(frozen=True, slots=True)
class _Workers:
    """A model that the workers have open; see `Team`."""

    cluster: Cluster
    place: Place
    told: Told

    @property
    def served(self) -> Served:
        return self.told.served

    @property
    def vocabulary(self) -> int:
        return self.told.vocabulary

    def map(self, work: Work[T, R], items: Iterable[T], meter: Meter) -> Iterator[R]:
        finished = False
        try:
            for answer, tokens in self.cluster.map(
                functools.partial(carry_out, self.place, work), items, functools.partial(meter.pulse, 0)
            ):
                meter.pulse(tokens)
                yield answer
            finished = True
        finally:
            if not finished:
                self._stop()

    def _stop(self) -> None:
        """Tell workers that have begun an item that nobody waits for it."""
        with suppress(OuroscopeError):
            ArtifactStore(self.place.equipment.store).draft(self.place.draft).write(self.place.mark, b"stop")


def open_cluster(
    store: ArtifactStore,
    executor: str,
    *,
    processes: int,
    ray_address: str,
    device: str,
    dtype: str,
    threads: int,
    kept_models: int,
) -> Cluster | None:
    """Return the cluster that is meant, None if it is this process.

    Args:
        store: Where models are; the workers open it by its URL.
        executor: `local` or `ray`.
        processes: Workers of the cluster.
        ray_address: `host:port` of its head, or `auto`.
        device: As for `HfBackend`; `cuda` gives each worker one accelerator, `auto` means the processor.
        dtype: As for `HfBackend`.
        threads: Processors of each worker; 0 means 1.
        kept_models: Models kept in the memory of each worker.

    Raises:
        InvalidRequest: there is no such executor, or what goes with a cluster is given without one.
        CapabilityMissing: the package `ray` is not installed.
        PreconditionFailed: the store lies in the memory of this process.
    """
    if executor != RAY:
        if processes != 1:
            problem = FieldProblem("processes", "goes with the executor ray; here one process has all processors")
            raise InvalidRequest(f"{problem.field} {problem.description}", [problem])
        open_executor(executor, 1, ray_address).close()
        return None
    equipment = Equipment(
        store=shared_url(store), device=device, dtype=dtype, threads=threads or 1, kept_models=kept_models
    )
    accelerators = 1 if device == "cuda" else 0
    working = open_executor(executor, processes, ray_address, processors=equipment.threads, accelerators=accelerators)
    return Cluster(working, equipment) if isinstance(working, RayExecutor) else None


def carry_out(place: Place, work: Work[T, R], item: T) -> tuple[R, int]:
    """Do the work on one item and return what it says and how many tokens it made; runs on a worker."""
    store, backend = equipped(place.equipment)
    check_alike(dict(place.fingerprint), backend.fingerprint())
    made: list[int] = []
    meter = Meter(_Elsewhere(store.draft(place.draft), place.mark), "elsewhere", 0, on_tokens=made.append)
    return work(store, _opened(backend, place.model), meter, item), sum(made)


def fingerprint_of(equipment: Equipment) -> tuple[tuple[str, str], ...]:
    """Return what of machine and software can change a result; runs on a worker."""
    return tuple(sorted(equipped(equipment)[1].fingerprint().items()))


def batch_size_of(asked: tuple[Equipment, ArtifactRef, int]) -> int:
    """Return how many documents the worker's memory holds; runs on a worker."""
    equipment, model, new_tokens = asked
    with _found(model):
        return equipped(equipment)[1].batch_size(model, new_tokens)


def told_of(asked: tuple[Equipment, ArtifactRef]) -> Told:
    """Open a model, with its files verified, and return what it is; runs on a worker."""
    equipment, model = asked
    opened = _opened(equipped(equipment)[1], model)
    return Told(opened.served, opened.vocabulary)


@functools.lru_cache(maxsize=1)
def equipped(equipment: Equipment) -> tuple[ArtifactStore, Backend]:
    """Return the store and the backend of this worker, opened once.

    Raises:
        CapabilityMissing: it has no such device.
    """
    # Imported here: torch takes seconds, and whoever hands out work needs none.
    with importing():
        from services.generator.in_process.backend import HfBackend

    store = ArtifactStore(equipment.store)
    backend = HfBackend(
        store,
        device=equipment.device,
        dtype=equipment.dtype,
        threads=equipment.threads,
        kept_models=equipment.kept_models,
    )
    return store, backend


def check_alike(wanted: Mapping[str, str], own: Mapping[str, str]) -> None:
    """Raise PreconditionFailed unless a worker computes as the one that was asked first.

    >>> check_alike({"torch": "2.9"}, {"torch": "2.9"})
    """
    if unlike := sorted(name for name in {*wanted, *own} if wanted.get(name) != own.get(name)):
        name = unlike[0]
        raise PreconditionFailed(
            f"the workers of the cluster are not alike: {name} is {own.get(name)!r} on one and {wanted.get(name)!r} on "
            "another, so the same request would give other texts; use machines of one kind and one image"
        )


def _opened(backend: Backend, model: ArtifactRef) -> LanguageModel:
    with _found(model):
        return backend.open(model)


@contextmanager
def _found(model: ArtifactRef) -> Iterator[None]:
    """Say what is wrong where a worker does not find a model that the one who asks has found."""
    try:
        yield
    except NotFound as error:
        raise PreconditionFailed(
            f"a worker of the cluster does not find {model} in its store; give all nodes the same store, a shared "
            "directory at one path or s3://"
        ) from error


class _Elsewhere:
    """The operation as a worker sees it: what it says is heard by nobody, and a file tells it to stop; see `Task`."""

    def __init__(self, draft: Draft, mark: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._draft, self._mark, self._clock = draft, mark, clock
        self._looked = clock()

    def check(self) -> None:
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            if self._draft.has(self._mark):
                raise Cancelled("nobody waits for this part of the work any more")

    def report(self, progress: Progress) -> None:
        pass
