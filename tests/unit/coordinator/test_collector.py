"""What Prometheus sees."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ouroscope.records.analysis import Comparison, Verdict
from ouroscope.records.runs import ArmVerdict, DatasetSpec, RunState
from services.coordinator.collector import RunCollector
from services.coordinator.families import unit_suffix
from services.coordinator.metric_book import MetricBook
from services.coordinator.rows import Kept, Measured

from .conftest import NOON, a_run
from .fakes import CATALOGUE, small_spec
from .sightings import RUN, VALUES, compared, examined, show_run

COMPARISON = compared()


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
    book = MetricBook()
    book.know(CATALOGUE)
    return RunCollector(book, grace=300.0, limit=2, clock=clock, unix_time=lambda: 1_767_000_000.0)


def seen(seed: int, number: int, entropy: float | None = 5.0, comparison: Comparison | None = COMPARISON) -> Kept:
    """Return a generation with that entropy."""
    return examined(seed, number, comparison, (Measured(id="token_entropy", value=entropy), *VALUES[1:]))


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
    collector.generation_examined(RUN, seen(0, 3))
    samples = shown(collector)
    assert samples['ouroscope_corpus_token_entropy_nats{arm="replace",run="r"}'] == 5.0
    assert samples['ouroscope_generation{arm="replace",run="r"}'] == 3
    assert not any("yule_k" in name and name.startswith("ouroscope_corpus") for name in samples)


def test_what_was_undefined_is_counted_once_a_generation_and_starts_at_0() -> None:
    book = MetricBook()
    book.know(CATALOGUE)
    collector = RunCollector(book)
    assert counted(book, "yule_k") == counted(book, "token_entropy") == 0
    collector.run_changed(RUN)
    for comparison in (None, COMPARISON):  # shown when it is measured, and again when it is compared
        collector.generation_examined(RUN, seen(0, 0, comparison=comparison))
    assert (counted(book, "yule_k"), counted(book, "token_entropy")) == (1, 0)
    collector.generation_examined(RUN, seen(0, 1))
    assert counted(book, "yule_k") == 2


def test_generations_of_earlier_processes_are_shown_but_not_counted_again() -> None:
    book = MetricBook()
    book.know(CATALOGUE)
    collector = RunCollector(book)
    collector.generation_examined(RUN, seen(0, 0))  # as a board opens a run that goes on
    collector.run_changed(RUN)
    assert counted(book, "yule_k") == 0
    assert shown(collector)['ouroscope_generation{arm="replace",run="r"}'] == 0


def counted(book: MetricBook, metric: str) -> float:
    """Return how often a metric was undefined."""
    families = {family.name: family for family in book.collect()}
    return next(s.value for s in families["ouroscope_metric_undefined"].samples if s.labels["metric"] == metric)


def test_model_values_say_which_text_the_model_was_asked_about(collector: RunCollector) -> None:
    spec = small_spec(dataset=DatasetSpec(source="/some/where/news.jsonl"))
    collector.generation_examined(a_run(spec), seen(0, 1))
    name = 'ouroscope_model_heldout_perplexity{arm="replace",prompts="news.jsonl",run="r"}'
    assert shown(collector)[name] == 261.5


def test_a_value_is_the_mean_over_the_seeds_that_are_at_the_newest_generation(collector: RunCollector) -> None:
    name = 'ouroscope_corpus_token_entropy_nats{arm="replace",run="r"}'
    collector.generation_examined(RUN, seen(0, 1, 4.0))
    collector.generation_examined(RUN, seen(1, 1, 5.0))
    assert shown(collector)[name] == 4.5
    collector.generation_examined(RUN, seen(0, 2, 1.0))
    assert shown(collector)[name] == 1.0


def test_a_replayed_generation_does_not_push_a_newer_one_aside(collector: RunCollector) -> None:
    collector.generation_examined(RUN, seen(0, 2, 1.0))
    collector.generation_examined(RUN, seen(0, 1, 9.0))
    assert shown(collector)['ouroscope_corpus_token_entropy_nats{arm="replace",run="r"}'] == 1.0


def test_effects_and_their_bounds_are_shown_for_metrics_and_families(collector: RunCollector) -> None:
    collector.generation_examined(RUN, seen(0, 1))
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


@pytest.mark.parametrize(
    ("by_seed", "in_a_row"),
    [(("W", "W"), 1), (("WSWW", "WSSW"), 2), (("SWW", "SSS"), 2), (("S", "S"), 0), (("WWS", "WWS"), 0)],
)
def test_warned_generations_are_those_in_a_row_that_half_of_the_seeds_reach(
    collector: RunCollector, by_seed: tuple[str, ...], in_a_row: int
) -> None:
    levels = {"W": COMPARISON, "S": replace(COMPARISON, verdict=Verdict.STABLE)}
    for seed, verdicts in enumerate(by_seed):
        collector.generation_examined(RUN, seen(seed, 0, comparison=None))
        for number, level in enumerate(verdicts, start=1):
            collector.generation_examined(RUN, seen(seed, number, comparison=levels[level]))
    collector.run_changed(replace(RUN, verdicts=(ArmVerdict(arm="replace", verdict=Verdict.WARNING, sentence="x"),)))
    assert shown(collector)['ouroscope_warned_generations{arm="replace",run="r"}'] == in_a_row


def test_an_ended_run_is_shown_for_the_grace_time_and_then_gone(collector: RunCollector, clock: Clock) -> None:
    collector.generation_examined(RUN, seen(0, 1))
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
    collector = RunCollector(MetricBook())
    collector.generation_examined(RUN, seen(0, 1))
    assert "ouroscope_corpus_" not in text_of(collector)


@pytest.mark.parametrize(
    ("metric", "unit", "suffix"),
    [
        ("token_entropy", "nats", "_nats"),
        ("type_token_ratio", "ratio", ""),
        ("gini_top100", "1", ""),
        ("effective_tokens", "tokens", ""),
        ("types", "words", "_words"),
        ("dependency_depth_variance", "steps^2", "_steps_2"),
    ],
)
def test_a_unit_is_part_of_the_name_unless_it_says_nothing_or_is_there(metric: str, unit: str, suffix: str) -> None:
    assert unit_suffix(metric, unit) == suffix


def test_promtool_finds_nothing_wrong(collector: RunCollector, program: Callable[[str], str]) -> None:
    show_run(collector)
    promtool = program("promtool")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text_of(collector), capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
