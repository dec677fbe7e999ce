"""The cross-dataset matrix: what a loop on one domain does to a model's way with every domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ouroscope.records.analysis import Direction
from services.coordinator.report import words
from services.coordinator.report.svg import figure
from services.coordinator.report.tables import Table, signed
from services.coordinator.report.view import value_of
from services.coordinator.study.view import Across, Mean, Part, Study, label, mean_of, paired

METRICS = (
    "gini_top100",
    "top1_probability",
    "collapsed_90",
    "next_token_entropy",
    "heldout_perplexity",
    "token_entropy",
    "types",
    "cooccurrence_nodes",
    "cooccurrence_edges",
)
"""Next-token, text and network measures; those of text and networks need `evaluation.across_documents`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm on one domain."""

    arm: str
    trained_on: str
    domain: str
    metric: str
    generation: int
    change: Mean
    """Value at `generation` minus value at the first generation that was examined, seed by seed."""
    direction: Direction


def cells(study: Study, metrics: Sequence[str] = METRICS) -> list[Cell]:
    """Return every cell of the matrix that was measured at two generations."""
    found = []
    for part in study.parts:
        for arm in part.spec.arms:
            domains = list(dict.fromkeys(one.domain for one in part.across if one.arm == arm.name))
            for metric in metrics:
                for domain in domains:
                    cell = _cell(study, part, arm.name, ", ".join(arm.domains) or "all", domain, metric)
                    found += [cell] if cell else []
    return found


def _cell(study: Study, part: Part, arm: str, trained_on: str, domain: str, metric: str) -> Cell | None:
    examined = [one for one in part.across if one.arm == arm and one.domain == domain]
    numbers = sorted({one.number for one in examined})
    if len(numbers) < 2:
        return None
    first, last = (_by_seed(examined, number, metric) for number in (numbers[0], numbers[-1]))
    change = mean_of(paired(last, first))
    if change is None:
        return None
    return Cell(
        arm=label(study, part, arm),
        trained_on=trained_on,
        domain=domain,
        metric=metric,
        generation=numbers[-1],
        change=change,
        direction=study.info(metric).direction,
    )


def _by_seed(examined: Sequence[Across], number: int, metric: str) -> dict[int, float]:
    found = {one.seed: value_of(one.report, metric) for one in examined if one.number == number}
    return {seed: bounded[0] for seed, bounded in found.items() if bounded is not None}


def matrix_tables(study: Study) -> list[Table]:
    """Return one table per metric: a row per arm, a column per domain it was examined on."""
    found = cells(study)
    tables = []
    for metric in METRICS:
        of_metric = [cell for cell in found if cell.metric == metric]
        if of_metric:
            tables.append(_table(metric, of_metric))
    return tables


def _table(metric: str, found: Sequence[Cell]) -> Table:
    domains = tuple(dict.fromkeys(cell.domain for cell in found))
    rows = []
    for arm, trained_on in dict.fromkeys((cell.arm, cell.trained_on) for cell in found):
        at = {cell.domain: cell for cell in found if cell.arm == arm}
        rows.append((f"{arm} (learns from {trained_on})", *(_written(at.get(domain)) for domain in domains)))
    direction = words.direction_note(found[0].direction)
    return Table(
        title=f"{words.metric_name(metric)}: change since generation 0, on held-out text of each domain; {direction}",
        summary=words.metric_name(metric),
        head=("Arm", *domains),
        rows=tuple(rows),
    )


def _written(cell: Cell | None) -> str:
    if cell is None:
        return "not measured"
    error = "" if cell.change.error is None else f" ± {figure(cell.change.error)}"
    return f"{signed(cell.change.value)}{error}"
