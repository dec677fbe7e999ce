"""Hands what a pipeline streams in on to the analyzer: all of it as one stream, and each domain as one more.

Nothing is kept and no document is decoded: a message goes on when every stream has room for it, so a caller cannot send
faster than the analyzer measures. Knows neither gRPC nor monitors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

from ouroscope.client.batches import Fields
from ouroscope.client.relay import domain_of
from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import Report
from ouroscope.records.documents import View
from ouroscope.records.monitors import MOST_DOMAINS
from services.coordinator.monitors.judging import WHOLE
from services.coordinator.monitors.survey import LONGEST_DOMAIN, Survey
from services.coordinator.stages import DRAWN_CONCEPTS
from services.coordinator.workers import Analyzer

VIEW = View.CONTINUATION
"""A monitor looks at what the model wrote; a document without a real prefix is looked at whole."""
REPEATED_TEXTS = 20
WAITING = 2
"""Messages that wait for a stream of the analyzer; each is under 4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the analyzer measured of one generation."""

    whole: Report
    domains: Mapping[str, Report] = field(default_factory=dict)
    synthetic_share: float | None = None
    by_domain: bool = True
    """Whether domains could be told apart: not in a finished report."""


class Relay:
    """One stream on its way."""

    def __init__(self, analyzer: Analyzer, domains: Collection[str] | None) -> None:
        """Begin; `domains` are those to measure one by one, None takes the first that appear, at most 20."""
        self._analyzer = analyzer
        self._domains = domains
        self._lanes: dict[str, _Lane] = {}
        self._survey = Survey()

    async def measure(self, found: AsyncIterator[Fields]) -> Findings:
        """Return what is measured of all that `found` yields.

        Raises:
            InvalidRequest: it yields nothing.
            OuroscopeError: what the analyzer raised first; the other streams are ended.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._pass_on(found, tasks)
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        reports = {domain: lane.report.result() for domain, lane in self._lanes.items()}
        return Findings(whole=reports.pop(WHOLE), domains=reports, synthetic_share=self._survey.synthetic_share)

    async def _pass_on(self, found: AsyncIterator[Fields], tasks: asyncio.TaskGroup) -> None:
        async for fields in found:
            self._survey.add_encoded(fields.get("documents", ()))
            await self._lane(WHOLE, tasks).queue.put(fields)
            for domain, part in self._by_domain(fields).items():
                await self._lane(domain, tasks).queue.put(part)
        if not self._lanes:
            raise InvalidRequest("there is nothing to measure: send documents, records or texts, or name artifacts")
        for lane in self._lanes.values():
            await lane.queue.put(None)

    def _lane(self, domain: str, tasks: asyncio.TaskGroup) -> _Lane:
        if domain not in self._lanes:
            self._lanes[domain] = _Lane(self._analyzer, tasks)
        return self._lanes[domain]

    def _by_domain(self, fields: Fields) -> dict[str, Fields]:
        if self._domains is not None and not self._domains:
            return {}
        parts: dict[str, Fields] = {}
        for name, items in fields.items():
            for item in items:
                if (domain := domain_of(item)) and self._is_wanted(domain, parts):
                    parts.setdefault(domain, {}).setdefault(name, []).append(item)
        return parts

    def _is_wanted(self, domain: str, parts: Mapping[str, Fields]) -> bool:
        if self._domains is not None:
            return domain in self._domains
        known = {*self._lanes, *parts} - {WHOLE}
        return domain in known or (len(known) < MOST_DOMAINS and len(domain) <= LONGEST_DOMAIN)


class _Lane:
    """One stream of the analyzer, and what waits for it."""

    def __init__(self, analyzer: Analyzer, tasks: asyncio.TaskGroup) -> None:
        self.queue: asyncio.Queue[Fields | None] = asyncio.Queue(WAITING)
        measuring = analyzer.analyze_batches(
            self._waiting(), view=VIEW, drawn_concepts=DRAWN_CONCEPTS, repeated_texts=REPEATED_TEXTS
        )
        self.report = tasks.create_task(measuring)

    async def _waiting(self) -> AsyncIterator[Fields]:
        while (fields := await self.queue.get()) is not None:
            yield fields


def _first(failures: BaseExceptionGroup) -> BaseException:
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
