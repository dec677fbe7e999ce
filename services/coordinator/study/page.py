"""The page of a study: one file, nothing loaded from anywhere, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import ouroscope
from services.coordinator.report import page, words
from services.coordinator.report.arms import protocol_of
from services.coordinator.report.lines import Series, Spot, chart_of_lines
from services.coordinator.report.sections import SIGNS, Chart
from services.coordinator.report.svg import figure, look, mark
from services.coordinator.report.tables import Table
from services.coordinator.study import matrix, severity, tidy
from services.coordinator.study.view import Mean, Part, Study, label, mean_of, trained_share, values_at

TEMPLATES = Path(__file__).parent / "templates"
MOST_LINES = 12
"""Lines in one chart: with more, every run has charts of its own on its own page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An entry of a legend."""

    name: str
    style: str
    mark: Markup


def render_study(study: Study, title: str) -> str:
    """Return the page as HTML."""
    return page.readable(_environment().get_template("study.html").render(_context(study, title)))


@cache
def _environment() -> jinja2.Environment:
    return page.environment(TEMPLATES)


def _context(study: Study, title: str) -> dict[str, Any]:
    compared = severity.metric_panels(study)
    return {
        "style": Markup(page.style()),  # our own file
        "title": title,
        "ouroscope_version": ouroscope.__version__,
        "runs": [(part.name, page.STATES[part.view.run.state], _amount(part)) for part in study.parts],
        "left_out": study.left_out,
        "groups": [_key(place, group) for place, group in enumerate(severity.groups_of(study))],
        "severity": [*severity.family_panels(study), *compared],
        "severity_table": _severity_table(study, compared),
        "lines": _line_charts(study),
        "arms": [_key(place, name) for place, name in enumerate(_arm_names(study))],
        "verdicts": _verdict_table(study),
        "matrix": matrix.matrix_tables(study),
        "selections": _selection_table(study),
        "budget": study.budget,
        "mixed_budgets": _mixed_budgets(study),
    }


def _mixed_budgets(study: Study) -> str:
    """Say that text is measured on different amounts of words, if it is: diversity depends on size."""
    told = [amount for part in study.parts if (amount := _measured_on(part))]
    if study.budget is not None or not told:
        return ""
    return (
        f"Text and networks are measured on {'; '.join(told)}, since no amount is reached by all: compare an arm with "
        "its control, not arms of different lengths. What models expect has no such limit."
    )


def _measured_on(part: Part) -> str:
    """Return on how many words the texts of a run are measured; nothing where it has none."""
    measured = [p.report.rungs[-1].budget for p in part.view.points if p.report and p.report.rungs]
    if not measured:
        return ""
    least, most = min(measured), max(measured)
    return f"{least:,} words in {part.name}" if least == most else f"{least:,} to {most:,} words in {part.name}"


def _amount(part: Part) -> str:
    spec = part.spec
    seeds = f"{spec.seeds} seeds" if spec.seeds > 1 else "1 seed"
    return (
        f"{len(spec.arms)} arms, {seeds}, {spec.generations} generations of {spec.documents} documents of "
        f"{spec.document_tokens} tokens, {spec.recipe.steps} steps each, {spec.model}"
    )


def _key(place: int, name: str) -> Key:
    style, shape = look(place)
    return Key(name=name, style=style, mark=mark(shape, 13, 6, 4, class_=f"mark {style}"))


def _arm_names(study: Study) -> list[str]:
    names = [label(study, part, arm.name) for part, arm in study.arms]
    return names if len(names) <= MOST_LINES else []


def _severity_table(study: Study, compared: Sequence[severity.Panel]) -> Table | None:
    shown = [{spot.name: written(spot.severity) for spot in panel.spots} for panel in compared]
    rows = []
    for part, arm in study.arms:
        name = label(study, part, arm.name)
        rows.append((name, f"{trained_share(part, arm):.0%}", *(column.get(name, "not compared") for column in shown)))
    head = ("Arm", "synthetic", *(panel.name for panel in compared))
    title = "Difference from the control at the last generation: mean ± standard error over seeds"
    return Table(title=title, summary="The figures of these charts", head=head, rows=tuple(rows)) if rows else None


def written(mean: Mean) -> str:
    """Return a mean with its standard error."""
    return figure(mean.value) + ("" if mean.error is None else f" ± {figure(mean.error)}")


def _line_charts(study: Study) -> list[Chart]:
    """Return the headline metrics over the generations, where the arms are few enough to be told apart."""
    charts = []
    for info in study.metrics if _arm_names(study) else ():
        series = _series(study, info.id) if info.headline or info.id in severity.METRICS else []
        if series:
            numbers = sorted({spot.number for one in series for spot in one.spots})
            drawing = chart_of_lines(numbers, series, [], words.metric_name(info.id), f"study-{info.id}")
            charts.append(Chart(name=words.metric_name(info.id), note=words.metric_note(info), drawing=drawing))
    return charts


def _series(study: Study, metric: str) -> list[Series]:
    """Return one line for each arm: the mean over seeds, with a band of one standard error."""
    found = []
    for place, (part, arm) in enumerate(study.arms):
        spots = []
        for number in part.view.measured(arm.name):
            mean = mean_of(list(values_at(part.view, arm.name, number, metric).values()))
            if mean is not None:
                spots.append(_spot(number, mean))
        name, (style, shape) = label(study, part, arm.name), look(place)
        found += [Series(name=name, style=style, shape=shape, spots=tuple(spots))] if spots else []
    return found


def _spot(number: int, mean: Mean) -> Spot:
    if mean.error is None:
        return Spot(number, mean.value)
    return Spot(number, mean.value, mean.value - mean.error, mean.value + mean.error)


def _verdict_table(study: Study) -> Table | None:
    rows = []
    for part, arm in study.arms:
        verdict = next((one for one in part.view.run.verdicts if one.arm == arm.name), None)
        said = f"{SIGNS[verdict.verdict]} {words.VERDICTS[verdict.verdict]}" if verdict else "not compared"
        rows.append((label(study, part, arm.name), said, f"{arm.real_share:.0%}", protocol_of(arm)))
    head = ("Arm", "verdict", "real prefix", "learns")
    title = "What was said of each arm over its seeds"
    return Table(title=title, head=head, rows=tuple(rows), of_words=True) if rows else None


def _selection_table(study: Study) -> Table | None:
    rows = []
    found = [row for row in tidy.selection_rows(study) if row.side == "chosen"]
    for part, arm in study.arms:
        of_arm = [row for row in found if (row.run, row.arm) == (part.name, arm.name)]
        figures = (_over(of_arm, field) for field in ("human_share", "mean_words", "surplexity_median"))
        rows += [(label(study, part, arm.name), *figures)] if of_arm else []
    head = ("Arm", "human share", "mean words", "median surplexity")
    title = "What was chosen to train on: mean over generations and seeds, first to last generation in brackets"
    return Table(title=title, head=head, rows=tuple(rows)) if rows else None


def _over(rows: list[tidy.SelectionRow], field: str) -> str:
    numbers = sorted({row.generation for row in rows})
    means = [mean_of([v for r in rows if r.generation == j and (v := getattr(r, field)) is not None]) for j in numbers]
    known = [mean.value for mean in means if mean is not None]
    if not known:
        return "not known"
    return f"{figure(sum(known) / len(known))} ({figure(known[0])} to {figure(known[-1])})"
