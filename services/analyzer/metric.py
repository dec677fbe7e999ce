"""What a metric is, and the kinds of metrics there are: each kind knows where its summaries come from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ouroscope.records.analysis import Direction, Family, MetricInfo
from services.analyzer.measured import MeasuredRung
from services.analyzer.modelled import ModelSample
from services.analyzer.parsing.parsed import Need


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How one metric is measured: `sheet`, its data sheet, turns a summary into a value; `take` gets the summaries."""

    id: str
    family: Family
    unit: str
    direction: Direction
    sheet: Callable[[Any], float]
    take: Callable[[Any], Iterable[Any]]
    """From a MeasuredRung, or from a ModelSample for the model family: one summary for each replicate."""
    headline: bool = False
    mean_over_groups: bool = False
    """Whether `take` gives a summary for each group, whose values are averaged over the groups of a replicate."""
    largest_rung_only: bool = False
    """Whether it is measured once, on the whole sample of the largest rung, without an interval."""
    bounds: Callable[[Any], tuple[float, float] | None] = lambda _: None
    """The 95 % interval of a summary that has one by itself, where there are no replicates."""
    needs: frozenset[Need] = frozenset()
    """What must be made of the text before it can be measured."""
    definition: int = 1
    """Raised when the same text would get another value; values of two definitions are not compared."""
    summary: str = ""
    """One line of explanation, where the sheet serves several metrics; else the first line of the sheet is."""

    def info(self) -> MetricInfo:
        """Return its entry in the catalogue that callers see."""
        return MetricInfo(
            id=self.id,
            family=self.family,
            unit=self.unit,
            direction=self.direction,
            headline=self.headline,
            summary=self.summary or summary_of(self.sheet),
            definition=self.definition,
        )


def sheet_text(sheet: Callable[..., object]) -> str:
    """Return a data sheet as a statement about the metric; docstrings are about the function."""
    text = inspect.cleandoc(sheet.__doc__ or "").removeprefix("Return ")
    return text[:1].upper() + text[1:]


def summary_of(sheet: Callable[..., object]) -> str:
    """Return the first line of a data sheet."""
    return sheet_text(sheet).partition("\n")[0]


def of_text(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[MeasuredRung], Iterable[Any]],
    **more: Any,
) -> Metric:
    """Return a metric of the words and documents of a rung."""
    return Metric(id=id, family=Family.TEXT, unit=unit, direction=direction, sheet=sheet, take=take, **more)


def of_words(id: str, unit: str, direction: Direction, sheet: Callable[[Any], float], **more: Any) -> Metric:
    """Return a metric of how often words occur."""
    return of_text(id, unit, direction, sheet, lambda rung: rung.spectra, **more)


def of_shape(name: str, unit: str, direction: Direction, sheet: Callable[[Any], float], **more: Any) -> Metric:
    """Return a measure of the spectra of any network."""
    return Metric(
        id=name,
        family=Family.NETWORK,
        unit=unit,
        direction=direction,
        sheet=sheet,
        take=lambda network: network.shapes,
        **more,
    )


def of_structure(name: str, unit: str, sheet: Callable[[Any], float], **more: Any) -> Metric:
    """Return a measure of the whole of any network, taken once."""
    return Metric(
        id=name,
        family=Family.NETWORK,
        unit=unit,
        direction=Direction.NONE,
        sheet=sheet,
        take=lambda network: [network.graph],
        largest_rung_only=True,
        **more,
    )


def of_model(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[ModelSample], Iterable[Any]],
    **more: Any,
) -> Metric:
    """Return a metric of what a model expects."""
    return Metric(id=id, family=Family.MODEL, unit=unit, direction=direction, sheet=sheet, take=take, **more)


def of_prompts(
    id: str, unit: str, direction: Direction, sheet: Callable[[Any], float], column: str, **more: Any
) -> Metric:
    """Return a metric of one column of the next-token records."""
    return of_model(id, unit, direction, sheet, lambda known: known.prompts.ratios(column), **more)


def of_trees(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[MeasuredRung], Iterable[Any]],
    *more: Need,
) -> Metric:
    """Return a metric of the trees of sentences; `more` is what it needs beside them."""
    needs = frozenset({Need.TREE, *more})
    return Metric(id=id, family=Family.TEXT, unit=unit, direction=direction, sheet=sheet, take=take, needs=needs)


def of_embedding(
    id: str, unit: str, sheet: Callable[[Any], float], take: Callable[[MeasuredRung], Iterable[Any]]
) -> Metric:
    """Return a metric of the vectors of documents."""
    return Metric(
        id=id,
        family=Family.EMBEDDING,
        unit=unit,
        direction=Direction.FALLING,
        sheet=sheet,
        take=take,
        headline=True,
        needs=frozenset({Need.EMBEDDING}),
    )
