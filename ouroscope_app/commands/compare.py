"""`ouroscope compare`: a verdict on one text beside another."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import typer

from ouroscope.canonical import to_plain
from ouroscope.records.analysis import Comparison, FamilyEffect, MetricEffect, Report
from ouroscope.records.documents import View
from ouroscope_app.commands.analyze import ENCODER_HELP, LINES_HELP, PARSER_HELP, PROCESSES_HELP
from ouroscope_app.home import Home
from ouroscope_app.output import command, print_json


@command
def compare(
    baseline: str = typer.Argument(
        help=f"Human text to compare with: a file, corpus/DIGEST, report/DIGEST, baselines/NAME. {LINES_HELP}"
    ),
    candidate: str = typer.Argument(help="Text to judge, named in the same ways."),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    continuation: bool = typer.Option(
        False, "--continuation", help="Look only at what follows each document's real prefix."
    ),
    parser: str = typer.Option("en_ouro_sm", help=PARSER_HELP),
    encoder: str = typer.Option("none", help=ENCODER_HELP),
    processes: int = typer.Option(1, min=1, help=PROCESSES_HELP),
    explain: int = typer.Option(
        3, min=0, max=50, help="Most concepts and repeated texts that moved to show; 0 shows none."
    ),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Say how far a text has moved from a baseline: STABLE, WARNING, COLLAPSE or INSUFFICIENT_DATA, and why.

    Effects are in human spreads, positive towards collapse: 1 is the standard deviation of a metric between human
    sources at the same number of words. One comparison says how far; whether a drift lasts is for `ouroscope run` and
    its generations.
    """
    from ouroscope.records.analysis import Policy
    from ouroscope_app.comparison_table import show_comparison
    from ouroscope_app.measure import side_named, tools_of
    from services.analyzer.comparison import compare as judge
    from services.analyzer.spread import shipped_spread

    home = Home.find(os.environ)
    view = View.CONTINUATION if continuation else View.WHOLE
    with closing(tools_of(parser, encoder, processes)) as tools:
        ours = side_named(home, baseline, text_field, view, tools)
        theirs = side_named(home, candidate, text_field, view, tools, explained=explain > 0)
    comparison = judge(ours, theirs, spread=shipped_spread(), policy=Policy(), explain=explain)
    if json_:
        print_json(as_json(comparison, ours.report, theirs.report))
    else:
        show_comparison(comparison, (ours, theirs), explain)


def as_json(comparison: Comparison, baseline: Report, candidate: Report) -> dict[str, Any]:
    """Return what `--json` prints: the verdict, both sides, every effect, what moved most."""
    voters = {id for family in comparison.families for id in family.metrics}
    return {
        "verdict": comparison.verdict.value,
        "reason": comparison.reason.value,
        "sentence": comparison.sentence,
        "budget": comparison.budget,
        "baseline": _side_json(baseline),
        "candidate": _side_json(candidate),
        "novel_token_share": comparison.novel_token_share,
        "expected_novel_token_share": comparison.expected_novel_token_share,
        "families": {family.family.value.lower(): _family_json(family) for family in comparison.families},
        "metrics": {effect.id: _effect_json(effect, effect.id in voters) for effect in comparison.metrics},
        "explanation": to_plain(comparison.explanation),
    }


def _side_json(report: Report) -> dict[str, Any]:
    return {"documents": report.documents, "tokens": report.tokens, "clusters": report.clusters}


def _family_json(family: FamilyEffect) -> dict[str, Any]:
    return {
        "effect": family.effect,
        "lower": family.lower,
        "upper": family.upper,
        "p_value": family.p_value,
        "metrics": list(family.metrics),
    }


def _effect_json(effect: MetricEffect, votes: bool) -> dict[str, Any]:
    return {
        "votes": votes,
        "baseline": effect.baseline,
        "candidate": effect.candidate,
        "effect": effect.effect,
        "lower": effect.lower,
        "upper": effect.upper,
        "undefined_because": effect.undefined_because,
    }
