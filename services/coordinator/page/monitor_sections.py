"""What each section of a monitor's page shows, ready for the template. Decides which charts there are; draws none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ouroscope.records.analysis import Explanation, Verdict
from ouroscope.records.monitors import Monitor, MonitorGeneration
from services.coordinator.page.bounds import MOST_GENERATIONS
from services.coordinator.page.monitor_view import WHOLE, MonitorView
from services.coordinator.page.times import moment
from services.coordinator.report import effect_tables, words
from services.coordinator.report.effects import effect_chart, metric_effects_chart
from services.coordinator.report.lines import chart_of_lines
from services.coordinator.report.sections import SIGNS, Chart, Group, Step, Timeline, rule_of_verdicts, step
from services.coordinator.report.svg import figure, mark
from services.coordinator.report.tables import Table
from services.coordinator.report.words import Fact

_MOVERS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The whole, or a domain, in a legend."""

    name: str
    style: str
    mark: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on the whole, or on a domain."""

    name: str
    word: str
    sign: str
    css: str
    sentence: str
    timeline: tuple[Timeline, ...]


def context(view: MonitorView) -> dict[str, Any]:
    """Return everything that the page of a monitor shows."""
    return {
        "headline": headline(view),
        "meta": meta(view.monitor),
        "caution": caution(view),
        "parts": [_part(view, part) for part in view.parts],
        "judged": judged(view),
        "rule": rule_of_verdicts(view.monitor.policy),
        "families": family_charts(view),
        "movers": movers(view),
        "explained": explained(view),
        "groups": metric_groups(view),
        "tables": tables(view),
        "facts": facts(view),
    }


def headline(view: MonitorView) -> str:
    """Return the state of a monitor in a sentence."""
    if view.newest is None:
        return f"“{view.name}” waits for its first generation."
    if view.verdict is None:
        return f"“{view.name}” has its baseline; nothing was compared with it yet."
    return f"{words.deed([f'“{view.name}”'], view.verdict)}."


def meta(monitor: Monitor) -> str:
    """Return how much was recorded, and when last."""
    told = f"{monitor.generations:,} generation{'s' if monitor.generations != 1 else ''}"
    last = monitor.newest.create_time if monitor.newest else None
    return f"{told}, the last one on {moment(last)}" if last else told


def caution(view: MonitorView) -> str | None:
    """Return why the page is not the whole story, or None where it is."""
    told = ["This monitor is paused: it records nothing until it is resumed."] if view.monitor.paused else []
    if view.monitor.generations > len(view.generations):
        told.append(f"This page shows the newest {MOST_GENERATIONS} generations.")
    return " ".join(told) or None


def _part(view: MonitorView, part: str) -> Part:
    style, shape = view.look(part)
    return Part(name=view.label(part), style=style, mark=mark(shape, 13, 6, 4, class_=f"mark {style}"))


def judged(view: MonitorView) -> list[Judged]:
    """Return the verdict of the newest generation, then those of its domains, the gravest first."""
    newest = view.newest
    if newest is None or newest.verdict is None:
        return []
    steps = tuple(step(one.number, one.verdict) for one in view.generations)
    found = [_judged(f"generation {newest.number}", newest.verdict, newest.sentence, steps)]
    for one in newest.domains:
        found.append(_judged(one.domain, one.comparison.verdict, one.comparison.sentence, _steps(view, one.domain)))
    return found[:1] + sorted(found[1:], key=lambda card: words.SEVERITY.index(Verdict(card.css)))


def _steps(view: MonitorView, domain: str) -> tuple[Step, ...]:
    compared = [
        (one.number, next((d.comparison.verdict for d in one.domains if d.domain == domain), None))
        for one in view.generations
    ]
    return tuple(step(number, verdict) for number, verdict in compared)


def _judged(name: str, verdict: Verdict, sentence: str, steps: tuple[Step, ...]) -> Judged:
    return Judged(
        name=name,
        word=words.VERDICTS[verdict],
        sign=SIGNS[verdict],
        css=verdict.value,
        sentence=_without_name(verdict, sentence),
        timeline=(Timeline(seed="", steps=steps),),
    )


def _without_name(verdict: Verdict, sentence: str) -> str:
    """Return the sentence without the word that it begins with: the card says it already."""
    rest = sentence.removeprefix(f"{verdict.value.capitalize()}: ")
    return rest[:1].upper() + rest[1:]


def family_charts(view: MonitorView) -> list[Chart]:
    """Return one chart per family that voted."""
    charts = []
    for family in view.families():
        name, series = words.FAMILIES[family], view.family_series(family)
        drawing = effect_chart(view.numbers, series, view.monitor.policy, name, f"family-{family.value}")
        charts.append(Chart(name=name, note="up is towards collapse; in human spreads", drawing=drawing))
    return charts


def movers(view: MonitorView) -> Chart | None:
    """Return what moved in the newest generation."""
    if view.newest is None or view.newest.comparison is None:
        return None
    effects = [effect for effect in view.newest.comparison.metrics if effect.effect is not None][:_MOVERS]
    title = f"Metrics of generation {view.newest.number}"
    drawing = metric_effects_chart(effects, view.monitor.policy, view.look(WHOLE), title, "movers")
    note = "Beside the baseline, those with the most evidence first. Right is towards collapse; in human spreads."
    return Chart(name=title, note=note, drawing=drawing) if drawing is not None else None


def metric_groups(view: MonitorView) -> list[Group]:
    """Return the charts of the metrics that vote, by family."""
    groups = []
    for family in view.families():
        charts = tuple(chart for metric in view.headline(family) if (chart := _metric(view, metric)))
        if charts:
            name, question = words.FAMILIES[family], words.FAMILY_QUESTIONS[family]
            groups.append(Group(name=name, question=question, charts=charts))
    return groups


def _metric(view: MonitorView, metric: str) -> Chart | None:
    series, baseline = view.metric_series(metric), view.baseline_series(metric)
    if not series:
        return None
    name = words.metric_name(metric)
    drawing = chart_of_lines(view.numbers, series, baseline, name, f"metric-{metric}")
    return Chart(name=name, note="dashed: the baseline", drawing=drawing)


def explained(view: MonitorView) -> list[Table]:
    """Return what moved most in the newest generation, to look at: concepts, repeated texts, prompts."""
    explanation = view.newest.comparison.explanation if view.newest and view.newest.comparison else None
    tables = [_concepts(explanation), _repeated(explanation), _prompts(explanation)] if explanation else []
    return [table for table in tables if table.rows]


def _concepts(explanation: Explanation) -> Table:
    rows = [
        (
            one.label,
            "unknown" if one.baseline_share is None else _share(one.baseline_share),
            _share(one.candidate_share),
        )
        for one in explanation.concepts
    ]
    title = "Concepts whose share of the semantic network grew most"
    return Table(title=title, head=("Concept", "in the baseline", "now"), rows=tuple(rows))


def _repeated(explanation: Explanation) -> Table:
    rows = [(one.text, f"{one.documents:,}", f"{one.clusters:,}") for one in explanation.repeated_texts]
    title = "What the texts repeat most"
    return Table(title=title, head=("Words", "documents", "independent clusters"), rows=tuple(rows))


def _prompts(explanation: Explanation) -> Table:
    rows = [
        (
            one.prompt_id,
            f"{figure(one.baseline_entropy)} → {figure(one.candidate_entropy)}",
            f"{_share(one.baseline_top1)} → {_share(one.candidate_top1)}",
        )
        for one in explanation.prompts
    ]
    title = "Prompts after which the model sees fewest alternatives now"
    head = ("Prompt", "entropy in nats, baseline → now", "probability of the first choice")
    return Table(title=title, head=head, rows=tuple(rows))


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def tables(view: MonitorView) -> list[Table]:
    """Return the figures of every chart, and the generations themselves."""
    series = [(words.FAMILIES[family], one) for family in view.families() for one in view.family_series(family)]
    found = [effect_tables.family_effects(series, view.numbers)] if series else []
    if view.newest and view.newest.comparison and view.newest.comparison.metrics:
        where = f"at generation {view.newest.number}"
        found.append(effect_tables.metric_effects(view.newest.comparison.metrics, where))
    metrics = [metric for family in view.families() for metric in view.headline(family)]
    lines = [(words.metric_name(m), one) for m in metrics for one in (*view.metric_series(m), *view.baseline_series(m))]
    found += [effect_tables.by_generation("Metrics that vote", lines, view.numbers)] if lines else []
    return [*found, _recorded(view)] if view.generations else found


def _recorded(view: MonitorView) -> Table:
    head = ("Generation", "recorded", "verdict", "synthetic share", "description", "report")
    rows = tuple(_row(one) for one in reversed(view.generations))
    return Table(title="Generations, the newest first", summary="Generations as a table", head=head, rows=rows)


def _row(one: MonitorGeneration) -> tuple[str, ...]:
    return (
        str(one.number),
        moment(one.create_time) if one.create_time else "unknown",
        words.VERDICTS[one.verdict] if one.verdict else "not compared",
        "unknown" if one.synthetic_share is None else words.percent(one.synthetic_share),
        one.description or "none",
        one.report.digest[:16] if one.report else "none",
    )


def facts(view: MonitorView) -> list[Fact]:
    """Return what the monitor watches for, in words."""
    monitor, policy = view.monitor, view.monitor.policy
    baseline = f"{monitor.baseline.kind.value} {monitor.baseline.digest[:16]}" if monitor.baseline else None
    domains = words.joined([one.domain for one in monitor.domain_baselines]) if monitor.domain_baselines else None
    return [
        *([Fact("Watches", monitor.description)] if monitor.description else []),
        Fact("Baseline", baseline or "the first generation that is recorded"),
        *([Fact("Domains", f"{domains}, each compared by itself as well")] if domains else []),
        Fact("Margin", f"{policy.margin:g} human spreads; the far bound is {policy.far_bound:g}"),
        Fact("Persistence", f"{policy.persistence} generations in a row beyond the margin are a collapse"),
        *([Fact("Made", moment(monitor.create_time))] if monitor.create_time else []),
    ]
