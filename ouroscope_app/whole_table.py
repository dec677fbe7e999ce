"""Counts of a whole corpus in the terminal: what was counted exactly, and what lies between which bounds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from ouroscope.records.analysis import Count, WholeCorpus
from ouroscope_app import columns
from ouroscope_app.output import answers
from ouroscope_app.printable import printable

HEADINGS = ("of the whole text", "value", "counted", "bounds", "they hold")
NUMBERS = frozenset({"value", "bounds", "they hold"})
ALWAYS = 4
FREQUENT = 5
"""Words and edges that a terminal shows; JSON has all."""


def show_whole(whole: WholeCorpus) -> None:
    """Print the counts on stdout."""
    rows = [
        *_rows("", whole.distinct),
        *_rows("", whole.document_lengths),
        *_rows("word: ", whole.frequent_words[:FREQUENT]),
        *_rows("edge: ", whole.frequent_edges[:FREQUENT]),
    ]
    for table in columns.fitting(answers, lambda count: [_table(rows, count)], len(HEADINGS), ALWAYS):
        answers.print(table)
    answers.print()


def _rows(kind: str, counts: Sequence[Count]) -> list[tuple[str, ...]]:
    return [_row(kind, count) for count in counts]


def _row(kind: str, count: Count) -> tuple[str, ...]:
    name = escape(kind + printable(count.id, 64))
    if not count.approximate:
        return name, _whole(count.value), "exactly", "", ""
    sure = "always" if count.confidence == 1 else f"{count.confidence:.0%} of times"
    return name, _whole(count.value), "about", columns.between(count.lower, count.upper, _whole), sure


def _whole(value: float) -> str:
    """Write a number that was counted, to its last digit."""
    return f"{value:,.0f}"


def _table(rows: Sequence[tuple[str, ...]], count: int) -> Table:
    table = columns.table(HEADINGS[:count], NUMBERS)
    for row in rows:
        table.add_row(*row[:count])
    return table
