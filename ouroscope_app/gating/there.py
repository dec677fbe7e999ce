"""Asks the gate of a coordinator: the candidate is streamed to it, or named where it lies in its store."""

from __future__ import annotations

import asyncio
from typing import Any

from ouroscope.addresses import split_address
from ouroscope.client import MonitorClient
from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import Policy
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.monitors import GatePolicy
from ouroscope_app.gating.policies import gate_policy
from ouroscope_app.gating.question import MONITORS, Answered, Question
from ouroscope_app.inputs import inputs_named
from ouroscope_app.monitoring import NAMED

REFERRED = ("report/", "baseline/")


def decide_there(question: Question, coordinator: str) -> Answered:
    """Let the coordinator at `coordinator` decide.

    Raises:
        InvalidRequest: the address, the policy or the baseline cannot be meant.
        NotFound: there is no such policy, file, artifact, baseline or monitor.
        Unavailable: nobody answers there.
    """
    split_address(coordinator)
    baseline = _baseline(question.baseline)
    return asyncio.run(_ask(question, coordinator, baseline))


async def _ask(question: Question, coordinator: str, baseline: dict[str, Any]) -> Answered:
    async with MonitorClient.connect(coordinator) as client:
        policy = await _policy(client, question)
        inputs = inputs_named([question.candidate], question.predictions, question.text_field)
        decision = await client.gate(**inputs, **baseline, policy=policy)
    return Answered(question=question, decision=decision)


def _baseline(name: str) -> dict[str, Any]:
    if name.startswith(NAMED):
        return {"baseline_name": name}
    if name.startswith(REFERRED):
        return {"baseline": ArtifactRef.parse(name)}
    told = "monitors/NAME, baselines/NAME, the full name of a generation, report/DIGEST or baseline/DIGEST"
    raise InvalidRequest(
        f"a coordinator knows baselines by name: {told}, not {name[:200]}; without --coordinator it is measured here"
    )


async def _policy(client: MonitorClient, question: Question) -> GatePolicy | None:
    """Return what was said; what was not said of a monitor's gate is left to the monitor."""
    if not question.policy and not question.allow_insufficient_data:
        return None
    thresholds = Policy()
    if question.baseline.startswith(MONITORS):
        monitor = "/".join(question.baseline.split("/")[:2])
        thresholds = (await client.get_monitor(monitor)).policy
    return gate_policy(question.policy, question.allow_insufficient_data, thresholds)
