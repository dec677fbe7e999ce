"""A comparison in the terminal: the verdict, what it rests on, and the effects of each family, strongest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from ouroscope.records.analysis import Comparison, Family, FamilyEffect, MetricEffect, Report, VerdictReason
from ouroscope_app import columns
from ouroscope_app.family_table import what_moved
from ouroscope_app.output import answers, counted, notes
from ouroscope_app.report_table import INFOS
from ouroscope_app.watch import STYLE
from services.analyzer.side import Side

SIDES = ("baseline", "candidate")
HEADINGS = ("", "effect", "95 % interval", *SIDES)
NUMBERS = frozenset(HEADINGS[1:])
ALWAYS = 3
WIDEST = 2.0
"""Human spreads to either side; a metric without a vote whose interval is wider says nothing and is not shown."""
SPREAD = (
    "Effects are in human spreads, and above 0 is worse: 1 is the standard deviation of that metric between human "
    "sources at the same number of words."
)
ORDER = "* votes: a family is the mean of its voters. Strongest evidence of an effect beyond the margin first."


def show_comparison(comparison: Comparison, sides: Sequence[Side], most: int = 0) -> None:
    """Print a comparison of a baseline and a candidate, with up to `most` of each kind of what moved."""
    answers.print(f"[{STYLE[comparison.verdict]}]{comparison.verdict.value}[/]")
    answers.print(f"{escape(comparison.sentence)}\n")
    for line in basis(comparison, sides):
        answers.print(line)
    if any(effect.effect is not None for effect in comparison.metrics):
        _show_effects(comparison, sides)
    for line in what_moved(comparison, most):
        answers.print(escape(line))


def basis(comparison: Comparison, sides: Sequence[Side]) -> Iterator[str]:
    """Yield how much text the two sides have, what was compared of it, and whether they are of one domain."""
    for name, side in zip(SIDES, sides, strict=True):
        yield f"{name}: {_amount(side.report)}"
    if comparison.budget:
        yield f"compared at {comparison.budget:,} words, the largest budget that both reach"
    share, expected = comparison.novel_token_share, comparison.expected_novel_token_share
    if share is not None and expected is not None:
        most = f"{100 * comparison.policy.max_novel_token_share:g}"
        yield (
            f"{share:.1%} of the candidate's words never occur in the baseline, {expected:.1%} are expected within one "
            f"domain; more than {most} points above that is another domain"
        )


def notes_on(comparison: Comparison, sides: Sequence[Side]) -> Iterator[str]:
    """Yield what the table does not show: families that do not vote in full, p-values, effects that say nothing."""
    heard = {family.family: family for family in comparison.families}
    for family in Family:
        yield from _thin(family, heard.get(family), comparison, sides)
    if heard:
        told = ", ".join(f"{one.family.value.lower()} {columns.number(one.p_value)}" for one in comparison.families)
        yield f"p of an effect of {comparison.policy.margin:g} or less (one-sided, Holm): {told}"
    vague = [effect.id for effect in comparison.metrics if _says_nothing(effect, _voters(comparison))]
    if vague:
        yield f"not shown, as their intervals are wider than {WIDEST:g} human spreads either way: {', '.join(vague)}"


def _show_effects(comparison: Comparison, sides: Sequence[Side]) -> None:
    tables = columns.fitting(answers, lambda count: [_table(comparison, count)], len(HEADINGS), ALWAYS)
    answers.print()
    answers.print(tables[0])
    answers.print()
    for line in (*notes_on(comparison, sides), SPREAD, ORDER):
        answers.print(f"[dim]{escape(line)}[/]")
    if len(tables[0].columns) < len(HEADINGS):
        notes.print("[dim]a wider terminal, or a pipe, has the values of both sides too[/]")


def _amount(report: Report) -> str:
    texts = counted(report.clusters, "independent cluster")
    return f"{counted(report.documents, 'document')}, {counted(report.tokens, 'word')}, {texts}"


def _table(comparison: Comparison, count: int) -> Table:
    table = columns.table(HEADINGS[:count], NUMBERS)
    heard = {family.family: family for family in comparison.families}
    voters = _voters(comparison)
    for family in Family:
        effects = [one for one in comparison.metrics if INFOS[one.id].family is family and one.effect is not None]
        shown = [one for one in effects if not _says_nothing(one, voters)]
        if shown:
            table.add_row(*_family_row(family, heard.get(family))[:count])
        for effect in shown:
            table.add_row(*_row(effect, effect.id in voters)[:count])
    return table


def _family_row(family: Family, effect: FamilyEffect | None) -> tuple[str, ...]:
    name = f"[bold]{family.value.lower()}[/]"
    if effect is None:
        return name, "[dim]no vote[/]", "", "", ""
    return name, f"[bold]{effect.effect:+.2f}[/]", columns.between(effect.lower, effect.upper, _signed), "", ""


def _row(effect: MetricEffect, votes: bool) -> tuple[str, ...]:
    values = ("" if value is None else columns.number(value) for value in (effect.baseline, effect.candidate))
    size = "" if effect.effect is None else _signed(effect.effect)
    return f"{'*' if votes else ' '} {effect.id}", size, columns.between(effect.lower, effect.upper, _signed), *values


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _voters(comparison: Comparison) -> frozenset[str]:
    return frozenset(id for family in comparison.families for id in family.metrics)


def _says_nothing(effect: MetricEffect, voters: frozenset[str]) -> bool:
    if effect.id in voters or effect.lower is None or effect.upper is None:
        return False
    return effect.upper - effect.lower > 2 * WIDEST


def _thin(family: Family, effect: FamilyEffect | None, comparison: Comparison, sides: Sequence[Side]) -> Iterator[str]:
    """Say why a family has no vote, or that it rests on fewer metrics than a side has."""
    name = family.value.lower()
    measured = [_headlines(side, family, comparison.budget) for side in sides]
    every = list(dict.fromkeys(id for ids in measured for id in ids))
    if effect is None:
        if every and comparison.reason is VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN:
            yield f"{name} has no vote: the baseline does not cover the domain of the candidate"
        return
    missing = [id for id in every if id not in effect.metrics]
    if missing:
        rests = f"{name} rests on {len(effect.metrics)} of {len(every)} headline metrics"
        yield f"{rests}, without {', '.join(missing)}: {_why_without(missing, measured, comparison)}"


def _why_without(missing: Sequence[str], measured: Sequence[Sequence[str]], comparison: Comparison) -> str:
    for where, ids in zip(SIDES, measured, strict=True):
        if set(missing) - set(ids):
            return f"not measured in the {where}"
    told = {effect.id: effect.undefined_because for effect in comparison.metrics}
    return next((why for id in missing if (why := told.get(id))), "no interval")


def _headlines(side: Side, family: Family, budget: int) -> list[str]:
    values = {**side.text_values(budget), **side.model_values}
    return [id for id in values if INFOS[id].headline and INFOS[id].family is family]
