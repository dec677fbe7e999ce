"""The figures behind the charts as tables: for those who cannot see the charts, and for those who want the digits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from ouroscope.records.analysis import Family
from ouroscope.records.artifacts import ArtifactRef
from services.coordinator.report import differences, words
from services.coordinator.report.differences import Difference, Row
from services.coordinator.report.lines import Series, Spot, metric_series, reference_series
from services.coordinator.report.svg import figure
from services.coordinator.report.view import Point, RunView
from services.coordinator.report.words import Fact

_MINUS = "\N{MINUS SIGN}"
_MARKS = {
    "worse": ("▲", "beyond 0, towards collapse"),
    "better": ("▽", "beyond 0, away from collapse"),
    "beyond": ("◆", "beyond 0"),
    "open": ("", "0 is inside the interval"),
    "single": ("", "one seed, no interval"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of text; the first cell of a row names it."""

    title: str
    summary: str = ""
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    of_words: bool = False
    """Whether cells are read, not compared: they begin at the left and break into lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One difference, written."""

    mean: str
    bounds: str
    sign: str
    word: str
    css: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """The differences of one metric."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceTable:
    """The differences between two arms."""

    title: str
    numbers: tuple[int, ...]
    rows: tuple[DifferenceRow, ...]


def difference_tables(view: RunView) -> list[DifferenceTable]:
    """Return one table per arm that has a control."""
    tables = []
    by_pair: dict[tuple[str, str], list[Row]] = {}
    for row in differences.rows(view):
        by_pair.setdefault((row.arm, row.control), []).append(row)
    for (arm, control), found in by_pair.items():
        numbers = tuple(sorted({cell.number for row in found for cell in row.cells}))
        title = f"“{arm}” minus “{control}”, by generation"
        rows = tuple(_difference_row(row, numbers) for row in found)
        tables.append(DifferenceTable(title=title, numbers=numbers, rows=rows))
    return tables


def _difference_row(row: Row, numbers: Iterable[int]) -> DifferenceRow:
    by_number = {cell.number: cell for cell in row.cells}
    cells = tuple(_difference_cell(by_number.get(number)) for number in numbers)
    return DifferenceRow(name=words.metric_name(row.metric), cells=cells)


def _difference_cell(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell(mean="not measured", bounds="", sign="", word="", css="")
    sign, word = _MARKS[difference.mark]
    bounds = ""
    if difference.lower is not None and difference.upper is not None:
        bounds = f"{signed(difference.lower)} to {signed(difference.upper)}"
    return Cell(mean=signed(difference.mean), bounds=bounds, sign=sign, word=word, css=difference.mark)


def signed(value: float) -> str:
    """Return a figure with its sign.

    >>> signed(0.1234), signed(0.0)
    ('+0.123', '0')
    """
    return ("+" if value > 0 else _MINUS if value < 0 else "") + figure(abs(value))


def differences_note(view: RunView) -> str:
    """Say how the differences were got."""
    if view.run.spec.seeds == 1:
        return (
            "Differences of one seed: they show what happened here, not what would happen again. With two seeds or "
            "more (seeds: 3) an interval over independent repetitions stands beside each."
        )
    return (
        "Mean over the seeds with its 95 % t-interval; seeds are independent repetitions, paired between the arms. "
        "▲ the interval lies beyond 0, towards collapse; ▽ beyond 0, away from it; no sign: 0 is inside."
    )


def difference_sentences(view: RunView) -> list[str]:
    """Say for each metric in which generations the difference is beyond 0; that there is none is said as plainly."""
    if view.run.spec.seeds == 1:
        return []
    return [_difference_sentence(row) for row in differences.rows(view)]


def _difference_sentence(row: Row) -> str:
    name = f"{words.metric_name(row.metric)}, “{row.arm}” against “{row.control}”"
    better = [cell.number for cell in row.cells if cell.mark == "better"]
    if row.worse:
        return f"{name}: beyond 0 towards collapse in {words.numbers_told(row.worse)}."
    if better:
        return f"{name}: beyond 0 away from collapse in {words.numbers_told(better)}."
    return f"{name}: no generation shows a difference beyond 0."


def figure_tables(view: RunView) -> list[Table]:
    """Return the figures of every chart, one table per family."""
    return [table for family in Family if (table := _family_table(view, family))]


def _family_table(view: RunView, family: Family) -> Table | None:
    rows = []
    for info in view.metrics:
        if info.family is family:
            for series in (*metric_series(view, info.id), *reference_series(view, info.id)):
                rows.append((f"{words.metric_name(info.id)}, {series.name}", *_figures(view, series)))
    if not rows:
        return None
    name = words.FAMILIES[family]
    return Table(
        title=f"{name}: value and 95 % interval, by generation",
        summary=f"{name}: all figures as a table",
        head=("Metric", *map(str, view.numbers)),
        rows=tuple(rows),
    )


def _figures(view: RunView, series: Series) -> list[str]:
    spots = {spot.number: spot for spot in series.spots}
    return [written(spots.get(number)) for number in view.numbers]


def written(spot: Spot | None) -> str:
    """Return a value with its interval, in words where there is none."""
    if spot is None:
        return "not measured"
    if spot.lower is None or spot.upper is None:
        return figure(spot.value)
    return f"{figure(spot.value)} ({figure(spot.lower)} to {figure(spot.upper)})"


def left_out(view: RunView) -> list[Fact]:
    """Return the metrics that have no value, with the reason; a metric is named once."""
    found: dict[str, str] = {}
    for point in view.points:
        for one in point.report.left_out if point.report else ():
            found.setdefault(one.id, one.reason)
        for value in point.report.metrics if point.report else ():
            if value.undefined_because is not None:
                where = f"{point.arm}, generation {point.number}: {value.undefined_because}"
                found.setdefault(value.id, where)
    return [Fact(words.metric_name(metric), reason) for metric, reason in found.items()]


def digest_table(view: RunView) -> Table:
    """Return what each generation is made of, by digest."""
    return Table(
        title="First 16 digits of the digest of each artifact",
        head=("Arm, seed, generation", "model", "corpus", "report"),
        rows=tuple(_digests(point) for point in view.points),
    )


def _digests(point: Point) -> tuple[str, ...]:
    generation = point.generation
    refs: tuple[ArtifactRef | None, ...] = (generation.model, generation.corpus, generation.report)
    return f"{point.arm}, {point.seed}, {point.number}", *(ref.digest[:16] if ref else "none" for ref in refs)


def versions(view: RunView) -> list[Fact]:
    """Return what computed this, and how long each stage took."""
    reports = [point.report for point in view.points if point.report]
    facts = [Fact(name, version) for name, version in view.versions.items()]
    facts += _told("analyzer", {report.analyzer_version for report in reports})
    facts += _told("parser", {report.parser for report in reports if report.parser})
    seconds: dict[str, list[float]] = {}
    for point in view.points:
        for stage in point.generation.stages:
            seconds.setdefault(stage.stage, []).append(stage.seconds)
    return facts + [
        Fact(stage.replace("_", " "), f"{sum(times):,.1f} s in all, {fmean(times):.1f} s per generation")
        for stage, times in seconds.items()
    ]


def _told(name: str, values: set[str]) -> list[Fact]:
    return [Fact(name, ", ".join(sorted(values)))] if values else []
