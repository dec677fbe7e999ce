"""A report in the terminal: what was measured of how much, a table for each family, and why anything is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from ouroscope.records.analysis import Direction, Family, MetricInfo, MetricValue, Report, Rung
from ouroscope_app import columns
from ouroscope_app.output import answers, counted, notes
from ouroscope_app.whole_table import show_whole
from services.analyzer.catalogue import CATALOGUE, METRICS
from services.analyzer.jackknife import GROUPS
from services.analyzer.network.edges import CONSTRUCTIONS
from services.analyzer.sample import LADDER

INFOS: Mapping[str, MetricInfo] = {info.id: info for info in CATALOGUE}
HEADINGS = ("metric", "value", "95 % interval", "unit", "under collapse")
NUMBERS = frozenset({"value", "95 % interval"})
ALWAYS = 3
"""Columns that a narrow terminal shows too: the name, the value and its interval."""
ARROWS = {Direction.RISING: "rises", Direction.FALLING: "falls", Direction.NONE: ""}
_ONCE = frozenset(metric.id for metric in METRICS if metric.largest_rung_only)


def show_report(report: Report) -> None:
    """Print a report: the answer on stdout, what was left out on stderr."""
    for line in head(report):
        answers.print(line)
    families = {family: [v for v in report.metrics if INFOS[v.id].family is family] for family in Family}
    values = [found for found in families.values() if found]
    tables = columns.fitting(answers, lambda count: [_table(found, count) for found in values], len(HEADINGS), ALWAYS)
    for found, table in zip(values, tables, strict=True):
        answers.print(f"\n[bold]{INFOS[found[0].id].family.value.lower()}[/]")
        answers.print(table)
    answers.print()
    for line in (*_undefined(report), *without_interval(report)):
        answers.print(f"[dim]{escape(line)}[/]")
    if report.whole_corpus:
        show_whole(report.whole_corpus)
    if tables and len(tables[0].columns) < len(HEADINGS):
        notes.print("[dim]a wider terminal, or a pipe, has units and directions too[/]")
    for reason, ids in reasons(report).items():
        notes.print(f"[dim]left out, {escape(reason)}: {', '.join(ids)}[/]")


def head(report: Report) -> Iterator[str]:
    """Yield what was measured, and of how many words."""
    texts = counted(report.clusters, "independent cluster")
    yield f"{counted(report.documents, 'document')}, {counted(report.tokens, 'word')}, {texts}"
    if report.rungs:
        yield f"[dim]{_budget(report, report.rungs[-1])}[/]"


def reasons(report: Report) -> dict[str, list[str]]:
    """Return why something was not measured: each reason with what it kept away."""
    every = dict.fromkeys(left.reason for left in report.left_out)
    return {reason: [left.id for left in report.left_out if left.reason == reason] for reason in every}


def without_interval(report: Report) -> Iterator[str]:
    """Yield which values have no interval, and why."""
    bare = [value.id for value in report.metrics if value.value is not None and value.lower is None]
    once = [id for id in bare if id in _ONCE]
    others = [id for id in bare if id not in _ONCE]
    if others and _is_whole(report):
        few = f"and the text has {report.clusters}" if report.clusters < GROUPS else "of about the same length"
        yield f"no intervals: these need {GROUPS} or more independent clusters, {few}"
        return
    if once:
        yield f"no interval, as they are measured once, on the whole network: {', '.join(_short(once))}"
    if others:
        yield f"no interval, as samples of the text do not all have a value: {', '.join(others)}"


def _is_whole(report: Report) -> bool:
    """Return whether all words were measured at once, without groups."""
    return bool(report.rungs) and report.rungs[-1].budget == report.tokens


def _budget(report: Report, rung: Rung) -> str:
    if _is_whole(report):
        return "measured on all of its words"
    every = f"a value is the mean over {GROUPS} samples of that size, which leave out one group each"
    if rung.budget in LADDER:
        return f"measured at {rung.budget:,} words, the largest budget that {GROUPS} equal groups fill; {every}"
    return f"measured at {rung.budget:,} words, all that {GROUPS} equal groups hold; {every}"


def _table(values: Sequence[MetricValue], count: int) -> Table:
    table = columns.table(HEADINGS[:count], NUMBERS)
    for value in values:
        table.add_row(*_row(value, INFOS[value.id])[:count])
    return table


def _row(value: MetricValue, info: MetricInfo) -> tuple[str, ...]:
    name = f"[bold]{value.id}[/]" if info.headline else value.id
    shown = "[dim]undefined[/]" if value.value is None else columns.number(value.value)
    unit = "" if info.unit == "1" else info.unit
    return name, shown, columns.between(value.lower, value.upper), unit, ARROWS[info.direction]


def _undefined(report: Report) -> Iterator[str]:
    said = {value.id: value.undefined_because for value in report.metrics if value.undefined_because}
    for reason in dict.fromkeys(said.values()):
        yield f"undefined, {reason}: {', '.join(id for id in said if said[id] == reason)}"


def _short(ids: Sequence[str]) -> list[str]:
    """Name measures of both networks once."""
    prefixes = tuple(f"{construction}_" for construction in CONSTRUCTIONS)
    return list(dict.fromkeys(id.removeprefix(next(p for p in prefixes if id.startswith(p))) for id in ids))
