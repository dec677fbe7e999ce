"""The gate before a training: may this candidate be trained on? Nothing is recorded. Knows no transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from ouroscope.client.batches import Fields
from ouroscope.errors import FieldProblem, InvalidRequest, PreconditionFailed
from ouroscope.gate import decide
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.monitors import GateDecision, GatePolicy, Monitor
from services.coordinator.monitors import names
from services.coordinator.monitors.baselines import Baselines
from services.coordinator.monitors.comparing import Comparing, candidate_of
from services.coordinator.monitors.history import MonitorHistory
from services.coordinator.monitors.judging import LONGEST_HISTORY, Past
from services.coordinator.monitors.measuring import Measuring


@dataclass(frozen=True, slots=True, kw_only=True)
class GateQuestion:
    """What a gate is asked, beside the content of the candidate."""

    baseline: ArtifactRef | None = None
    baseline_name: str = ""
    policy: GatePolicy | None = None
    artifacts: tuple[ArtifactRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    """What the candidate is compared with: a monitor, or a baseline dressed up as one."""

    monitor: Monitor
    policy: GatePolicy
    number: int | None = None
    pasts: Sequence[Past] = ()


class Gating:
    """Decides; keeps nothing."""

    def __init__(
        self, history: MonitorHistory, baselines: Baselines, measuring: Measuring, comparing: Comparing
    ) -> None:
        self._history = history
        self._baselines = baselines
        self._measuring = measuring
        self._comparing = comparing

    async def decide(self, asked: GateQuestion, found: AsyncIterator[Fields]) -> GateDecision:
        """Return whether the candidate may pass, and why.

        Raises:
            InvalidRequest: it does not say what to compare with, or there is nothing to measure.
            NotFound: the baseline, or an artifact, is not there.
            PreconditionFailed: the monitor has no baseline yet.
        """
        beside = await self._beside(asked)
        domains = [one.domain for one in beside.monitor.domain_baselines]
        measured = await self._measuring.measure(asked.artifacts, found, domains)
        candidate = candidate_of(measured, beside.number)
        judgement = await self._comparing.judge(beside.monitor, candidate, beside.pasts)
        return decide(judgement.gravest, beside.policy, candidate.report)

    async def _beside(self, asked: GateQuestion) -> _Beside:
        if asked.baseline is None and asked.baseline_name.count("/") == 1:
            space = asked.baseline_name.partition("/")[0]
            if space == names.SPACE:
                return await self._monitor(asked)
        policy = asked.policy or GatePolicy()
        beside = await self._baselines.of(asked.baseline, asked.baseline_name, corpus=False)
        if beside is None:
            told = "give a baseline, or the name of one"
            raise InvalidRequest(f"baseline: {told}", (FieldProblem("baseline", told),))
        return _Beside(monitor=Monitor(baseline=beside.baseline, policy=policy.policy), policy=policy)

    async def _monitor(self, asked: GateQuestion) -> _Beside:
        """Take the candidate for the next generation of a monitor."""
        monitor_id = names.monitor_id_of(asked.baseline_name, "baseline_name")
        monitor = await self._history.monitor(monitor_id)
        if monitor.baseline is None:
            raise PreconditionFailed(f"{monitor.name} has no baseline yet; its first generation becomes it")
        policy = asked.policy or GatePolicy(policy=monitor.policy)
        number = monitor.newest.number + 1 if monitor.newest else 0
        pasts = await self._history.before(monitor_id, number, LONGEST_HISTORY)
        return _Beside(monitor=replace(monitor, policy=policy.policy), policy=policy, number=number, pasts=pasts)
