"""What is to be chosen for the next model of an arm, and what was. Asks nobody: `choosing` does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.runs import ArmSpec, EditSpec
from ouroscope.records.selection import Selected, SelectionSpec
from services.coordinator.protocols import TrainingSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is to be chosen for the next model of an arm."""

    model: ArtifactRef
    """M_j, which scores and edits where that is asked for."""
    generation: int
    portions: TrainingSet
    documents: int
    """Documents of one generation: what a selection without another number keeps."""
    selection: SelectionSpec | None = None
    edit: EditSpec | None = None
    written: tuple[tuple[ArtifactRef, ArtifactRef], ...] = ()
    """Synthetic corpora, each with the human windows whose beginnings it continues."""
    backend: str = ""
    """Backend that scores; empty means in the generator's own process. Only that one edits."""
    max_tokens: int = 256
    """Tokens of each document that are scored at most."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The training set T_j as the trainer takes it."""

    corpora: tuple[ArtifactRef, ...]
    weights: tuple[float, ...] = ()
    """Of each corpus; empty where all are alike."""
    selections: tuple[Selected, ...] = ()
    """What was chosen of which pools; empty where whole corpora were taken."""


def is_work(arm: ArmSpec, portions: TrainingSet) -> bool:
    """Return whether anything has to be done before training: a draw, a selection, an edit."""
    return bool(arm.selection or arm.edit) or any(portion.documents is not None for portion in portions)


def whole(portions: TrainingSet) -> Chosen:
    """Return the training set where nothing has to be done."""
    corpora = tuple(corpus for portion in portions for corpus in portion.pool)
    return Chosen(corpora=corpora, weights=told(portion.weight for portion in portions for _ in portion.pool))


def told(weights: Iterable[float]) -> tuple[float, ...]:
    """Return weights as the trainer is told them: none where all are 1."""
    all_of_them = tuple(weights)
    return () if set(all_of_them) == {1.0} else all_of_them
