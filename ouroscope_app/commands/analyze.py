"""`ouroscope analyze`: measure a text."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from ouroscope.records.analysis import Direction, Family, MetricInfo, MetricValue, Report
from ouroscope.records.documents import View
from ouroscope_app.home import Home
from ouroscope_app.output import answers, command, notes, print_json

if TYPE_CHECKING:
    from services.analyzer.side import Side

ARROWS = {Direction.RISING: "rises", Direction.FALLING: "falls", Direction.NONE: ""}

PARSER_HELP = "spaCy pipeline for lemmas and trees: an installed package, a folder, or none."
PROCESSES_HELP = "Processes that parse; 1 is this one."


@command
def analyze(
    files: list[str] = typer.Argument(
        help="Files (.jsonl .txt .csv .parquet, .gz of these), directories, -, corpus/<digest>."
    ),
    metrics: list[str] = typer.Option([], "--metric", "-m", help="Only this metric; may be given several times."),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    continuation: bool = typer.Option(False, help="Look only at what follows each document's real prefix."),
    parser: str = typer.Option("en_ouro_sm", help=PARSER_HELP),
    processes: int = typer.Option(1, min=1, help=PROCESSES_HELP),
    save: str = typer.Option("", metavar="NAME", help="Keep the numbers as baselines/NAME, without the text."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Measure the diversity of a text: its words, its repetition, its network of concepts.

    All files are measured together as one corpus, at the largest token budget that it reaches, each value with its
    95 % interval. Documents with the same `group` (an article, an author) count as one observation.
    """
    from ouroscope_app.measure import documents_of, measure
    from services.analyzer.tools import open_tools

    home = Home.find(os.environ)
    view = View.CONTINUATION if continuation else View.WHOLE
    with closing(open_tools(parser, processes)) as tools:
        side = measure(documents_of(home, files, text_field), metrics, view, ", ".join(files), tools)
    if save:
        side = _save(home.prepare(), save, side)
    if json_:
        print_json(as_json(side.report))
    else:
        _show(side.report)


def _save(home: Home, name: str, side: Side) -> Side:
    from services.analyzer import baselines, reports

    published = reports.publish(home.store(), side)
    assert published.report.report is not None
    baselines.create(home.store(), name, published.report.report)
    notes.print(f"kept as baselines/{name}; compare with it by `ouroscope compare baselines/{name} FILE`")
    return published


def as_json(report: Report) -> dict[str, Any]:
    """Return what `--json` prints: every metric with its value, interval, unit and direction."""
    infos = _infos()
    return {
        "metrics": {value.id: _value_json(value, infos[value.id]) for value in report.metrics},
        "documents": report.documents,
        "tokens": report.tokens,
        "clusters": report.clusters,
        "budget": report.rungs[-1].budget if report.rungs else 0,
        "parser": report.parser,
        "left_out": {left.id: left.reason for left in report.left_out},
    }


def _value_json(value: MetricValue, info: MetricInfo) -> dict[str, Any]:
    return {
        "value": value.value,
        "lower": value.lower,
        "upper": value.upper,
        "unit": info.unit,
        "direction": info.direction.value,
        "undefined_because": value.undefined_because,
    }


def _infos() -> dict[str, MetricInfo]:
    from services.analyzer.catalogue import CATALOGUE

    return {info.id: info for info in CATALOGUE}


def _show(report: Report) -> None:
    infos = _infos()
    budget = report.rungs[-1].budget if report.rungs else 0
    answers.print(
        f"{report.documents:,} documents, {report.tokens:,} words, {report.clusters:,} independent clusters; "
        f"measured at {budget:,} words",
        soft_wrap=True,
    )
    for family in Family:
        values = [value for value in report.metrics if infos[value.id].family is family]
        if values:
            answers.print(_table(family, values, infos))
    for reason in dict.fromkeys(left.reason for left in report.left_out):
        ids = ", ".join(left.id for left in report.left_out if left.reason == reason)
        notes.print(f"[dim]left out, {reason}: {ids}[/]", soft_wrap=True)


def _table(family: Family, values: list[MetricValue], infos: dict[str, MetricInfo]) -> Table:
    table = Table(box=None, pad_edge=False, title=f"\n{family.value.lower()}", title_justify="left", title_style="bold")
    for heading in ("metric", "value", "95 % interval", "unit", "under collapse"):
        table.add_column(heading, justify="right" if heading in {"value", "95 % interval"} else "left", no_wrap=True)
    for value in values:
        info = infos[value.id]
        name = f"[bold]{value.id}[/]" if info.headline else value.id
        shown = "" if value.value is None else number(value.value)
        between = (
            "" if value.lower is None or value.upper is None else f"{number(value.lower)} to {number(value.upper)}"
        )
        table.add_row(
            name, shown, between or f"[dim]{value.undefined_because or ''}[/]", info.unit, ARROWS[info.direction]
        )
    return table


def number(value: float) -> str:
    """Write a value with four significant digits.

    >>> number(12345.6), number(0.123456)
    ('12,346', '0.1235')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
