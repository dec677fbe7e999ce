"""Curves of a training in TensorBoard or MLflow, where the operator wants them. Knows progress; nothing of tensors.

A journal looks at what a job reports anyway. It writes in a thread of its own and never holds the training up: a writer
that fails is named once in the log and then left alone, and points that a slow server has no time for are dropped.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from ouroscope.errors import CapabilityMissing, InvalidRequest
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, Recipe
from services.trainer.progress import evaluates, learning_rate

if TYPE_CHECKING:
    from services.trainer.finetune import Control

log = structlog.get_logger(__name__)

_WAITING = 10_000
"""Points that may wait for a slow writer."""
_AT_ONCE = 250
"""Points written at once: MLflow takes 1,000 numbers, and a point has up to four."""
_PATIENCE = 10.0
"""Seconds that the end of a training waits for its last points to be written."""


@dataclass(frozen=True, slots=True)
class Point:
    """Some numbers after one step."""

    step: int
    values: Mapping[str, float]
    milliseconds: int
    """Since 1970."""


class Writer(Protocol):
    """Where points go. Used by one thread."""

    def write(self, points: list[Point]) -> None:
        """Write points, in the order of their steps; may raise anything."""

    def close(self) -> None:
        """Let nothing wait in memory."""


NewWriter = Callable[[str, int], Writer]
"""Makes the writer of one training from its name and the first step that it will be told."""


def new_writers(log_to: str) -> NewWriter | None:
    """Return what makes the writers that `log_to` asks for: `tensorboard:DIRECTORY`, `mlflow:URI`, or nothing.

    Raises:
        CapabilityMissing: the package for it is not installed.
        InvalidRequest: it is none of these.
    """
    kind, _, place = log_to.partition(":")
    if not log_to:
        return None
    if kind not in _KINDS or not place:
        raise InvalidRequest("curves can be logged to tensorboard:DIRECTORY or mlflow:URI")
    package, make = _KINDS[kind]
    if importlib.util.find_spec(package) is None:
        raise CapabilityMissing(f"{package} is not installed; install the extra `{package}`, or log nowhere")
    return lambda name, first: make(place, name, first)


@contextlib.contextmanager
def following(control: Control, request: FineTune, name: str, new_writer: NewWriter | None) -> Iterator[Control]:
    """Give a control that also writes the curves of one training.

    Args:
        control: What the job reports to.
        request: What is trained.
        name: Of the training; a resumed one has the same.
        new_writer: What makes its writer; None writes nothing.
    """
    if new_writer is None:
        yield control
        return
    journal = Journal(lambda first: new_writer(name, first))
    try:
        yield _Followed(control, request.recipe, journal)
    finally:
        journal.close()


class Journal:
    """Points on their way to a writer."""

    def __init__(self, new_writer: Callable[[int], Writer]) -> None:
        self._new_writer = new_writer
        self._points: queue.Queue[Point | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Have numbers written, as soon as there is time."""
        with contextlib.suppress(queue.Full):
            self._points.put_nowait(Point(step, values, int(time.time() * 1000)))

    def close(self) -> None:
        """Wait a while for what is not written yet."""
        with contextlib.suppress(queue.Full):
            self._points.put(None, timeout=_PATIENCE)
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        portions = self._portions()
        try:
            self._write(portions)
        except Exception as error:  # of a foreign library, and nothing that training depends on
            log.warning("journal.failed", error=type(error).__name__)
            for _ in portions:
                pass

    def _write(self, portions: Iterator[list[Point]]) -> None:
        writer = None
        for points in portions:
            writer = writer or self._new_writer(points[0].step)
            writer.write(points)
        if writer:
            writer.close()

    def _portions(self) -> Iterator[list[Point]]:
        """Yield what waits, never nothing, until the end is told."""
        waiting: list[Point | None] = []
        while None not in waiting:
            waiting = [self._points.get()]
            with contextlib.suppress(queue.Empty):
                while len(waiting) < _AT_ONCE:
                    waiting.append(self._points.get_nowait())
            if points := [point for point in waiting if point]:
                yield points


class _Followed:
    """A control that keeps a journal of what goes through it."""

    def __init__(self, control: Control, recipe: Recipe, journal: Journal) -> None:
        self._control, self._recipe, self._journal = control, recipe, journal

    def check(self) -> None:
        self._control.check()

    def report(self, progress: Progress, /) -> None:
        self._control.report(progress)
        if progress.stage == "train" and progress.done:
            self._journal.note(progress.done, dict(self._values(progress)))

    def _values(self, progress: Progress) -> Iterator[tuple[str, float]]:
        yield "train/learning_rate", learning_rate(progress.done - 1, self._recipe)
        if progress.loss is not None:
            yield "train/loss", progress.loss
        if progress.tokens_per_second is not None:
            yield "train/tokens_per_second", progress.tokens_per_second
        if evaluates(progress.done, self._recipe) and progress.heldout_loss is not None:
            yield "heldout/loss", progress.heldout_loss


class _TensorBoard:
    def __init__(self, place: str, name: str, first: int) -> None:
        tensorboard = importlib.import_module("torch.utils.tensorboard")
        # A resumed training makes some steps again; what was written of them is hidden.
        self._writer: Any = tensorboard.SummaryWriter(str(Path(place) / name), purge_step=first)

    def write(self, points: list[Point]) -> None:
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, walltime=point.milliseconds / 1000)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    _EXPERIMENT = "ouroscope-trainer"
    _TAG = "ouroscope.training"

    def __init__(self, place: str, name: str, first: int) -> None:
        mlflow = importlib.import_module("mlflow")
        self._metric = importlib.import_module("mlflow.entities").Metric
        self._client: Any = mlflow.MlflowClient(tracking_uri=place)
        found = self._client.get_experiment_by_name(self._EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(self._EXPERIMENT)
        earlier = self._client.search_runs([experiment], f"tags.`{self._TAG}` = '{name}'", max_results=1)
        run = earlier[0] if earlier else self._client.create_run(experiment, tags={self._TAG: name}, run_name=name)
        self._run = run.info.run_id

    def write(self, points: list[Point]) -> None:
        metrics = [
            self._metric(name, value, point.milliseconds, point.step)
            for point in points
            for name, value in point.values.items()
        ]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


_KINDS: dict[str, tuple[str, Callable[[str, str, int], Writer]]] = {
    "tensorboard": ("tensorboard", _TensorBoard),
    "mlflow": ("mlflow", _MLflow),
}
