"""Puts the page together: what the sections show goes through one template that escapes every text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import ouroscope
from ouroscope.records.runs import RunState
from ouroscope_app.report import sections, tables, words
from ouroscope_app.report.lines import reference_series
from ouroscope_app.report.view import RunView

_TEMPLATES = Path(__file__).parent / "templates"
_UNREADABLE = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_STATES = {
    RunState.PENDING: "not yet begun",
    RunState.RUNNING: "going on",
    RunState.SUCCEEDED: "finished",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}


def render_report(view: RunView) -> str:
    """Return the page as HTML: one file, nothing loaded from anywhere, no script."""
    html = _environment().get_template("page.html").render(_context(view))
    # Half of a surrogate pair, or a control character, is not text that a file or a browser can take.
    return html.encode("utf-8", "replace").decode().translate(_UNREADABLE)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(view: RunView) -> dict[str, Any]:
    return {**_frame(view), **_results(view), **_reproduction(view)}


def _frame(view: RunView) -> dict[str, Any]:
    run = view.run
    return {
        "style": Markup((_TEMPLATES / "style.css").read_text("utf-8")),  # our own file
        "name": run.name.removeprefix("runs/"),
        "headline": words.headline(view),
        "state": _STATES[run.state],
        "date": f"{run.create_time:%-d %B %Y}",
        "caution": words.caution(view),
        "arms": sections.arm_cards(view),
        "has_people": any(reference_series(view, info.id) for info in view.metrics if info.headline),
        "facts": words.facts(view),
        "ouroscope_version": ouroscope.__version__,
    }


def _results(view: RunView) -> dict[str, Any]:
    return {
        "verdicts": sections.verdict_cards(view),
        "no_verdict": "Nothing was compared, so nothing is said about collapse.",
        "rule": sections.rule_of_verdicts(view),
        "quality": sections.quality(view),
        "families": sections.family_charts(view),
        "movers": sections.movers(view),
        "budget": view.budget,
        "headline_groups": sections.metric_groups(view, headline=True),
        "lines_note": sections.lines_note(view),
        "differences": tables.difference_tables(view),
        "differences_note": tables.differences_note(view),
        "difference_sentences": tables.difference_sentences(view),
        "histograms": sections.histogram_rows(view),
        "networks": sections.network_rows(view),
        "prompts": sections.sample_prompts(view),
        "other_groups": sections.metric_groups(view, headline=False),
        "tables": tables.figure_tables(view),
        "left_out": tables.left_out(view),
    }


def _reproduction(view: RunView) -> dict[str, Any]:
    file = f"{view.run.spec.name}.yaml"
    return {
        "file": file,
        "command": f"ouroscope run {file}",
        "specification": view.specification.rstrip(),
        "digests": tables.digest_table(view),
        "versions": tables.versions(view),
    }
