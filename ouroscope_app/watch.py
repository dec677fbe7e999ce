"""A run as it goes on, in the terminal: one bar with the time left, one row per finished generation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ouroscope.records.analysis import Comparison, Report, Verdict
from ouroscope.records.runs import Generation, RunEvent
from services.coordinator.report.words import describe, format_seconds

SHOWN = (
    ("heldout_perplexity", "held-out perplexity", ",.1f"),
    ("gini_top100", "Gini top-100", ".4f"),
    ("top1_probability", "top-1", ".3f"),
    ("normalized_entropy_by_tokens", "entropy / ln N", ".4f"),
    ("types", "types", ",.0f"),
)
"""Metric id, heading and format of the columns: two views of the model, three of its text."""

STYLE = {
    Verdict.STABLE: "green",
    Verdict.WARNING: "yellow",
    Verdict.COLLAPSE: "bold red",
    Verdict.INSUFFICIENT_DATA: "dim",
}

ReadReport = Callable[[Generation], Report | None]


class RunView:
    """Shows the events of one run; on a plain stream it writes one line per finished generation instead."""

    def __init__(self, console: Console, read_report: ReadReport) -> None:
        self._console = console
        self._read_report = read_report
        self._rows: dict[str, tuple[Generation, Report | None]] = {}
        self._bar = Progress(
            TextColumn("[bold]{task.fields[doing]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task("run", total=1.0, doing="starting", left="")
        self._live = Live(self._picture(), console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> RunView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._picture())
            self._live.stop()

    async def follow(self, events: AsyncIterator[RunEvent]) -> RunEvent | None:
        """Show `events` until they end; return the last one."""
        last = None
        async for event in events:
            last = event
            self.show(event)
        return last

    def show(self, event: RunEvent) -> None:
        """Take one event into the picture."""
        self._bar.update(
            self._task,
            completed=event.run_done,
            doing=describe(event),
            left=format_seconds(event.seconds_left) if not event.state.ended else event.state.value.lower(),
        )
        if event.finished_generation is not None:
            self._finished(event.finished_generation, event.run_done)
        if self._live:
            self._live.update(self._picture())

    def _finished(self, generation: Generation, run_done: float) -> None:
        if generation.name in self._rows:
            return
        self._rows[generation.name] = (generation, self._read_report(generation))
        if self._live is None:
            self._console.print(self._line(generation, run_done), soft_wrap=True)

    def _line(self, generation: Generation, run_done: float) -> Text:
        report = self._rows[generation.name][1]
        values = ", ".join(f"{heading} {value}" for heading, value in _cells(report) if value)
        place = f"{arm_of(generation)} seed {seed_of(generation)} generation {generation.number}"
        return Text(f"[{run_done:4.0%}] {place}: {values}; {effect_text(generation.comparison)}")

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("arm")
        table.add_column("gen", justify="right")
        for _, heading, _ in SHOWN:
            table.add_column(heading, justify="right")
        table.add_column("effect", justify="right")
        table.add_column("verdict")
        for name in sorted(self._rows, key=_order):
            table.add_row(*self._cells_of(*self._rows[name]))
        return Group(table, Text(""), self._bar) if self._rows else Group(self._bar)

    def _cells_of(self, generation: Generation, report: Report | None) -> list[str | Text]:
        comparison = generation.comparison
        seed = seed_of(generation)
        arm = arm_of(generation) + (f" #{seed}" if seed != "0" else "")
        effect = largest_effect(comparison)
        verdict = Text(comparison.verdict.value, STYLE[comparison.verdict]) if comparison else Text("")
        cells = [value for _, value in _cells(report)]
        return [arm, str(generation.number), *cells, f"{effect:+.2f}" if effect is not None else "", verdict]


def arm_of(generation: Generation) -> str:
    """Return the arm in the name of a generation."""
    return generation.name.split("/")[3]


def seed_of(generation: Generation) -> str:
    """Return the number of the repetition in the name of a generation."""
    return generation.name.split("/")[5]


def largest_effect(comparison: Comparison | None) -> float | None:
    """Return the largest family effect, in units of human spread."""
    return max((family.effect for family in comparison.families), default=None) if comparison else None


def effect_text(comparison: Comparison | None) -> str:
    """Say what the comparison found."""
    return f"{comparison.verdict.value}: {comparison.sentence}" if comparison else "not compared"


def _order(name: str) -> tuple[str, int, int]:
    parts = name.split("/")
    return parts[3], int(parts[5]), int(parts[7])


def _cells(report: Report | None) -> list[tuple[str, str]]:
    # Always the smallest budget: the largest one that a corpus reaches differs from generation to generation.
    measured = (*(report.rungs[0].metrics if report.rungs else ()), *report.model_metrics) if report else ()
    values = {value.id: value.value for value in measured}
    found = [(heading, values.get(metric), form) for metric, heading, form in SHOWN]
    return [(heading, "" if value is None else format(value, form)) for heading, value, form in found]
