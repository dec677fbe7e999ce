"""Records the generations that a pipeline reports, and gives each its verdict. Records in and out, no transport.

A generation is measured first and then, while nobody else changes its monitor, compared and kept in one transaction
with all that follows from it. What fails or is killed before has changed nothing, and can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog

from ouroscope.client.batches import Fields
from ouroscope.errors import AlreadyExists, LimitExceeded, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.monitors import LONGEST_DESCRIPTION, Monitor, MonitorGeneration
from services.coordinator.answers import measured, published
from services.coordinator.monitors import names
from services.coordinator.monitors.comparing import Comparing, Judgement, candidate_of
from services.coordinator.monitors.history import MonitorHistory, Recorded, light
from services.coordinator.monitors.judging import LONGEST_HISTORY, Past, to_judge_again
from services.coordinator.monitors.listener import MonitorListener
from services.coordinator.monitors.locks import Locks
from services.coordinator.monitors.measuring import Measuring, domain_baselines, reaches_interval
from services.coordinator.monitors.monitors import stamped
from services.coordinator.monitors.relay import Findings
from services.coordinator.requests import read_request_id

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_GENERATIONS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a pipeline says of a generation beside its content."""

    parent: str
    number: int
    request_id: str = ""
    artifacts: tuple[ArtifactRef, ...] = ()
    description: str = ""
    synthetic_share: float | None = None

    def __post_init__(self) -> None:
        problems = Problems("generation")
        share, short = self.synthetic_share, len(self.description) <= LONGEST_DESCRIPTION
        problems.check(self.number >= 0, "number", "must be 0 or more")
        problems.check(short, "description", f"must have at most {LONGEST_DESCRIPTION} characters")
        problems.check(share is None or 0 <= share <= 1, "synthetic_share", "must be in [0, 1]")
        problems.raise_any()


