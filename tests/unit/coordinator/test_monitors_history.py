"""The tables of monitors, in files and in PostgreSQL alike, and who hears of what is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ouroscope.client.batches import Fields
from ouroscope.errors import AlreadyExists, LimitExceeded, NotFound, Unavailable
from ouroscope.records.documents import Document
from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope.store import ArtifactStore
from ouroscope.wire import to_proto
from services.coordinator.database import History, open_history
from services.coordinator.monitors import monitors as module
from services.coordinator.monitors import recording
from services.coordinator.monitors.desk import Desk, open_desk
from services.coordinator.monitors.history import MonitorHistory
from services.coordinator.monitors.locks import Locks
from services.coordinator.monitors.recording import Reported
from services.coordinator.patience import Patiently
from services.coordinator.rows import Measured
from tests.places import Place, make_place

from .fakes import Team, gone

NAME = "monitors/news"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make_place(request, tmp_path)


@dataclass
class Ear:
    """A listener that keeps what it hears."""

    heard: list[tuple[Any, ...]] = field(default_factory=list)

    def monitor_changed(self, monitor: Monitor) -> None:
        self.heard.append(("changed", monitor.name, monitor.paused))

    def monitor_deleted(self, name: str) -> None:
        self.heard.append(("deleted", name))

    def generation_judged(
        self, monitor: Monitor, generation: MonitorGeneration, values: tuple[Measured, ...], warned: int
    ) -> None:
        verdict = generation.verdict and generation.verdict.value
        self.heard.append(("judged", generation.number, verdict, len(values), warned))


@dataclass
class Office:
    """Monitors over tables in a file, and stand-in workers."""

    desk: Desk
    history: MonitorHistory
    ear: Ear
    team: Team

    async def record(self, number: int, text: str = "", **told: Any) -> MonitorGeneration:
        return await self.desk.recording.record(
            Reported(parent=NAME, number=number, **told), stream(text or str(number))
        )


async def stream(*texts: str) -> AsyncIterator[Fields]:
    yield {"documents": [to_proto(Document(id=text, text=text)) for text in texts]}


def office(runs: History, folder: Path) -> Office:
    team, ear = Team(folder / "workers"), Ear()
    store = ArtifactStore(str(folder / "store"))
    desk = open_desk(runs, store, team, Patiently(limit=0.0), [ear])
    return Office(desk, MonitorHistory(runs.database), ear, team)


@pytest.fixture
async def here(history: History, tmp_path: Path) -> Office:
    found = office(history, tmp_path)
    await found.desk.monitors.create("news", Monitor())
    return found


async def test_listeners_hear_of_the_newest_generation_and_of_what_judges_it_again(here):
    for number in (0, 1, 3, 2):
        await here.record(number)
    assert here.ear.heard == [
        ("changed", NAME, False),
        ("changed", NAME, False),
        ("judged", 0, None, 1, 0),
        ("judged", 1, "WARNING", 1, 1),
        ("judged", 3, "WARNING", 1, 2),
        ("judged", 3, "COLLAPSE", 1, 3),
    ]


async def test_a_late_generation_that_changes_nothing_behind_it_is_one_more_but_not_the_newest(here):
    for number in (0, 1, 2, 3, 4, 10, 11, 12, 13):
        await here.record(number)
    told = len(here.ear.heard)
    late = await here.record(9, "late")
    assert late.verdict is not None
    assert here.ear.heard[told:] == [("changed", NAME, False)]


async def test_a_restart_tells_listeners_what_there_is_and_goes_on_with_the_history(here, place, tmp_path):
    for number in (0, 1, 2):
        await here.record(number)
    await here.desk.monitors.create("other", Monitor(paused=True))
    runs = await open_history(place.home, place.url)
    again = office(runs, tmp_path)
    await again.desk.monitors.show_all(1)
    assert again.ear.heard == [
        ("changed", NAME, False),
        ("judged", 2, "WARNING", 1, 2),
        ("changed", "monitors/other", True),
    ]
    again.ear.heard.clear()
    await again.desk.monitors.show_all(0)
    assert ("judged", 2, "WARNING", 0, 2) in again.ear.heard, "verdicts of all, values only of the latest"
    third = await again.record(3)
    assert third.verdict.value == "COLLAPSE", "it has two generations behind it"
    await runs.close()


async def test_what_broke_between_measuring_and_keeping_can_be_repeated(here, monkeypatch):
    async def broken(*_: Any) -> None:
        raise MemoryError

    await here.record(0)
    request = "12345678-1234-5678-1234-567812345678"
    with monkeypatch.context() as patched:
        patched.setattr(MonitorHistory, "keep", broken)
        with pytest.raises(MemoryError):
            await here.record(1, request_id=request)
    assert (await here.desk.monitors.get(NAME)).generations == 1
    first = await here.record(1, request_id=request)
    assert await here.record(1, "whatever", request_id=request) == first
    assert (await here.desk.monitors.get(NAME)).generations == 2


async def test_a_caller_that_goes_while_its_generation_is_kept_leaves_listeners_informed(here, monkeypatch):
    entered, going = asyncio.Event(), asyncio.Event()
    keep = MonitorHistory.keep

    async def slow(*given: Any) -> None:
        entered.set()
        await going.wait()
        await keep(*given)

    monkeypatch.setattr(MonitorHistory, "keep", slow)
    recorded = asyncio.create_task(here.record(0))
    await entered.wait()
    recorded.cancel()
    await asyncio.sleep(0)
    going.set()
    with pytest.raises(asyncio.CancelledError):
        await recorded
    assert here.ear.heard[-1] == ("judged", 0, None, 1, 0)
    assert (await here.desk.monitors.get(NAME)).generations == 1


async def test_a_failure_while_later_generations_are_judged_again_keeps_nothing(here):
    for number in (0, 1, 3):
        await here.record(number)
    before = await here.desk.monitors.get(NAME)
    asked = len(here.team.asked)
    here.team.trouble["compare"] = gone()
    with pytest.raises(Unavailable):
        await here.record(2)
    assert len(here.team.asked) == asked + 1
    assert await here.desk.monitors.get(NAME) == before


async def test_the_clock_of_the_coordinator_alone_gives_the_times(history, tmp_path):
    team, times = Team(tmp_path / "workers"), iter(range(100))
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def now() -> datetime:
        return noon - timedelta(hours=next(times))  # set back again and again

    desk = open_desk(history, ArtifactStore(str(tmp_path)), team, Patiently(), now=now)
    await desk.monitors.create("news", Monitor(create_time=noon + timedelta(days=9)))
    for number in (0, 1, 2):
        await desk.recording.record(Reported(parent=NAME, number=number), stream(str(number)))
    listed, _ = await desk.monitors.generations(NAME, 0, "")
    assert [one.number for one in listed] == [0, 1, 2], "the order is that of the numbers, whatever clocks say"
    assert (await desk.monitors.get(NAME)).create_time <= noon
    assert (await desk.monitors.get(NAME)).newest.number == 2


async def test_there_is_a_limit_to_monitors_and_to_generations(here, monkeypatch):
    monkeypatch.setattr(module, "MOST_MONITORS", 1)
    with pytest.raises(LimitExceeded, match="delete some"):
        await here.desk.monitors.create("more", Monitor())
    monkeypatch.setattr(recording, "MOST_GENERATIONS", 1)
    await here.record(0)
    with pytest.raises(LimitExceeded, match="1 generations"):
        await here.record(1)
    assert (await here.record(0)).number == 0, "what is there is still told"


async def test_pages_hold_what_one_message_holds(here, monkeypatch):
    for number in range(4):
        await here.record(number)
    monkeypatch.setattr(module, "LARGEST_PAGE_BYTES", 1)
    first, token = await here.desk.monitors.generations(NAME, 0, "")
    second, _ = await here.desk.monitors.generations(NAME, 0, token)
    assert [one.number for one in (*first, *second)] == [0, 1]


async def test_lists_hold_light_copies_and_a_single_monitor_all_of_its_newest(here):
    for number in (0, 1):
        await here.record(number)
    (listed,), _ = await here.desk.monitors.page(0, "")
    whole = await here.desk.monitors.get(NAME)
    assert listed.newest.comparison.families == whole.newest.comparison.families
    assert listed.newest.comparison.metrics == ()
    assert len(whole.newest.comparison.metrics) == 1


async def test_deleting_while_a_generation_is_measured_records_nothing(here):
    going = asyncio.Event()

    async def slow() -> AsyncIterator[Fields]:
        yield {"documents": [to_proto(Document(id="1", text="one"))]}
        await going.wait()

    recorded = asyncio.create_task(here.desk.recording.record(Reported(parent=NAME, number=0), slow()))
    while not here.team.passed_on:
        await asyncio.sleep(0)
    await here.desk.monitors.delete(NAME)
    going.set()
    with pytest.raises(NotFound):
        await recorded
    assert here.ear.heard[-1] == ("deleted", NAME)


async def test_the_same_name_at_once_is_given_once(here):
    calls = [here.desk.monitors.create("twin", Monitor(description=text)) for text in ("a", "b")]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in outcomes] == [Monitor, AlreadyExists]


async def test_one_lock_is_held_by_one_and_forgotten_by_all():
    locks, inside, most = Locks(), 0, 0

    async def enter() -> None:
        nonlocal inside, most
        async with locks.of("x"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with locks.of("y"):
        await asyncio.gather(*(enter() for _ in range(5)))
    assert most == 1
    assert len(locks) == 0
