"""What Prometheus sees."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ouroscope.records.analysis import (
    Comparison,
    Family,
    FamilyEffect,
    MetricEffect,
    Verdict,
    VerdictReason,
)
from ouroscope.records.runs import ArmVerdict, DatasetSpec, Generation, Run, RunState
from services.coordinator.collector import RunCollector
from services.coordinator.exposition import unit_suffix
from services.coordinator.plan import Lane
from services.coordinator.rows import Kept, Measured

from .conftest import NOON, a_run
from .fakes import CATALOGUE, small_spec

RUN = a_run(small_spec(seeds=2), state=RunState.RUNNING)

COMPARISON = Comparison(
    verdict=Verdict.WARNING,
    reason=VerdictReason.BEYOND_MARGIN,
    sentence="it moved",
    families=(FamilyEffect(family=Family.TEXT, effect=2.0, lower=1.5, upper=2.5, p_value=0.01, metrics=("types",)),),
    metrics=(
        MetricEffect(id="token_entropy", effect=3.0, lower=2.0, upper=4.0),
        MetricEffect(id="yule_k", undefined_because="too few tokens"),
    ),
)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def collector(clock: Clock) -> RunCollector:
    made_up = RunCollector(grace=300.0, limit=2, clock=clock, unix_time=lambda: 1_767_000_000.0)
    made_up.know_metrics(CATALOGUE)
    return made_up


def examined(seed: int, number: int, entropy: float | None = 5.0, comparison: Comparison | None = COMPARISON) -> Kept:
    """Return a generation of the replace arm with values."""
    lane = Lane("r", "replace", seed)
    values = (
        Measured(id="token_entropy", value=entropy),
        Measured(id="yule_k", value=None),
        Measured(id="heldout_perplexity", value=261.5, model=True),
        Measured(id="not_in_the_catalogue", value=1.0),
    )
    return Kept(lane, Generation(name=lane.generation_name(number), number=number, comparison=comparison), values)


def shown(collector: RunCollector) -> dict[str, float]:
    """Return every sample under its name and labels."""
    lines = text_of(collector).splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def text_of(collector: RunCollector) -> str:
    """Return what a scrape returns."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def test_values_are_shown_with_their_unit_and_nothing_that_was_undefined_is(collector: RunCollector) -> None:
    collector.generation_examined(RUN, examined(0, 3))
    samples = shown(collector)
    assert samples['ouroscope_corpus_token_entropy_nats{arm="replace",run="r"}'] == 5.0
    assert samples['ouroscope_generation{arm="replace",run="r"}'] == 3
    assert not any("yule_k" in name and name.startswith("ouroscope_corpus") for name in samples)
    assert samples['ouroscope_metric_undefined_total{metric="yule_k"}'] == 1


def test_model_values_say_which_text_the_model_was_asked_about(collector: RunCollector) -> None:
    spec = small_spec(dataset=DatasetSpec(source="/some/where/news.jsonl"))
    collector.generation_examined(a_run(spec), examined(0, 1))
    name = 'ouroscope_model_heldout_perplexity{arm="replace",prompts="news.jsonl",run="r"}'
    assert shown(collector)[name] == 261.5


def test_a_value_is_the_mean_over_the_seeds_that_are_at_the_newest_generation(collector: RunCollector) -> None:
    name = 'ouroscope_corpus_token_entropy_nats{arm="replace",run="r"}'
    collector.generation_examined(RUN, examined(0, 1, 4.0))
    collector.generation_examined(RUN, examined(1, 1, 5.0))
    assert shown(collector)[name] == 4.5
    collector.generation_examined(RUN, examined(0, 2, 1.0))
    assert shown(collector)[name] == 1.0


def test_a_replayed_generation_does_not_push_a_newer_one_aside(collector: RunCollector) -> None:
    collector.generation_examined(RUN, examined(0, 2, 1.0))
    collector.generation_examined(RUN, examined(0, 1, 9.0))
    assert shown(collector)['ouroscope_corpus_token_entropy_nats{arm="replace",run="r"}'] == 1.0


def test_effects_and_their_bounds_are_shown_for_metrics_and_families(collector: RunCollector) -> None:
    collector.generation_examined(RUN, examined(0, 1))
    samples = shown(collector)
    for suffix, expected in (("", 3.0), ("_lower", 2.0), ("_upper", 4.0)):
        labels = '{arm="replace",metric="token_entropy",run="r"}'
        assert samples[f"ouroscope_collapse_effect{suffix}{labels}"] == expected
    assert samples['ouroscope_collapse_family_effect_lower{arm="replace",family="text",run="r"}'] == 1.5
    assert not any("yule_k" in name and "effect" in name for name in samples)