class Recording:
    """Takes in generations."""

    def __init__(
        self,
        history: MonitorHistory,
        measuring: Measuring,
        comparing: Comparing,
        locks: Locks,
        listeners: Sequence[MonitorListener],
        now: Callable[[], datetime],
    ) -> None:
        self._history = history
        self._measuring = measuring
        self._comparing = comparing
        self._locks = locks
        self._listeners = tuple(listeners)
        self._now = now

    async def record(self, told: Reported, found: AsyncIterator[Fields]) -> MonitorGeneration:
        """Record a generation and return it with its verdict; doing it again returns what was recorded.

        Raises:
            InvalidRequest: something of the request is wrong.
            NotFound: there is no such monitor, or an artifact is not in the store.
            PreconditionFailed: the monitor is paused.
            AlreadyExists: the number, or the request_id, has been used for something else.
            LimitExceeded: the monitor has too many generations.
        """
        monitor_id, key = names.monitor_id_of(told.parent, "parent"), read_request_id(told.request_id)
        monitor = await self._history.monitor(monitor_id)
        if known := await self._of_request(monitor_id, key, told):
            return known
        _check_open(monitor)
        found_out = await self._measuring.measure(told.artifacts, found, _domains_of(monitor))
        async with self._locks.of(monitor.name):
            return await self._settle(monitor_id, key, told, found_out)

    async def _settle(self, monitor_id: str, key: str | None, told: Reported, found: Findings) -> MonitorGeneration:
        # Read again: whoever held the lock before may have recorded, changed or deleted.
        monitor = await self._history.monitor(monitor_id)
        if known := await self._of_request(monitor_id, key, told) or await self._of_number(monitor_id, told, found):
            return known
        _check_open(monitor)
        if monitor.baseline is None:
            monitor, new = self._first(monitor, told, found)
            return await _to_its_end(self._keep(monitor, [new], key))
        pasts = await self._history.before(monitor_id, told.number, LONGEST_HISTORY)
        candidate = candidate_of(found, told.number)
        new = self._recorded(monitor, told, found, await self._comparing.judge(monitor, candidate, pasts))
        recorded = [new, *await self._again(new, pasts)]
        return await _to_its_end(self._keep(monitor, recorded, key))

    async def _of_request(self, monitor_id: str, key: str | None, told: Reported) -> MonitorGeneration | None:
        known = await self._history.generation_of_request(monitor_id, key) if key else None
        if known is None:
            return None
        if known.generation.number != told.number:
            raise AlreadyExists(f"the request_id was used for {known.generation.name}; make a new one")
        return known.generation

    async def _of_number(self, monitor_id: str, told: Reported, found: Findings) -> MonitorGeneration | None:
        known = await self._history.generation(monitor_id, told.number)
        if known is not None and known.generation.report != published(found.whole):
            raise AlreadyExists(
                f"{known.generation.name} was recorded with other content; give this one another number"
            )
        return known.generation if known else None

    def _first(self, monitor: Monitor, told: Reported, found: Findings) -> tuple[Monitor, Recorded]:
        """Make the first generation the baseline."""
        domains = monitor.domain_baselines or domain_baselines(found)
        first = replace(
            self._generation(monitor, told, found),
            sentence=_said_of_baseline(found, [one.domain for one in domains]),
        )
        monitor = replace(monitor, baseline=published(found.whole), domain_baselines=domains)
        return stamped(monitor, self._now()), Recorded(generation=first, values=measured(found.whole))

    def _recorded(self, monitor: Monitor, told: Reported, found: Findings, judgement: Judgement) -> Recorded:
        generation = self._generation(monitor, told, found)
        return Recorded(
            generation=self._judged(generation, judgement),
            values=measured(found.whole),
            baselines=judgement.baselines,
        )

    def _generation(self, monitor: Monitor, told: Reported, found: Findings) -> MonitorGeneration:
        now = self._now()
        return MonitorGeneration(
            name=names.generation_name(names.monitor_id_of(monitor.name), told.number),
            number=told.number,
            report=published(found.whole),
            synthetic_share=found.synthetic_share if told.synthetic_share is None else told.synthetic_share,
            create_time=now,
            judge_time=now,
            description=told.description,
        )

    def _judged(self, generation: MonitorGeneration, judgement: Judgement) -> MonitorGeneration:
        return replace(
            generation,
            comparison=judgement.comparison,
            domains=judgement.domains,
            verdict=judgement.said.verdict,
            reason=judgement.said.reason,
            sentence=judgement.said.sentence,
            judge_time=self._now(),
        )

    async def _again(self, late: Recorded, before: Sequence[Past]) -> list[Recorded]:
        """Judge again the generations after a late one that it changes the sequence of."""
        monitor_id, number = names.generation_of(late.generation.name)
        behind = await self._history.behind(monitor_id, number)
        pasts = [*before, late.past, *behind]
        found = []
        for past in to_judge_again(late.past, behind):
            old = await self._history.generation(monitor_id, past.number)
            if old is not None:
                judgement = await self._comparing.judge_again(old, pasts)
                found.append(replace(old, generation=self._judged(old.generation, judgement)))
        return found

    async def _keep(self, monitor: Monitor, recorded: Sequence[Recorded], key: str | None) -> MonitorGeneration:
        if monitor.generations >= MOST_GENERATIONS:
            raise LimitExceeded(f"{monitor.name} has {MOST_GENERATIONS} generations; make another monitor")
        last = max(recorded, key=lambda one: one.generation.number)
        is_newest = monitor.newest is None or last.generation.number >= monitor.newest.number
        newest = light(last.generation) if is_newest else monitor.newest
        monitor = replace(monitor, generations=monitor.generations + 1, newest=newest)
        await self._history.keep(monitor, recorded, key)
        warned = await self._history.warned(last.generation) if is_newest else 0
        self._tell(monitor, recorded, last if is_newest else None, warned)
        return recorded[0].generation

    def _tell(self, monitor: Monitor, recorded: Sequence[Recorded], newest: Recorded | None, warned: int) -> None:
        for one in recorded:
            verdict = one.generation.verdict.value if one.generation.verdict else "baseline"
            log.info("generation.judged", generation=one.generation.name, verdict=verdict)
        for listener in self._listeners:
            if recorded[0].generation.verdict is None or newest is None:
                listener.monitor_changed(monitor)  # it has its baseline now, or one generation more
            if newest is not None:
                listener.generation_judged(monitor, newest.generation, newest.values, warned)


async def _to_its_end(keeping: Coroutine[Any, Any, T]) -> T:
    """Wait for `keeping` also where the caller goes meanwhile: what is in the tables must be told to the listeners."""
    task = asyncio.ensure_future(keeping)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _check_open(monitor: Monitor) -> None:
    if monitor.paused:
        raise PreconditionFailed(
            f"{monitor.name} is paused; `ouroscope monitors resume` (UpdateMonitor) lets it take generations again"
        )


def _domains_of(monitor: Monitor) -> tuple[str, ...] | None:
    """Return the domains to measure; None while the first generation is to tell which there are."""
    if monitor.baseline is None and not monitor.domain_baselines:
        return None
    return tuple(one.domain for one in monitor.domain_baselines)


def _said_of_baseline(found: Findings, domains: Sequence[str]) -> str:
    if not reaches_interval(found.whole):
        return (
            "This generation is the baseline, and too small to be one: it has too few independent texts for an "
            "interval, so nothing can be compared with it. Give the monitor another one: `ouroscope monitors update "
            "--baseline` (UpdateMonitor)."
        )
    told = f", also each by itself in the domains {', '.join(domains)}" if domains else ""
    return f"This generation is the baseline: other generations are compared with it{told}."
