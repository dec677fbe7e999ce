"""Runs, monitors and their generations as collectors are told of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from ouroscope.records.analysis import Comparison, Family, FamilyEffect, MetricEffect, Verdict, VerdictReason
from ouroscope.records.monitors import DomainComparison, Monitor, MonitorGeneration
from ouroscope.records.runs import ArmVerdict, Generation, RunState
from services.coordinator.collector import RunCollector
from services.coordinator.monitors.collector import MonitorCollector
from services.coordinator.plan import Lane
from services.coordinator.rows import Kept, Measured

from .conftest import NOON, a_run
from .fakes import small_spec

DAY = timedelta(days=1)
RUN = a_run(small_spec(seeds=2), state=RunState.RUNNING)
VALUES = (
    Measured(id="token_entropy", value=5.0),
    Measured(id="yule_k", value=None),
    Measured(id="heldout_perplexity", value=261.5, model=True),
    Measured(id="not_in_the_catalogue", value=1.0),
)


def compared(verdict: Verdict = Verdict.WARNING) -> Comparison:
    """Return a comparison in which one family, one metric and one that is undefined are told."""
    text = FamilyEffect(family=Family.TEXT, effect=2.0, lower=1.5, upper=2.5, p_value=0.01, metrics=("types",))
    return Comparison(
        verdict=verdict,
        reason=VerdictReason.BEYOND_MARGIN,
        sentence="it moved",
        families=(text,),
        metrics=(
            MetricEffect(id="token_entropy", effect=3.0, lower=2.0, upper=4.0),
            MetricEffect(id="yule_k", undefined_because="too few tokens"),
        ),
    )


def examined(seed: int, number: int, comparison: Comparison | None, values: tuple[Measured, ...] = VALUES) -> Kept:
    """Return a generation of the replace arm."""
    lane = Lane("r", "replace", seed)
    return Kept(lane, Generation(name=lane.generation_name(number), number=number, comparison=comparison), values)


def watched(name: str = "news", **changes: Any) -> Monitor:
    """Return a monitor."""
    given = {"name": f"monitors/{name}", "description": "daily", "create_time": NOON, "generations": 1}
    return Monitor(**{**given, **changes})


def recorded(
    number: int, verdict: Verdict | None = Verdict.WARNING, monitor: str = "news", **changes: Any
) -> MonitorGeneration:
    """Return a generation that came `number` days after noon; one without a verdict is the baseline."""
    comparison = compared(verdict) if verdict else None
    given = {
        "name": f"monitors/{monitor}/generations/{number}",
        "number": number,
        "comparison": comparison,
        "verdict": verdict,
        "reason": comparison.reason if comparison else None,
        "create_time": NOON + number * DAY,
        "judge_time": NOON + number * DAY,
    }
    return MonitorGeneration(**{**given, **changes})


def show_run(collector: RunCollector, values: tuple[Measured, ...] = VALUES) -> None:
    """Let everything be shown that there is of runs."""
    verdicts = (ArmVerdict(arm="replace", verdict=Verdict.COLLAPSE, sentence="gone"),)
    run = replace(RUN, verdicts=verdicts, generations_done=1)
    collector.run_changed(RUN)
    collector.run_changed(run)
    collector.generation_examined(run, examined(0, 1, compared(), values))
    collector.stage_took("generate", 2.0)


def show_monitor(collector: MonitorCollector, values: tuple[Measured, ...] = VALUES) -> None:
    """Let everything be shown that there is of monitors."""
    domains = (DomainComparison(domain="wiki", comparison=compared(Verdict.STABLE)),)
    collector.monitor_changed(watched(generations=0))
    collector.generation_judged(watched(generations=2), recorded(1, synthetic_share=0.5, domains=domains), values, 1)
