"""What goes on right now, in memory: the stages at work, how far they are, and who watches. Never waits for a database.

One event loop owns it. Watchers may be slow: progress that they have not seen yet is replaced by newer progress of the
same lane; finished generations are kept for them, there are only so many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from ouroscope.errors import Unavailable
from ouroscope.records.progress import Progress
from ouroscope.records.runs import Run, RunEvent, RunState, StageTime
from services.coordinator.pace import Pace
from services.coordinator.plan import Lane
from services.coordinator.rows import Kept

HEARTBEAT = 1.0
"""Seconds after which a watcher hears something even if nothing moved; callers are promised 2."""
QUIET = 0.2
"""Seconds between two answers to one watcher at least."""


class Listener(Protocol):
    """Somebody who wants to know of everything, such as the exporter of metrics. Must not block."""

    def run_changed(self, run: Run) -> None:
        """A run was accepted, went on or ended."""

    def generation_examined(self, run: Run, kept: Kept) -> None:
        """A generation has new values or a new verdict."""

    def stage_took(self, stage: str, seconds: float) -> None:
        """A stage is done."""


@dataclass(slots=True)
class Watcher:
    """One who watches a run, and what was not told yet."""

    run: str
    news: dict[object, RunEvent] = field(default_factory=dict)
    """In the order in which they happened."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, lane: Lane | None, event: RunEvent, *, lasting: bool) -> None:
        """Keep an event; one that is not lasting replaces what its lane had to say before."""
        key: object = object() if lasting else lane
        self.news.pop(key, None)
        self.news[key] = event
        self.woken.set()

    def take(self) -> list[RunEvent]:
        """Return what was not told yet."""
        events = list(self.news.values())
        self.news = {}
        self.woken.clear()
        return events


class _LiveRun:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.pace = Pace(run.name.removeprefix("runs/"), run.spec)
        self.watchers: list[Watcher] = []
        self.newest: RunEvent | None = None
        self.stages: dict[Lane | None, str] = {}
        """What each lane is at."""
        self._done = 0.0

    @property
    def done(self) -> float:
        """Return the share of the run that is done; it never shrinks, though estimates of what is left may grow."""
        self._done = 1.0 if self.run.state is RunState.SUCCEEDED else max(self._done, self.pace.run_done())
        return self._done


