"""Monitors in the terminal: all of them, the history of one, and one generation with what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.markup import escape
from rich.table import Table

from ouroscope.integrations.gateway_logs import Tally
from ouroscope.records.analysis import Family, FamilyEffect, Verdict
from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope_app import columns
from ouroscope_app.family_table import family_table, what_moved
from ouroscope_app.output import answers, counted, notes
from ouroscope_app.printable import printable
from ouroscope_app.watch import STYLE

LONGEST_SENTENCE = 2000
BASELINE = "[dim]baseline[/]"
_NUMBERS = frozenset({"newest", "generations"})
ALWAYS = 2
"""Columns of the history that a narrow terminal shows too: the number and the verdict."""


def show_monitors(monitors: Sequence[Monitor]) -> None:
    """Print a line for each monitor."""
    table = columns.table(("monitor", "verdict", "newest", "generations", "recorded (UTC)", ""), _NUMBERS)
    for monitor in monitors:
        newest = monitor.newest
        number = str(newest.number) if newest else ""
        said = _said(newest) if newest else ""
        state = "[yellow]paused[/]" if monitor.paused else ""
        recorded = _time(newest.create_time) if newest else ""
        table.add_row(_short(monitor), said, number, f"{monitor.generations:,}", recorded, state)
    answers.print(table)


def show_monitor(monitor: Monitor) -> None:
    """Print what a monitor is; how to begin where nothing is recorded yet."""
    for line in _head(monitor):
        answers.print(escape(line), soft_wrap=True)
    if not monitor.generations:
        notes.print(f"nothing recorded yet; begin with `ouroscope monitors record {_short(monitor)} 0 FILE`")


def say_what_is_odd(before: Monitor, generation: MonitorGeneration) -> None:
    """Hint at a generation that was recorded twice, late, or under another number; `before` is the monitor before."""
    newest = before.newest
    if newest is None:
        return
    if generation.create_time and newest.create_time and generation.create_time <= newest.create_time:
        notes.print(f"generation {generation.number} had been recorded before with the same content; nothing changed")
    elif newest.number > generation.number:
        notes.print(
            f"generation {generation.number} comes after {newest.number}, later verdicts are looked at again; "
            f"`ouroscope monitors show {_short(before)}` has what is said now"
        )
    elif newest.report == generation.report and newest.number != generation.number:
        notes.print(
            f"generation {generation.number} has the same content as {newest.number}; if it is a new one, look whether "
            "the pipeline reads the new text"
        )


def show_history(monitor: Monitor, generations: Sequence[MonitorGeneration]) -> None:
    """Print what a monitor is, its generations, and what is said of the newest."""
    show_monitor(monitor)
    if not generations:
        return
    headings = (
        "generation",
        "verdict",
        *(family.value.lower() for family in _heard(generations)),
        "recorded (UTC)",
        "",
    )
    (table,) = columns.fitting(answers, lambda count: [_history(headings, generations, count)], len(headings), ALWAYS)
    answers.print()
    answers.print(table)
    for line in _about_newest(generations[-1]):
        answers.print(line, soft_wrap=True)


def show_generation(generation: MonitorGeneration) -> None:
    """Print the verdict on one generation and what it rests on."""
    answers.print(f"{escape(generation.name)}: {_said(generation)}", soft_wrap=True)
    answers.print(escape(printable(generation.sentence, LONGEST_SENTENCE)), soft_wrap=True)
    if generation.comparison is None:
        return
    answers.print()
    answers.print(family_table(generation.comparison))
    for one in generation.domains:
        verdict = one.comparison.verdict
        answers.print(f"domain {escape(printable(one.domain))}: [{STYLE[verdict]}]{verdict.value}[/]", soft_wrap=True)
    for line in what_moved(generation.comparison):
        answers.print(escape(line), soft_wrap=True)


def show_log(name: str, tally: Tally) -> None:
    """Say on stderr how much of a log was measured, and why the rest was not."""
    used = f"{counted(tally.documents, 'completion')} in {counted(tally.lines, 'line')}"
    left = ", ".join(f"{count:,} {reason}" for reason, count in tally.left_out.most_common())
    notes.print(escape(f"{printable(name)}: {used}{f'; left out: {left}' if left else ''}"), soft_wrap=True)


def _head(monitor: Monitor) -> Iterator[str]:
    about = f": {printable(monitor.description)}" if monitor.description else ""
    yield f"{monitor.name}{about}" + (" (paused)" if monitor.paused else "")
    yield f"baseline {monitor.baseline or 'none yet: the first generation becomes it'}"
    if monitor.domain_baselines:
        yield f"domains {', '.join(printable(one.domain) for one in monitor.domain_baselines)}"
    policy = monitor.policy
    yield (
        f"margin {policy.margin:g}, far bound {policy.far_bound:g}, collapse after {policy.persistence} generations "
        "beyond the margin"
    )


def _heard(generations: Sequence[MonitorGeneration]) -> list[Family]:
    """Return the families that ever had an effect."""
    heard = {effect.family for one in generations if one.comparison for effect in one.comparison.families}
    return [family for family in Family if family in heard]


def _history(headings: Sequence[str], generations: Sequence[MonitorGeneration], count: int) -> Table:
    table = columns.table(headings[:count], frozenset({"generation"}))
    families = _heard(generations)
    for one in generations:
        effects = {effect.family: effect for effect in one.comparison.families} if one.comparison else {}
        told = (_effect(effects.get(family)) for family in families)
        row = (str(one.number), _said(one), *told, _time(one.create_time), escape(printable(one.description, 40)))
        table.add_row(*row[:count])
    return table


def _effect(effect: FamilyEffect | None) -> str:
    return "" if effect is None else f"{effect.effect:+.2f} ({effect.lower:+.2f} to {effect.upper:+.2f})"


def _about_newest(newest: MonitorGeneration) -> Iterator[str]:
    yield f"\n{escape(printable(newest.sentence, LONGEST_SENTENCE))}"
    if newest.comparison and newest.comparison.first_beyond is not None:
        yield f"first generation beyond the margin: {newest.comparison.first_beyond}"
    yield "[dim]effects are in human spreads with their intervals, and above 0 is worse[/]"


def _said(generation: MonitorGeneration) -> str:
    verdict: Verdict | None = generation.verdict
    return BASELINE if verdict is None else f"[{STYLE[verdict]}]{verdict.value}[/]"


def _short(monitor: Monitor) -> str:
    return monitor.name.partition("/")[2]


def _time(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M") if time else ""
