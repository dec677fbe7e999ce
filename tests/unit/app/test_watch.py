"""A run in the terminal: what is shown of an event, on a terminal and on a plain stream."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from ouroscope.records.analysis import MetricValue, Report, Rung
from ouroscope.records.runs import Generation, RunEvent, RunState
from ouroscope_app.watch import RunView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "runs/r/arms/replace/seeds/0/generations/2"


def report() -> Report:
    text = (MetricValue(id="types", value=1234.0),)
    larger = (MetricValue(id="types", value=9999.0),)
    model = (MetricValue(id="heldout_perplexity", value=99.5), MetricValue(id="gini_top100", undefined_because="none"))
    rungs = (Rung(budget=10_000, clusters=20, metrics=text), Rung(budget=20_000, clusters=20, metrics=larger))
    return Report(analyzer_version="1", rungs=rungs, model_metrics=model)


def finished() -> RunEvent:
    generation = Generation(name=NAME, number=2, state=RunState.SUCCEEDED)
    return RunEvent(run="runs/r", time=NOW, state=RunState.RUNNING, run_done=0.5, finished_generation=generation)


def shown(events: list[RunEvent], terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=160, color_system=None)
    with RunView(console, lambda _: report()) as view:
        for event in events:
            view.show(event)
    return stream.getvalue()


def test_a_plain_stream_gets_one_line_for_each_finished_generation() -> None:
    lines = shown([finished(), finished()], terminal=False).strip().splitlines()
    assert len(lines) == 1
    assert "replace seed 0 generation 2" in lines[0]
    assert "held-out perplexity 99.5" in lines[0]


def test_text_is_always_shown_at_the_smallest_budget_so_that_rows_compare() -> None:
    text = shown([finished()], terminal=False)
    assert "types 1,234" in text
    assert "9,999" not in text


def test_an_undefined_value_is_left_out_and_never_zero() -> None:
    assert "Gini" not in shown([finished()], terminal=False)


def test_a_terminal_gets_the_stage_at_work_and_the_time_left() -> None:
    event = RunEvent(
        run="runs/r",
        time=NOW,
        state=RunState.RUNNING,
        arm="human",
        generation=1,
        stage="fine_tune",
        run_done=0.25,
        seconds_left=125.0,
    )
    text = shown([event], terminal=True)
    assert "human 1 fine-tune" in text
    assert "2 min 05 s left" in text
    assert "25 %" in text
