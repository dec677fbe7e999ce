"""Tables that never cut a value: what does not fit loses its last columns, and wraps when only the first ones are left.

In a pipe or file there is no width to fit, so everything is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table


def fitting(console: Console, make: Callable[[int], Sequence[Table]], most: int, fewest: int) -> Sequence[Table]:
    """Return the tables that `make` makes of as many columns as fit side by side, so all have the same columns.

    Args:
        console: where they will be shown.
        make: returns the tables with that many columns.
        most: columns of the whole tables.
        fewest: columns that are always shown.
    """
    for columns in range(most, fewest, -1):
        tables = make(columns)
        if all(_width(console, table) <= console.width for table in tables):
            return tables
    return make(fewest)


def table(headings: Sequence[str], numbers: frozenset[str]) -> Table:
    """Return an empty table; the columns whose headings are in `numbers` are flush right."""
    empty = Table(box=None, pad_edge=False)
    for heading in headings:
        empty.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    return empty


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=console.width * 10)).maximum


def number(value: float) -> str:
    """Write a value with four significant digits.

    >>> number(12345.6), number(0.123456)
    ('12,346', '0.1235')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def between(lower: float | None, upper: float | None, write: Callable[[float], str] = number) -> str:
    """Write an interval; empty where there is none.

    >>> between(0.5, 1200.0), between(None, None)
    ('0.5 to 1,200', '')
    """
    return "" if lower is None or upper is None else f"{write(lower)} to {write(upper)}"
