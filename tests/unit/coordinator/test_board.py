"""Who watches sees what goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ouroscope.errors import Unavailable
from ouroscope.records.progress import Progress
from ouroscope.records.runs import Generation, RunEvent, RunState, StageTime
from services.coordinator import board as module
from services.coordinator.board import Board
from services.coordinator.plan import Lane
from services.coordinator.rows import Kept

from .conftest import a_run
from .fakes import small_spec

RUN = a_run(small_spec(), state=RunState.RUNNING)
LANE = Lane("r", "replace", 0)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(module, "HEARTBEAT", 0.02)
    monkeypatch.setattr(module, "QUIET", 0.0)
    made_up = Board(clock=lambda: 5.0, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    made_up.open(RUN)
    return made_up


async def watched(board: Board, *doings: Any) -> list[RunEvent]:
    """Watch, let things happen, end the run, and return what was seen."""
    watcher = board.subscribe(RUN.name)
    assert watcher is not None
    for doing in doings:
        doing()
    board.run_changed(replace(RUN, state=RunState.SUCCEEDED))
    return [event async for event in board.events(watcher)]


async def test_a_watch_ends_with_the_run_and_says_how_it_ended(board: Board) -> None:
    events = await watched(board)
    assert (events[-1].state, events[-1].run_done, events[-1].seconds_left) == (RunState.SUCCEEDED, 1.0, None)
    assert board.subscribe(RUN.name) is None


async def test_progress_that_nobody_has_read_is_replaced_by_newer_progress_of_the_same_lane(board: Board) -> None:
    def go() -> None:
        board.begin(RUN.name, LANE, 1, "generate")
        for done in range(100):
            board.advance(RUN.name, LANE, 1, "generate", Progress(done=done, total=100))

    seen = [event for event in await watched(board, go) if event.stage == "generate"]
    assert [(event.arm, event.generation, event.done) for event in seen] == [("replace", 1, 0.99)]


async def test_finished_generations_are_all_told_however_slow_the_watcher_is(board: Board) -> None:
    done = [Kept(LANE, Generation(name=LANE.generation_name(j), number=j)) for j in range(5)]
    events = await watched(board, lambda: [board.generation_done(kept) for kept in done])
    told = [event.finished_generation.number for event in events if event.finished_generation]
    assert told == [0, 1, 2, 3, 4]


async def test_something_is_heard_even_if_nothing_moves(board: Board) -> None:
    watcher = board.subscribe(RUN.name)
    assert watcher is not None
    events = board.events(watcher)
    heard = [await anext(events) for _ in range(3)]
    assert all(event.state is RunState.RUNNING for event in heard)
    await events.aclose()


async def test_the_promise_of_a_heartbeat_is_kept_with_room() -> None:
    assert module.HEARTBEAT + module.QUIET < 2


async def test_a_stage_that_waits_for_a_worker_says_why(board: Board) -> None:
    events = await watched(board, lambda: board.wait(RUN.name, LANE, 1, "score", "the service cannot be reached"))
    assert "cannot be reached" in str([event.message for event in events])


async def test_who_watches_is_told_when_everything_stands_still(board: Board) -> None:
    events = await watched(board, lambda: board.stand_still("the disk is full"))
    assert [event.message for event in events] == ["the disk is full", None]
    assert events[0].state is RunState.RUNNING


async def test_shutting_down_lets_watchers_go_without_claiming_an_end(board: Board) -> None:
    watcher = board.subscribe(RUN.name)
    assert watcher is not None
    watching = asyncio.create_task(all_of(board.events(watcher)))
    await asyncio.sleep(0)
    await board.close()
    with pytest.raises(Unavailable, match="watch again"):
        await watching


async def all_of(events: AsyncIterator[RunEvent]) -> list[RunEvent]:
    """Return everything that comes."""
    return [event async for event in events]


async def test_a_run_that_goes_on_begins_where_it_was(board: Board) -> None:
    times = tuple(StageTime(stage=stage, seconds=1.0) for stage in ("prompts", "generate"))
    kept = Kept(LANE, Generation(name=LANE.generation_name(0), number=0, stages=times))
    before = board.newest(RUN.name)
    board.open(RUN, [kept], [StageTime(stage="dataset", seconds=1.0)])
    after = board.newest(RUN.name)
    assert before is not None
    assert after is not None
    assert after.run_done > before.run_done
    assert after.seconds_left is not None


async def test_a_run_that_is_not_here_cannot_be_watched_and_is_not_waited_for(board: Board) -> None:
    assert board.subscribe("runs/other") is None
    await asyncio.wait_for(board.ended("runs/other"), 60.0)
