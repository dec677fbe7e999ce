"""What a monitor or a gate compares with: a report, a frozen baseline, a stored corpus, or something with a name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ouroscope.errors import FieldProblem, InvalidRequest, NotFound, PreconditionFailed
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.monitors import DomainBaseline, DomainComparison, Monitor
from ouroscope.store import ArtifactStore
from services.coordinator.answers import published
from services.coordinator.database import History
from services.coordinator.monitors import names
from services.coordinator.monitors.history import MonitorHistory
from services.coordinator.monitors.measuring import Measuring, domain_baselines, reaches_interval
from services.coordinator.plan import Lane, parse_lane
from services.coordinator.workers import Analyzer

COMPARABLE = (ArtifactKind.REPORT, ArtifactKind.BASELINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is compared with, whole and by domain."""

    baseline: ArtifactRef
    domains: tuple[DomainBaseline, ...] = ()


class Baselines:
    """Finds baselines."""

    def __init__(
        self, analyzer: Analyzer, measuring: Measuring, store: ArtifactStore, runs: History, monitors: MonitorHistory
    ) -> None:
        self._analyzer = analyzer
        self._measuring = measuring
        self._store = store
        self._runs = runs
        self._monitors = monitors

    async def of(self, baseline: ArtifactRef | None, name: str, *, corpus: bool) -> Beside | None:
        """Return what a reference or a name stands for; None where neither is given.

        Args:
            baseline: a report, a frozen baseline, or where `corpus` says so a stored corpus, which is measured.
            name: `baselines/b`, `monitors/m/generations/n`, or `runs/r/arms/a/seeds/s/generations/n`.
            corpus: whether a corpus will do.

        Raises:
            InvalidRequest: both are given, or one is of another kind.
            NotFound: there is no such thing.
            PreconditionFailed: the generation has not been measured.
        """
        if baseline is not None and name:
            raise _wrong("baseline_name", "give a baseline or the name of one, not both")
        if name:
            return await self._named(name)
        if baseline is None:
            return None
        if corpus and baseline.kind is ArtifactKind.CORPUS:
            found = await self._measuring.corpus(baseline)
            if not reaches_interval(found.whole):
                raise _wrong("baseline", "has too few independent texts for an interval; take 20,000 words or more")
            return Beside(baseline=published(found.whole), domains=domain_baselines(found))
        await self.check(baseline, "baseline")
        return Beside(baseline=baseline)

    async def check(self, baseline: ArtifactRef, field: str) -> None:
        """Refuse what cannot be compared with.

        Raises:
            InvalidRequest: it is neither a report nor a frozen baseline.
            NotFound: it is not in the store.
        """
        if baseline.kind not in COMPARABLE:
            raise _wrong(field, f"must be a report or a frozen baseline, got {baseline}")
        if not await asyncio.to_thread(self._store.exists, baseline):
            raise NotFound(f"{field}: {baseline} is not in the artifact store", artifact=str(baseline))

    async def _named(self, name: str) -> Beside:
        space = name.partition("/")[0]
        if space == "baselines":
            return Beside(baseline=(await self._analyzer.get_baseline(name)).baseline)
        if space == names.SPACE:
            return await self._recorded(name)
        if space == "runs":
            return Beside(baseline=await self._of_run(name))
        expected = "baselines/BASELINE, monitors/MONITOR/generations/NUMBER, or the name of a generation of a run"
        raise _wrong("baseline_name", f"write {expected}; got {name[:200]!r}")

    async def _recorded(self, name: str) -> Beside:
        monitor_id, number = names.generation_of(name, "baseline_name")
        monitor = await self._monitors.monitor(monitor_id)
        recorded = await self._monitors.generation(monitor_id, number)
        if recorded is None or recorded.generation.report is None:
            raise NotFound(f"there is no {name}")
        report = recorded.generation.report
        return Beside(baseline=report, domains=_domains_of(monitor, report, recorded.generation.domains))

    async def _of_run(self, name: str) -> ArtifactRef:
        run, arm, seed, number = parse_lane(name)
        if arm is None or seed is None or number is None:
            raise _wrong("baseline_name", f"{name[:200]!r} is not the name of a generation")
        await self._runs.run(run)
        report = (await self._runs.generation(Lane(run, arm, seed), number)).generation.report
        if report is None:
            raise PreconditionFailed(f"{name} has not been measured yet; wait for its stage `analyse`")
        return report


def _domains_of(
    monitor: Monitor, report: ArtifactRef, compared: Sequence[DomainComparison]
) -> tuple[DomainBaseline, ...]:
    """Return the reports on the domains of a generation: of its comparisons, or of the baseline that it is itself."""
    if report == monitor.baseline:
        return monitor.domain_baselines
    found = [(one.domain, one.report) for one in compared]
    return tuple(DomainBaseline(domain=domain, baseline=ref) for domain, ref in found if ref is not None)


def _wrong(field: str, description: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {description}", (FieldProblem(field, description),))
