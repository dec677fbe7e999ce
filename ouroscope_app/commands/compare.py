"""`ouroscope compare`: a verdict on one text beside another."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from ouroscope.records.analysis import Comparison, FamilyEffect, MetricEffect
from ouroscope.records.documents import View
from ouroscope_app.commands.analyze import PARSER_HELP, PROCESSES_HELP, number
from ouroscope_app.home import Home
from ouroscope_app.output import answers, command, print_json
from ouroscope_app.watch import STYLE


@command
def compare(
    baseline: str = typer.Argument(
        help="Human text to compare with: a file, corpus/<digest>, report/<digest>, baselines/NAME."
    ),
    candidate: str = typer.Argument(help="Text to judge, named in the same ways."),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    continuation: bool = typer.Option(False, help="Look only at what follows each document's real prefix."),
    parser: str = typer.Option("en_ouro_sm", help=PARSER_HELP),
    processes: int = typer.Option(1, min=1, help=PROCESSES_HELP),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Say how far a text has moved from a baseline: STABLE, WARNING, COLLAPSE or INSUFFICIENT_DATA, and why.

    Effects are in units of the spread between human sources, positive towards collapse. One comparison says how far;
    whether a drift lasts is for `ouroscope run` and its generations.
    """
    from ouroscope.records.analysis import Policy
    from ouroscope_app.measure import side_named
    from services.analyzer.comparison import compare as judge
    from services.analyzer.spread import shipped_spread
    from services.analyzer.tools import open_tools

    home = Home.find(os.environ)
    view = View.CONTINUATION if continuation else View.WHOLE
    with closing(open_tools(parser, processes)) as tools:
        sides = [side_named(home, name, text_field, view, tools) for name in (baseline, candidate)]
    comparison = judge(sides[0], sides[1], spread=shipped_spread(), policy=Policy())
    if json_:
        print_json(as_json(comparison))
    else:
        _show(comparison)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "verdict": comparison.verdict.value,
        "reason": comparison.reason.value,
        "sentence": comparison.sentence,
        "budget": comparison.budget,
        "novel_token_share": comparison.novel_token_share,
        "families": {family.family.value.lower(): _family_json(family) for family in comparison.families},
        "metrics": {effect.id: _effect_json(effect) for effect in comparison.metrics},
    }


def _family_json(family: FamilyEffect) -> dict[str, Any]:
    return {
        "effect": family.effect,
        "lower": family.lower,
        "upper": family.upper,
        "p_value": family.p_value,
        "metrics": list(family.metrics),
    }


def _effect_json(effect: MetricEffect) -> dict[str, Any]:
    return {
        "baseline": effect.baseline,
        "candidate": effect.candidate,
        "effect": effect.effect,
        "lower": effect.lower,
        "upper": effect.upper,
        "undefined_because": effect.undefined_because,
    }


def _show(comparison: Comparison) -> None:
    answers.print(f"[{STYLE[comparison.verdict]}]{comparison.verdict.value}[/]")
    answers.print(escape(comparison.sentence), soft_wrap=True)
    table = Table("", "effect", "95 % interval", "baseline", "candidate", box=None, pad_edge=False)
    for family in comparison.families:
        between = f"{family.lower:+.2f} to {family.upper:+.2f}"
        table.add_row(f"[bold]{family.family.value.lower()}[/]", f"{family.effect:+.2f}", between, "", "")
    for effect in comparison.metrics:
        if effect.effect is not None:
            table.add_row(*_row(effect))
    if table.row_count:
        answers.print(table)


def _row(effect: MetricEffect) -> tuple[str, ...]:
    bounds = (effect.lower, effect.upper)
    between = "" if None in bounds else f"{effect.lower:+.2f} to {effect.upper:+.2f}"
    values = ("" if value is None else number(value) for value in (effect.baseline, effect.candidate))
    return (f"  {effect.id}", f"{effect.effect:+.2f}", between, *values)
