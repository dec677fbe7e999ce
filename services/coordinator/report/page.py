"""Puts the page together: what the sections show goes through one template that escapes every text."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import ouroscope
from ouroscope.records.runs import RunState
from services.coordinator.report import sections, tables, words
from services.coordinator.report.effect_tables import effect_tables
from services.coordinator.report.lines import reference_series
from services.coordinator.report.texts import text_table
from services.coordinator.report.view import RunView

TEMPLATES = Path(__file__).parent / "templates"
_UNREADABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NO_CATALOGUE = "What is known of metrics has not arrived yet: the analyzer tells it when it answers."
STATES = {
    RunState.PENDING: "not yet begun",
    RunState.RUNNING: "going on",
    RunState.SUCCEEDED: "finished",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}


def render_report(view: RunView) -> str:
    """Return the page as HTML: one file, nothing loaded from anywhere, no script."""
    html = _environment().get_template("page.html").render(_context(view))
    return readable(html)


def results(view: RunView, *, networks: bool = True) -> dict[str, Any]:
    """Return what `results.html` shows: everything that was measured, in the order of the page.

    Networks can be left out: to find places for their concepts takes longer than everything else together.
    """
    drawn = sections.network_rows(view) if networks else []
    return {**_setting(view), **_verdicts(view), **_charts(view), "networks": drawn}


def environment(*folders: Path) -> jinja2.Environment:
    """Return an environment that finds the templates here, and those of `folders`; every text is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader((*folders, TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def readable(html: str) -> str:
    """Return a page without half surrogate pairs and control characters, which no file or browser can take."""
    return _UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", html.encode("utf-8", "replace").decode())


def style() -> str:
    """Return the style sheet of every page."""
    return (TEMPLATES / "style.css").read_text("utf-8")


_environment = cache(environment)


def _context(view: RunView) -> dict[str, Any]:
    return {**_frame(view), **results(view), **_reproduction(view)}


def _frame(view: RunView) -> dict[str, Any]:
    run = view.run
    return {
        "style": Markup(style()),  # our own file
        "name": run.name.removeprefix("runs/"),
        "headline": words.headline(run),
        "state": STATES[run.state],
        "date": f"{run.create_time:%-d %B %Y}",
        "caution": words.caution(view),
        "ouroscope_version": ouroscope.__version__,
    }


def _setting(view: RunView) -> dict[str, Any]:
    return {
        "arms": sections.arm_cards(view),
        "people": "people (the real continuation)" if _has_people(view) else "",
        "facts": words.facts(view),
        "text": text_table(view),
    }


def _has_people(view: RunView) -> bool:
    return any(reference_series(view, info.id) for info in view.metrics if info.headline)


def _verdicts(view: RunView) -> dict[str, Any]:
    return {
        "verdicts": sections.verdict_cards(view),
        "no_verdict": "Nothing was compared, so nothing is said about collapse.",
        "rule": sections.rule_of_verdicts(view.run.spec.policy),
    }


def _charts(view: RunView) -> dict[str, Any]:
    return {
        "quality": sections.quality(view),
        "families": sections.family_charts(view),
        "movers": sections.movers(view),
        "budget": view.budget,
        "no_metrics": "Nothing was measured yet." if view.metrics else _NO_CATALOGUE,
        "headline_groups": sections.metric_groups(view, headline=True),
        "lines_note": sections.lines_note(view),
        "differences": tables.difference_tables(view),
        "differences_note": tables.differences_note(view),
        "difference_sentences": tables.difference_sentences(view),
        "histograms": sections.histogram_rows(view),
        "prompts": sections.sample_prompts(view),
        "other_groups": sections.metric_groups(view, headline=False),
        "tables": [*effect_tables(view), *tables.figure_tables(view)],
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