def test_exactly_one_verdict_and_one_state_of_a_run_is_1(collector: RunCollector) -> None:
    verdicts = (ArmVerdict(arm="replace", verdict=Verdict.COLLAPSE, sentence="gone"),)
    collector.run_changed(replace(RUN, verdicts=verdicts))
    samples = shown(collector)
    states = {name: value for name, value in samples.items() if name.startswith("ouroscope_run_state")}
    levels = {name: value for name, value in samples.items() if name.startswith("ouroscope_collapse_verdict")}
    assert [name for name, value in states.items() if value] == ['ouroscope_run_state{run="r",state="RUNNING"}']
    assert [name for name, value in levels.items() if value] == [
        'ouroscope_collapse_verdict{arm="replace",run="r",verdict="COLLAPSE"}'
    ]
    assert (len(states), len(levels)) == (5, 4)


def test_an_ended_run_is_shown_for_the_grace_time_and_then_gone(collector: RunCollector, clock: Clock) -> None:
    collector.generation_examined(RUN, examined(0, 1))
    collector.run_changed(replace(RUN, state=RunState.SUCCEEDED))
    clock.time += 299
    assert shown(collector)['ouroscope_run_state{run="r",state="SUCCEEDED"}'] == 1
    clock.time += 2
    assert not any('run="r"' in name for name in shown(collector))


def test_a_resumed_run_is_alive_again(collector: RunCollector, clock: Clock) -> None:
    collector.run_changed(replace(RUN, state=RunState.CANCELLED))
    collector.run_changed(RUN)
    clock.time += 1000
    assert shown(collector)['ouroscope_run_state{run="r",state="RUNNING"}'] == 1


def test_of_too_many_runs_the_newest_are_shown_and_the_others_counted(collector: RunCollector) -> None:
    runs = [replace(RUN, name=f"runs/r{n}", create_time=NOON + timedelta(seconds=n)) for n in range(5)]
    for run in runs:
        collector.run_changed(run)
    samples = shown(collector)
    assert sorted(name for name in samples if name.startswith("ouroscope_run_info")) == [
        'ouroscope_run_info{dataset="embedded",model="ouro-tiny",run="r3"}',
        'ouroscope_run_info{dataset="embedded",model="ouro-tiny",run="r4"}',
    ]
    assert samples["ouroscope_runs_suppressed_total"] == 3
    assert shown(collector)["ouroscope_runs_suppressed_total"] == 3, "scrapes do not count"


def test_finishing_a_generation_is_the_last_success(collector: RunCollector) -> None:
    name = 'ouroscope_last_success_timestamp_seconds{run="r"}'
    collector.run_changed(RUN)
    assert name not in shown(collector)
    collector.run_changed(replace(RUN, generations_done=1))
    assert shown(collector)[name] == 1_767_000_000.0


def test_stage_durations_are_a_histogram(collector: RunCollector) -> None:
    for seconds in (0.05, 2.0, 10_000.0, 1e9):
        collector.stage_took("generate", seconds)
    samples = shown(collector)
    assert samples['ouroscope_stage_duration_seconds_bucket{le="0.1",stage="generate"}'] == 1
    assert samples['ouroscope_stage_duration_seconds_bucket{le="5.0",stage="generate"}'] == 2
    assert samples['ouroscope_stage_duration_seconds_bucket{le="+Inf",stage="generate"}'] == 4
    assert samples['ouroscope_stage_duration_seconds_count{stage="generate"}'] == 4


def test_before_the_catalogue_is_known_no_value_has_a_wrong_name() -> None:
    collector = RunCollector()
    collector.generation_examined(RUN, examined(0, 1))
    assert not collector.knows_metrics
    assert "ouroscope_corpus_" not in text_of(collector)


@pytest.mark.parametrize(
    ("metric", "unit", "suffix"),
    [
        ("token_entropy", "nats", "_nats"),
        ("type_token_ratio", "ratio", ""),
        ("gini_top100", "1", ""),
        ("effective_tokens", "tokens", ""),
        ("types", "words", "_words"),
    ],
)
def test_a_unit_is_part_of_the_name_unless_it_says_nothing_or_is_there(metric: str, unit: str, suffix: str) -> None:
    assert unit_suffix(metric, unit) == suffix


def full(collector: RunCollector) -> Run:
    """Let everything be shown that there is."""
    verdicts = (ArmVerdict(arm="replace", verdict=Verdict.COLLAPSE, sentence="gone"),)
    run = replace(RUN, verdicts=verdicts, generations_done=1)
    collector.run_changed(RUN)
    collector.run_changed(run)
    collector.generation_examined(run, examined(0, 1))
    collector.stage_took("generate", 2.0)
    return run


def test_promtool_finds_nothing_wrong(collector: RunCollector, program: Callable[[str], str]) -> None:
    full(collector)
    promtool = program("promtool")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text_of(collector), capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
