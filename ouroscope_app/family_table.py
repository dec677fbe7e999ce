"""Families and what moved, in the terminal: how the gate and the monitors show one comparison in few lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.table import Table

from ouroscope.records.analysis import Comparison, Verdict
from ouroscope_app import columns
from ouroscope_app.explaining import MOST, moved
from ouroscope_app.standing import Standing, standings

STYLE = {Standing.WORSE: "bold red", Standing.WITHIN: "green", Standing.UNCLEAR: "yellow", Standing.SILENT: "dim"}


def family_table(comparison: Comparison) -> Table:
    """Return a row for each family: its effect in human spreads, and where it stands."""
    numbers = ("effect", f"{100 * comparison.policy.confidence:g} % interval")
    table = columns.table(("family", *numbers, ""), frozenset(numbers))
    for one in standings(comparison):
        effect = one.effect
        size = f"{effect.effect:+.2f}" if effect else ""
        between = f"{effect.lower:+.2f} to {effect.upper:+.2f}" if effect else ""
        table.add_row(one.name, size, between, f"[{STYLE[one.standing]}]{one.words}[/]")
    return table


def what_moved(comparison: Comparison, most: int = MOST) -> Iterator[str]:
    """Yield up to `most` concepts, texts and prompts that moved most, below a heading for each kind.

    Of a text that is STABLE nothing is told: something always moved, and it would look like a reason.
    """
    if comparison.verdict is Verdict.STABLE:
        return
    for heading, found in groupby(moved(comparison.explanation, most), key=lambda one: one.heading):
        yield f"\n{heading}:"
        for one in found:
            yield f"  {one.quoted}  ({one.said})"
