"""What reading commands see of the runs of a home; they take no lock and never disturb a running loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ouroscope.errors import NotFound
from ouroscope.records.runs import Generation, Run
from ouroscope_app.home import Home
from services.coordinator.database import History, open_readonly
from services.coordinator.dataset.texts import Dealt, dealt_of

Answer = TypeVar("Answer")
MAX_RUNS = 1000


def run_id(name: str) -> str:
    """Accept `quickstart-1` and `runs/quickstart-1`.

    >>> run_id("runs/quickstart-1")
    'quickstart-1'
    """
    return name.removeprefix("runs/")


def find_run(home: Home, name: str) -> Run:
    """Read one run.

    Raises:
        NotFound: there is no such run in this home.
    """
    return _read(home, lambda history: history.run(run_id(name)))


def list_runs(home: Home) -> list[Run]:
    """Read the newest runs, newest first; none where nothing was ever started."""
    try:
        return _read(home, lambda history: history.runs(MAX_RUNS))
    except NotFound:
        return []


def generations_of(home: Home, run: Run) -> list[Generation]:
    """Read the generations of a run in order of arm, seed and number."""
    kept = _read(home, lambda history: history.generations(run_id(run.name)))
    return [one.generation for one in kept]


def text_of(home: Home, run: Run) -> tuple[Dealt, ...]:
    """Read what each domain of the text of a run gave."""
    return dealt_of(_read(home, lambda history: history.artifacts(run_id(run.name))).get("dataset"))


def _read(home: Home, ask: Callable[[History], Awaitable[Answer]]) -> Answer:
    async def reading() -> Answer:
        history = open_readonly(home.path)
        try:
            return await ask(history)
        finally:
            await history.close()

    return asyncio.run(reading())
