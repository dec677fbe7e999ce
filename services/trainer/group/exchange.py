"""What a supervisor and its group tell each other: files in a private folder. JSON and safetensors, nothing that runs.

Every file is whole or absent, except the progress, which grows by lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ouroscope.canonical import canonical_json, from_plain
from ouroscope.errors import OuroscopeError
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, LossPoint
from ouroscope.store.files import storage_errors
from services.trainer.course import Course
from services.trainer.environment import Environment
from services.trainer.told import error_of, told_of

TASK = "task.json"
STOP = "stop"
"""Its being there asks the group to keep what it has reached and to end."""
_PROGRESS = "progress.jsonl"
_COURSE = "course.json"
_WEIGHTS = "weights.safetensors"
_ERROR = "error-"
_TOLD_BY_OTHERS = frozenset({"UNAVAILABLE", "CANCELLED"})
"""What processes say that stop since another one did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a group is to do."""

    store: str
    """URL of the artifact store."""
    request: FineTune
    environment: Environment
    """Of the trainer: a part of the name of the draft."""
    threads: int
    """Of one operation in one process."""
    log_level: str = "info"

    def encoded(self) -> bytes:
        """Return it as bytes."""
        return canonical_json(self).encode("ascii")

    @staticmethod
    def decoded(data: bytes) -> Task:
        """Return what `encoded` was called on."""
        return from_plain(Task, json.loads(data))


def put(folder: Path, name: str, data: bytes) -> None:
    """Write a file as a whole.

    Raises:
        StorageFull: no room is left.
    """
    new = folder / f".{name}"
    with storage_errors():
        new.write_bytes(data)
        new.replace(folder / name)


def tell_progress(folder: Path, progress: Progress) -> None:
    """Add a line to the progress."""
    with (folder / _PROGRESS).open("a", encoding="ascii") as file:
        file.write(canonical_json(progress) + "\n")


class ProgressReader:
    """Reads the progress as it grows."""

    def __init__(self, folder: Path) -> None:
        self._path, self._at = folder / _PROGRESS, 0

    def new(self) -> Iterator[Progress]:
        """Yield what was told since the last call; a line that is not finished waits for the next."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole = file.read().rpartition(b"\n")[0]
        for line in whole.splitlines(keepends=True):
            yield from_plain(Progress, json.loads(line))
        self._at += len(whole) + bool(whole)


def tell_result(folder: Path, course: Course, weights: Mapping[str, torch.Tensor]) -> None:
    """Leave the trained weights and how they came about; the course is written last, so it vouches for both.

    Raises:
        StorageFull: no room is left.
    """
    new = folder / f".{_WEIGHTS}"
    try:
        with storage_errors():
            save_file(dict(weights), new)
            new.replace(folder / _WEIGHTS)
    finally:
        # What did not fit must not take the room of the word about it.
        new.unlink(missing_ok=True)
    put(folder, _COURSE, canonical_json({"losses": course.losses, "heldout": course.heldout}).encode("ascii"))


def result(folder: Path) -> tuple[Course, dict[str, torch.Tensor]] | None:
    """Return what the group left, or None if it did not finish."""
    if not (folder / _COURSE).exists():
        return None
    told = json.loads((folder / _COURSE).read_bytes())
    heldout = [from_plain(LossPoint, point) for point in told["heldout"]]
    return Course(losses=told["losses"], heldout=heldout), load_file(folder / _WEIGHTS)


def tell_error(folder: Path, rank: int, error: OuroscopeError) -> None:
    """Leave the reason for which a process of the group stopped."""
    put(folder, f"{_ERROR}{rank:05d}", canonical_json(told_of(error)).encode("ascii"))


def told_error(folder: Path) -> OuroscopeError | None:
    """Return the error that the group stopped for; of several the one that the others are no consequence of."""
    errors = [error_of(json.loads(path.read_bytes())) for path in sorted(folder.glob(f"{_ERROR}*"))]
    return min(errors, key=lambda error: error.reason in _TOLD_BY_OTHERS, default=None)


def forget_attempt(folder: Path) -> None:
    """Make room for another attempt: its progress must not stand behind half a line of a process that was killed."""
    for path in (*folder.glob(f"{_ERROR}*"), folder / _PROGRESS):
        path.unlink(missing_ok=True)
