"""What the page of a run says of its text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ouroscope.canonical import to_plain
from ouroscope.records.runs import ArmSpec, DatasetSpec, DomainSpec
from ouroscope.store import ArtifactStore
from services.coordinator.dataset.preparing import prepare
from services.coordinator.dataset.texts import Dealt, dealt_of
from services.coordinator.exposition import prompts_label
from services.coordinator.report.page import render_report
from services.coordinator.report.texts import text_table
from tests.report_example import one_seed

from .conftest import a_run
from .domains import quiet, texts_of, write_domain
from .fakes import small_spec

DEALT = (
    Dealt(domain="news", source="hf://owner/<b>name", revision="c" * 40, prompts=12_345, heldout=678, shared=9),
    Dealt(domain="wiki", source="embedded", prompts=10, heldout=2),
)


def test_the_page_tells_of_each_domain_where_it_is_from_and_how_much_of_it_is_held_out() -> None:
    run = one_seed().run
    dataset = DatasetSpec(domains=tuple(DomainSpec(name=one.domain, source=one.source) for one in DEALT))
    view = replace(one_seed(), run=replace(run, spec=replace(run.spec, dataset=dataset)), dealt=DEALT)
    table = text_table(view)
    assert table is not None
    assert table.head == ("Domain", "Source", "Commit", "Prompts", "Held out", "Also elsewhere")
    assert table.rows == (
        ("news", "hf://owner/<b>name", "c" * 12, "12,345", "678", "9"),
        ("wiki", "embedded", "-", "10", "2", "0"),
    )
    html = render_report(view)
    assert "The text of this run" in html
    assert "the domains news and wiki" in html
    assert "hf://owner/&lt;b&gt;name" in html


def test_metrics_of_a_model_name_the_domains_that_it_was_examined_on() -> None:
    dataset = DatasetSpec(domains=tuple(DomainSpec(name=one.domain, source=one.source) for one in DEALT))
    arms = (ArmSpec(name="all", protocol="human"), ArmSpec(name="one", protocol="human", domains=("news",)))
    run = a_run(small_spec(dataset=dataset, arms=arms))
    assert [prompts_label(run, arm) for arm in ("all", "one", None)] == ["news+wiki", "news", "news+wiki"]
    assert prompts_label(a_run(small_spec(dataset=DatasetSpec(source="/some/where/a.jsonl"))), "all") == "a.jsonl"


def test_a_run_that_kept_nothing_of_its_text_shows_no_table() -> None:
    assert text_table(one_seed()) is None
    assert "The text of this run" not in render_report(one_seed())
    assert dealt_of(None) == ()


def test_what_a_page_tells_is_what_was_kept_when_the_text_was_dealt(tmp_path: Path) -> None:
    domains = tuple(write_domain(tmp_path, name, texts_of(n, 500)) for n, name in enumerate("ab"))
    found = prepare(ArtifactStore(str(tmp_path / "s")), small_spec(dataset=DatasetSpec(domains=domains)), quiet)
    assert dealt_of(to_plain(found)) == found.dealt
    assert [one.domain for one in found.dealt] == ["a", "b"]