class Board:
    """The runs that this process drives."""

    def __init__(
        self,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._listeners = tuple(listeners)
        self._clock = clock
        self._now = now
        self._live: dict[str, _LiveRun] = {}
        self._closed = False

    async def close(self) -> None:
        """Let all watchers go."""
        self._closed = True
        for live in self._live.values():
            for watcher in live.watchers:
                watcher.woken.set()

    def open(self, run: Run, generations: Iterable[Kept] = (), setup: Iterable[StageTime] = ()) -> None:
        """Show a run that begins or goes on; `generations` and `setup` are what earlier processes have done of it."""
        live = self._live.setdefault(run.name, _LiveRun(run))
        live.run = run
        live.stages.clear()
        live.pace.finish(None, 0, setup)
        for kept in generations:
            live.pace.finish(kept.lane, kept.generation.number, kept.generation.stages)
            self._tell_listeners(run, kept)
        self.run_changed(run)

    def run_changed(self, run: Run) -> None:
        """Show the new state of a run; once it has ended, its watchers are told and let go."""
        for listener in self._listeners:
            listener.run_changed(run)
        if live := self._live.get(run.name):
            live.run = run
            self._tell(live, None, self._event(live), lasting=run.state.ended)
            if run.state.ended:
                del self._live[run.name]

    def begin(self, run: str, lane: Lane | None, generation: int, stage: str) -> None:
        """Show that a stage begins; lane None is the setup of the run."""
        if live := self._live.get(run):
            live.stages[lane] = stage
            live.pace.begin(lane, stage, self._clock())
            self._tell(live, lane, self._event(live, lane, generation, stage))

    def advance(self, run: str, lane: Lane | None, generation: int, stage: str, progress: Progress) -> None:
        """Show how far a stage is."""
        if live := self._live.get(run):
            done = progress.done / progress.total if progress.total > 0 else 0.0
            live.pace.advance(lane, done)
            self._tell(live, lane, self._event(live, lane, generation, stage, done=min(1.0, max(0.0, done))))

    def wait(self, run: str, lane: Lane | None, generation: int, stage: str, message: str) -> None:
        """Show why a stage does not move."""
        if live := self._live.get(run):
            event = replace(self._event(live, lane, generation, stage), message=message)
            self._tell(live, lane, event)

    def stand_still(self, message: str) -> None:
        """Show of all runs why they do not move."""
        for live in self._live.values():
            self._tell(live, None, replace(self._event(live), message=message))

    @contextmanager
    def asking(self, run: str, lane: Lane | None, what: str) -> Iterator[None]:
        """Count a question to a worker as work at it, though it is no stage of the run."""
        live = self._live.get(run)
        if live:
            live.stages[lane] = what
        try:
            yield
        finally:
            if live:
                live.stages.pop(lane, None)

    def finish(self, run: str, lane: Lane | None, generation: int, took: StageTime) -> None:
        """Show that a stage is done."""
        for listener in self._listeners:
            listener.stage_took(took.stage, took.seconds)
        if live := self._live.get(run):
            live.stages.pop(lane, None)
            live.pace.finish(lane, generation, (took,))
            self._tell(live, lane, self._event(live, lane, generation, took.stage, done=1.0))

    def examined(self, run: Run, kept: Kept) -> None:
        """Show new values or a new verdict of a generation."""
        self._tell_listeners(run, kept)

    def generation_done(self, kept: Kept) -> None:
        """Show a finished generation."""
        if live := self._live.get(f"runs/{kept.lane.run}"):
            event = self._event(live, kept.lane, kept.generation.number)
            self._tell(live, kept.lane, replace(event, finished_generation=kept.generation), lasting=True)

    def shown(self) -> list[str]:
        """Return the names of the runs that have not ended as far as is known here."""
        return list(self._live)

    @property
    def closed(self) -> bool:
        """Return whether the coordinator shuts down."""
        return self._closed

    def stages(self) -> list[str]:
        """Return the stages at work now, those that wait for a worker too: at most one of each lane of each run."""
        return [stage for live in self._live.values() for stage in live.stages.values()]

    def newest(self, run: str) -> RunEvent | None:
        """Return the newest event of a run that is driven here, with the figures of this moment."""
        live = self._live.get(run)
        return self._refreshed(live, live.newest) if live and live.newest else None

    def subscribe(self, run: str) -> Watcher | None:
        """Begin to watch a run; None if it is not driven here. Nothing that happens from now on is missed."""
        live = self._live.get(run)
        if live is None:
            return None
        watcher = Watcher(run)
        live.watchers.append(watcher)
        return watcher

    async def events(self, watcher: Watcher) -> AsyncIterator[RunEvent]:
        """Yield what happens in a run until it ends, something every `HEARTBEAT` seconds. Stops watching at the end.

        Raises:
            Unavailable: the coordinator shuts down; the run has not ended.
        """
        try:
            ended = False
            while not ended:
                if self._closed:
                    raise Unavailable("the coordinator is shutting down; watch again, the run goes on when it is back")
                for event in await self._news(watcher):
                    ended = ended or event.state.ended
                    yield event
                await asyncio.sleep(0 if ended else QUIET)
        finally:
            if live := self._live.get(watcher.run):
                live.watchers = [one for one in live.watchers if one is not watcher]

    async def ended(self, run: str) -> None:
        """Return once a run has ended, at once if it is not driven here."""
        watcher = self.subscribe(run)
        if watcher is not None:
            async for _ in self.events(watcher):
                pass

    async def _news(self, watcher: Watcher) -> list[RunEvent]:
        try:
            async with asyncio.timeout(HEARTBEAT):
                await watcher.woken.wait()
        except TimeoutError:
            live = self._live.get(watcher.run)
            return [self._refreshed(live, live.newest or self._event(live))] if live else watcher.take()
        return watcher.take()

    def _event(
        self,
        live: _LiveRun,
        lane: Lane | None = None,
        generation: int | None = None,
        stage: str | None = None,
        done: float = 0.0,
    ) -> RunEvent:
        run = live.run
        return RunEvent(
            run=run.name,
            time=self._now(),
            state=run.state,
            arm=lane.arm if lane else None,
            seed=lane.seed if lane else None,
            generation=generation if lane else None,
            stage=stage,
            done=done,
            run_done=live.done,
            seconds_left=None if run.state.ended else live.pace.seconds_left(self._clock()),
            message=run.error,
        )

    def _refreshed(self, live: _LiveRun, event: RunEvent) -> RunEvent:
        now = self._event(live)
        return replace(event, time=now.time, state=now.state, run_done=now.run_done, seconds_left=now.seconds_left)

    def _tell(self, live: _LiveRun, lane: Lane | None, event: RunEvent, *, lasting: bool = False) -> None:
        if event.finished_generation is None:
            live.newest = event
        for watcher in live.watchers:
            watcher.tell(lane, event, lasting=lasting)

    def _tell_listeners(self, run: Run, kept: Kept) -> None:
        for listener in self._listeners:
            listener.generation_examined(run, kept)
