"""A database of runs, a board, and stages over stand-in workers, without anything durable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.runs import Run, RunSpec, RunState
from services.coordinator import plan
from services.coordinator.database import History, open_history
from services.coordinator.dataset.texts import Dataset
from services.coordinator.stages import Setup
from tests.places import Place

from .fakes import made

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

SETUP = Setup(
    model=made(ArtifactKind.MODEL, "base"),
    dataset=Dataset(
        prompts=made(ArtifactKind.CORPUS, "prompts"),
        heldout=made(ArtifactKind.CORPUS, "heldout"),
        questions=made(ArtifactKind.CORPUS, "questions"),
        unigram=made(ArtifactKind.CORPUS, "unigram"),
    ),
)


def a_run(spec: RunSpec, run_id: str = "r", **changes: Any) -> Run:
    """Return a run that has just been accepted."""
    given: dict[str, Any] = {"name": f"runs/{run_id}", "state": RunState.PENDING, "create_time": NOON}
    total = plan.generations_total(spec)
    return Run(**{"spec": spec, "update_time": NOON, "generations_total": total, **given, **changes})


async def not_durable(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """Do a step without remembering it."""
    return await work()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Tables in a file; tests that say what every database must do put both kinds in its place."""
    return Place(tmp_path)


@pytest.fixture
async def history(place: Place) -> AsyncIterator[History]:
    """Tables that are open."""
    opened = await open_history(place.home, place.url)
    yield opened
    await opened.close()
