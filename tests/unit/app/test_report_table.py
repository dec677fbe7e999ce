"""A report in the terminal: no value is ever cut, and what is missing says why."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ouroscope.records.analysis import LeftOut, MetricValue, Report, Rung
from ouroscope_app import report_table
from ouroscope_app.columns import fitting, table
from ouroscope_app.output import UNLIMITED
from ouroscope_app.report_table import head, reasons, show_report, without_interval

SMALL = MetricValue(id="repetition_4", value=0.00021093, lower=-4.7293e-05, upper=0.00046912, replicates=(0.1,) * 20)
TYPES = MetricValue(id="types", value=5531.45, lower=5394.6, upper=5668.3, replicates=(5531.0,) * 20)
LONG = MetricValue(id="cooccurrence_edge_weight_entropy", value=10.07, lower=10.05, upper=10.1)
BARE = (
    MetricValue(id="cooccurrence_clustering", value=0.5085),
    MetricValue(id="syntactic_clustering", value=0.6225),
    MetricValue(id="syntactic_modularity", value=0.3546),
)
NONE = MetricValue(id="mtld", undefined_because="no word is repeated")


def report(*values: MetricValue, budget: int = 20_000, tokens: int = 24_679, clusters: int = 800) -> Report:
    rungs = (Rung(budget=budget, clusters=clusters, metrics=values),)
    left = (LeftOut(id="vendi_score", reason="no encoder"), LeftOut(id="effective_rank", reason="no encoder"))
    return Report(
        analyzer_version="2", documents=clusters, tokens=tokens, clusters=clusters, rungs=rungs, left_out=left
    )


def shown(monkeypatch: pytest.MonkeyPatch, width: int, *values: MetricValue) -> str:
    stream = io.StringIO()
    monkeypatch.setattr(report_table, "answers", Console(file=stream, width=width, highlight=False))
    monkeypatch.setattr(report_table, "notes", Console(file=stream, width=width, highlight=False))
    show_report(report(*values))
    return stream.getvalue()


@pytest.mark.parametrize("width", [48, 80, 140, UNLIMITED])
def test_no_value_and_no_bound_is_cut_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = shown(monkeypatch, width, TYPES, SMALL)
    assert "…" not in text
    assert all(part in text for part in ("5,531", "5,395 to 5,668", "0.0002109", "-4.729e-05 to 0.0004691"))


def test_a_narrow_terminal_loses_the_last_columns_of_all_tables_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 60, TYPES, LONG)
    assert "under collapse" not in text
    assert "a wider terminal" in text
    assert text.count("95 % interval") == 2


def test_a_pipe_has_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, UNLIMITED, TYPES, LONG)
    assert text.count("under collapse") == 2
    assert "wider" not in text


def test_what_fits_nowhere_is_wrapped_and_whole() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=10)
    made = table(["name", "value"], frozenset({"value"}))
    made.add_row("cooccurrence", "123456789")
    console.print(*fitting(console, lambda _: [made], 2, 2))
    assert "…" not in stream.getvalue()


def test_measures_of_a_whole_network_are_named_once_with_the_reason() -> None:
    (line,) = without_interval(report(TYPES, *BARE))
    assert line == "no interval, as they are measured once, on the whole network: clustering, modularity"


@pytest.mark.parametrize(("clusters", "says"), [(3, "the text has 3"), (40, "about the same length")])
def test_a_text_without_any_interval_says_what_it_lacks(clusters: int, says: str) -> None:
    few = report(MetricValue(id="types", value=8.0), *BARE, budget=9, tokens=9, clusters=clusters)
    (line,) = without_interval(few)
    assert line.startswith("no intervals: these need 20")
    assert says in line


def test_a_text_whose_values_all_have_intervals_says_nothing() -> None:
    assert not list(without_interval(report(TYPES)))


def test_an_undefined_value_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 140, NONE)
    assert "undefined, no word is repeated: mtld" in text


def test_metrics_that_were_left_out_are_joined_by_their_reason() -> None:
    assert reasons(report()) == {"no encoder": ["vendi_score", "effective_rank"]}


@pytest.mark.parametrize(
    ("budget", "says"), [(20_000, "the largest budget"), (7_790, "all that 20"), (24_679, "all of its words")]
)
def test_the_head_says_why_words_are_left_over(budget: int, says: str) -> None:
    assert says in " ".join(head(report(TYPES, budget=budget)))


def test_one_is_not_plural() -> None:
    first, _ = head(report(TYPES, budget=1, tokens=1, clusters=1))
    assert first == "1 document, 1 word, 1 independent cluster"
