"""What Prometheus sees of monitors."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ouroscope.records.analysis import Verdict
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.monitors import DomainComparison
from services.coordinator.metric_book import MetricBook
from services.coordinator.monitors.collector import MonitorCollector

from .conftest import NOON
from .fakes import CATALOGUE, made
from .sightings import DAY, VALUES, compared, recorded, show_monitor, watched

START = NOON.timestamp()


@pytest.fixture
def book() -> MetricBook:
    known = MetricBook()
    known.know(CATALOGUE)
    return known


@pytest.fixture
def collector(book: MetricBook) -> MonitorCollector:
    return MonitorCollector(book, limit=2, unix_time=lambda: START)


def shown(collector: MonitorCollector) -> dict[str, float]:
    """Return every sample under its name and labels, without the prefix that all have."""
    lines = [line for line in collector.text().splitlines() if not line.startswith("#")]
    assert all(line.startswith("ouroscope_monitor") for line in lines)
    pairs = (line.removeprefix("ouroscope_monitor_").rsplit(" ", 1) for line in lines)
    return {name: float(value) for name, value in pairs}


def test_a_generation_is_shown_with_values_effects_and_exactly_one_verdict(collector: MonitorCollector) -> None:
    collector.generation_judged(watched(), recorded(3, synthetic_share=0.25), VALUES, 0)
    samples = shown(collector)
    assert samples['corpus_token_entropy_nats{monitor="news"}'] == 5.0
    assert samples['model_heldout_perplexity{monitor="news"}'] == 261.5
    assert samples['generation{monitor="news"}'] == 3
    assert samples['synthetic_ratio{monitor="news"}'] == 0.25
    assert samples['last_success_timestamp_seconds{monitor="news"}'] == START + 3 * 86400
    for suffix, effect, family in (("", 3.0, 2.0), ("_lower", 2.0, 1.5), ("_upper", 4.0, 2.5)):
        assert samples[f'collapse_effect{suffix}{{metric="token_entropy",monitor="news"}}'] == effect
        assert samples[f'collapse_family_effect{suffix}{{family="text",monitor="news"}}'] == family
    verdicts = {name: value for name, value in samples.items() if name.startswith("collapse_verdict")}
    assert [name for name, value in verdicts.items() if value] == ['collapse_verdict{monitor="news",verdict="WARNING"}']
    assert len(verdicts) == 4


def test_what_is_undefined_unknown_or_not_compared_has_no_sample(collector: MonitorCollector) -> None:
    collector.generation_judged(watched(), recorded(0, None), VALUES, 0)
    names = list(shown(collector))
    assert not any(part in name for name in names for part in ("yule_k", "not_in_the_catalogue", "collapse"))
    assert not any(name.startswith("synthetic_ratio") for name in names)
    assert 'generation{monitor="news"}' in names


def test_undefined_values_are_counted_once_and_not_again_after_a_restart(book: MetricBook) -> None:
    collector = MonitorCollector(book, unix_time=lambda: START + 2 * 86400)
    collector.generation_judged(watched(), recorded(1), VALUES, 0)  # recorded by an earlier process
    assert undefined(book) == 0
    for _ in range(2):  # recorded, then judged again
        collector.generation_judged(watched(), recorded(2), VALUES, 0)
    assert undefined(book) == 1


def undefined(book: MetricBook) -> float:
    family = next(one for one in book.collect() if one.name == "ouroscope_metric_undefined")
    return next(sample.value for sample in family.samples if sample.labels["metric"] == "yule_k")


def test_a_monitor_without_a_generation_is_there_with_its_times(collector: MonitorCollector) -> None:
    collector.monitor_changed(watched(generations=0))
    samples = shown(collector)
    assert samples['create_timestamp_seconds{monitor="news"}'] == START
    assert samples['generations{monitor="news"}'] == 0
    assert samples['info{baseline="",description="daily",monitor="news"}'] == 1
    assert not any(name.startswith(("generation{", "last_success", "usual")) for name in samples)


def test_pausing_keeps_what_was_shown(collector: MonitorCollector) -> None:
    collector.generation_judged(watched(), recorded(1), VALUES, 0)
    before = shown(collector)
    collector.monitor_changed(watched(paused=True))
    assert shown(collector) == {**before, 'paused{monitor="news"}': 1.0}


def test_a_deleted_monitor_is_gone_at_once(collector: MonitorCollector) -> None:
    for name in ("news", "wiki"):
        collector.generation_judged(watched(name), recorded(1, monitor=name), VALUES, 0)
    collector.monitor_deleted("monitors/news")
    assert not any('monitor="news"' in name for name in shown(collector))
    assert any('monitor="wiki"' in name for name in shown(collector))


def test_a_change_replaces_what_was_said_before(collector: MonitorCollector) -> None:
    collector.monitor_changed(watched())
    baseline = made(ArtifactKind.BASELINE, "b")
    collector.monitor_changed(watched(description="weekly", baseline=baseline))
    infos = [name for name in shown(collector) if name.startswith("info")]
    assert infos == [f'info{{baseline="{baseline}",description="weekly",monitor="news"}}']


def test_the_usual_interval_is_the_mean_over_all_generations(collector: MonitorCollector) -> None:
    collector.generation_judged(watched(generations=1), recorded(1), VALUES, 0)
    assert not any(name.startswith("usual") for name in shown(collector)), "one says nothing of the next"
    collector.generation_judged(watched(generations=4), recorded(8), VALUES, 0)
    assert shown(collector)['usual_interval_seconds{monitor="news"}'] == 2 * 86400


def test_a_late_generation_is_news_of_the_pipeline_too(collector: MonitorCollector) -> None:
    collector.generation_judged(watched(), recorded(2), VALUES, 0)
    collector.generation_judged(watched(generations=2), recorded(2, judge_time=NOON + 5 * DAY), VALUES, 0)
    assert shown(collector)['last_success_timestamp_seconds{monitor="news"}'] == START + 5 * 86400
    assert shown(collector)['generation{monitor="news"}'] == 2


def test_of_many_monitors_all_show_their_verdict_and_the_last_ones_every_metric(collector: MonitorCollector) -> None:
    for number, name in enumerate(("c", "a", "d", "b")):
        collector.generation_judged(watched(name), recorded(number, monitor=name), VALUES, 0)
    samples = shown(collector)
    assert sum(name.startswith("collapse_verdict") for name in samples) == 16
    assert sum(name.startswith("collapse_family_effect{") for name in samples) == 4
    detailed = {name for name in samples if name.startswith("corpus_")}
    assert detailed == {'corpus_token_entropy_nats{monitor="d"}', 'corpus_token_entropy_nats{monitor="b"}'}
    assert "ouroscope_monitors_suppressed 2.0" in collector.text()


def test_what_was_heard_of_last_does_not_depend_on_the_order_of_the_start(book: MetricBook) -> None:
    order = [recorded(number, monitor=f"m{number}") for number in (3, 1, 4, 0, 2)]
    collector = MonitorCollector(book, limit=2, unix_time=lambda: START)
    for generation in order:
        collector.generation_judged(watched(f"m{generation.number}"), generation, VALUES, 0)
    detailed = {name for name in shown(collector) if name.startswith("corpus_")}
    assert detailed == {f'corpus_token_entropy_nats{{monitor="m{number}"}}' for number in (3, 4)}


def test_domains_have_a_verdict_each(collector: MonitorCollector) -> None:
    domains = tuple(
        DomainComparison(domain=domain, comparison=compared(verdict))
        for domain, verdict in (('say "hi"\n# HELP', Verdict.STABLE), ("wiki", Verdict.COLLAPSE))
    )
    collector.generation_judged(watched(), recorded(1, domains=domains), VALUES, 0)
    families = {family.name: family for family in text_string_to_metric_families(collector.text())}
    samples = families["ouroscope_monitor_domain_collapse_verdict"].samples
    assert {(s.labels["domain"], s.labels["verdict"]) for s in samples if s.value} == {
        ('say "hi"\n# HELP', "STABLE"),
        ("wiki", "COLLAPSE"),
    }


def test_warned_generations_are_told_with_every_verdict(collector: MonitorCollector) -> None:
    collector.generation_judged(watched(), recorded(4), VALUES, 2)
    assert shown(collector)['warned_generations{monitor="news"}'] == 2


def test_before_the_catalogue_is_known_no_value_has_a_wrong_name() -> None:
    book = MetricBook()
    collector = MonitorCollector(book)
    collector.generation_judged(watched(), recorded(1), VALUES, 0)
    assert "ouroscope_monitor_corpus_" not in collector.text()
    book.know(CATALOGUE)
    assert 'ouroscope_monitor_corpus_token_entropy_nats{monitor="news"} 5.0' in collector.text()


def test_both_formats_that_scrapers_ask_for_can_read_it(collector: MonitorCollector) -> None:
    show_monitor(collector)
    collector.generation_judged(watched("wiki"), recorded(1, monitor="wiki"), VALUES, 0)
    plain = {f.name: f.samples for f in text_string_to_metric_families(collector.text())}
    strict = {f.name: f.samples for f in openmetrics.text_string_to_metric_families(collector.text() + "# EOF\n")}
    assert plain == strict
    assert len(plain) > 15


def test_promtool_finds_nothing_wrong(collector: MonitorCollector, program: Callable[[str], str]) -> None:
    show_monitor(collector)
    command = [program("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=collector.text(), capture_output=True, text=True, timeout=30, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
