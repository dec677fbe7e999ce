"""From the portions of a protocol to the corpora that the next model is trained on: drawing, selecting, editing.

Whole corpora are passed on as they are. Everything else is work of the analyzer (which documents) and of the generator
(what a model expects of them, ToEdit, a detector); references travel, texts stay in the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.runs import ArmSpec, EditSpec
from ouroscope.records.selection import SelectDocuments, Selected, SelectionSource, SelectionSpec
from services.coordinator.protocols import Portion, TrainingSet
from services.coordinator.workers import OnProgress, Workers


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
    weights = tuple(portion.weight for portion in portions for _ in portion.pool)
    return Chosen(corpora=corpora, weights=() if set(weights) == {1.0} else weights)


async def choose(wanted: Choice, workers: Workers, tell: OnProgress) -> Chosen:
    """Draw, select and edit as the arm wants it."""
    parts = [await _part(wanted, portion, workers, tell) for portion in wanted.portions]
    weights = tuple(weight for part in parts for weight in part.weights)
    return Chosen(
        corpora=tuple(corpus for part in parts for corpus in part.corpora),
        weights=() if set(weights) == {1.0} else weights,
        selections=tuple(selected for part in parts for selected in part.selections),
    )


async def _part(wanted: Choice, portion: Portion, workers: Workers, tell: OnProgress) -> Chosen:
    if wanted.selection is None and portion.documents is None:
        return Chosen(corpora=portion.pool, weights=(portion.weight,) * len(portion.pool))
    selected = await _select(wanted, portion, workers, tell)
    return Chosen(corpora=(selected.corpus,), weights=(portion.weight,), selections=(selected,))


async def _select(wanted: Choice, portion: Portion, workers: Workers, tell: OnProgress) -> Selected:
    request = SelectDocuments(
        sources=tuple(SelectionSource(corpus=corpus) for corpus in portion.pool),
        selection=wanted.selection or SelectionSpec(),
        documents=portion.documents or wanted.documents,
        seed=wanted.seed,
    )
    return await workers.analyzer.select_documents(request, tell)
