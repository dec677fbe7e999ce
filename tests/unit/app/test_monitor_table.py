"""Monitors in the terminal: verdicts and effects over generations, whatever strangers call their things."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from ouroscope.integrations.gateway_logs import Tally
from ouroscope.records.analysis import Verdict
from ouroscope.records.monitors import DomainBaseline, DomainComparison, Monitor, MonitorGeneration
from ouroscope_app import monitor_table
from ouroscope_app.monitor_table import say_what_is_odd, show_generation, show_history, show_log, show_monitors
from tests.unit.app.gate_examples import HOSTILE, REFUSED, WITHIN, WORSE, comparison

RECORDED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
REPORT = REFUSED.decision.report
Shown = Callable[..., str]


def generation(number: int, verdict: Verdict | None, **fields: Any) -> MonitorGeneration:
    said = None if verdict is None else comparison(verdict, WORSE, WITHIN)
    name = f"monitors/news/generations/{number}"
    told = {"create_time": RECORDED, "comparison": said, "verdict": verdict, "sentence": "As it is.", **fields}
    return MonitorGeneration(name=name, number=number, **told)


HISTORY = [
    generation(0, None),
    generation(1, Verdict.STABLE, description=HOSTILE),
    generation(3, Verdict.WARNING, domains=(DomainComparison(domain=HOSTILE, comparison=comparison(Verdict.WARNING)),)),
]
MONITOR = Monitor(
    name="monitors/news", description="writes news", baseline=REPORT, generations=3, newest=HISTORY[-1], paused=True
)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    def show(function: Callable[..., None], *arguments: Any, width: int = 200) -> str:
        stream = io.StringIO()
        for name in ("answers", "notes"):
            monkeypatch.setattr(monitor_table, name, Console(file=stream, width=width, highlight=False))
        function(*arguments)
        return stream.getvalue()

    return show


def test_a_history_has_a_row_for_each_generation_with_verdict_and_effects(shown: Shown) -> None:
    said = shown(show_history, MONITOR, HISTORY)
    rows = [line.split() for line in said.splitlines() if re.match(r"\s+\d ", line)]
    assert [(row[0], row[1]) for row in rows] == [("0", "baseline"), ("1", "STABLE"), ("3", "WARNING")]
    assert "+2.50 (+2.00 to +3.00)" in said
    assert "2026-03-01 12:30" in said


def test_a_family_that_never_voted_has_no_column(shown: Shown) -> None:
    said = shown(show_history, MONITOR, HISTORY)
    assert "network" in said
    assert "embedding" not in said


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_narrow_terminal_still_has_numbers_and_verdicts(shown: Shown, width: int) -> None:
    said = shown(show_history, MONITOR, HISTORY, width=width)
    assert all(verdict in said for verdict in ("baseline", "STABLE", "WARNING"))


def test_the_generation_in_which_it_began_is_told(shown: Shown) -> None:
    newest = generation(4, Verdict.WARNING)
    assert newest.comparison is not None
    begun = replace(newest, comparison=replace(newest.comparison, first_beyond=0))
    assert "first generation beyond the margin: 0" in shown(show_history, MONITOR, [begun])


def test_a_monitor_without_generations_says_how_to_begin(shown: Shown) -> None:
    said = shown(show_history, Monitor(name="monitors/news"), [])
    assert "ouroscope monitors record news 0 FILE" in said
    assert "the first generation becomes it" in said


def test_domains_are_shown_with_their_own_verdicts(shown: Shown) -> None:
    watched = replace(MONITOR, domain_baselines=(DomainBaseline(domain="wiki", baseline=REPORT),))
    assert "domains wiki" in shown(show_history, watched, HISTORY)
    assert re.search(r"domain .*: WARNING", shown(show_generation, HISTORY[-1]))


@pytest.mark.parametrize(
    ("now", "hint"),
    [
        (generation(3, Verdict.WARNING), "recorded before with the same content"),
        (generation(1, Verdict.STABLE), "recorded before with the same content"),
        (generation(2, Verdict.STABLE, create_time=RECORDED + MINUTE), "generation 2 comes after 3"),
        (generation(4, Verdict.WARNING, create_time=RECORDED + MINUTE, report=REPORT), "the same content as 3"),
        (generation(4, Verdict.WARNING, create_time=RECORDED + MINUTE), ""),
    ],
)
def test_a_generation_that_is_repeated_late_or_the_same_again_is_hinted_at(
    shown: Shown, now: MonitorGeneration, hint: str
) -> None:
    before = replace(MONITOR, newest=generation(3, Verdict.WARNING, report=REPORT))
    said = shown(say_what_is_odd, before, now)
    assert hint in said
    assert bool(said) == bool(hint)


def test_the_first_generation_is_never_odd(shown: Shown) -> None:
    assert shown(say_what_is_odd, Monitor(name="monitors/young"), generation(0, None)) == ""


def test_a_list_tells_the_newest_verdict_and_what_is_paused(shown: Shown) -> None:
    said = shown(show_monitors, [MONITOR, Monitor(name="monitors/young")])
    (row,) = (line for line in said.splitlines() if line.startswith("news"))
    assert all(word in row for word in ("WARNING", "3", "paused"))


def test_no_name_of_a_stranger_reaches_the_terminal_as_a_command(shown: Shown) -> None:
    named = replace(MONITOR, description=HOSTILE[:100])
    said = shown(show_history, named, HISTORY) + shown(show_generation, HISTORY[-1])
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", said)


def test_what_a_log_did_not_give_is_told_with_its_reason(shown: Shown) -> None:
    tally = Tally(lines=10, documents=7)
    tally.left_out["not JSON"] = 3
    assert shown(show_log, "gateway.jsonl", tally) == (
        "gateway.jsonl: 7 completions in 10 lines; left out: 3 not JSON\n"
    )
