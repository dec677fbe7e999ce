"""What the first page shows: the monitors, the gravest first, and the newest runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ouroscope.records.analysis import Verdict
from ouroscope.records.runs import Run, RunEvent
from services.coordinator.page.bounds import MOST_RUNS
from services.coordinator.page.run_sections import Chip, entry
from services.coordinator.page.times import moment
from services.coordinator.page.watched import Line, Watched
from services.coordinator.report import words
from services.coordinator.report.sections import SIGNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A monitor in the list."""

    name: str
    description: str
    meta: str
    chip: Chip
    sentence: str


def context(runs: Sequence[Run], newest: Callable[[str], RunEvent | None], watched: Watched) -> dict[str, Any]:
    """Return everything that the first page shows; `newest` tells what a run that is driven here does."""
    monitors = [_entry(line) for line in watched.gravest()]
    return {
        "summary": summary(runs, watched.by_verdict(), watched.count),
        "monitors": monitors,
        "more_monitors": watched.count - len(monitors),
        "runs": [entry(run, newest(run.name)) for run in runs],
        "most_runs": MOST_RUNS if len(runs) >= MOST_RUNS else None,
    }


def summary(runs: Sequence[Run], verdicts: Mapping[Verdict, int], monitors: int) -> str:
    """Say in a sentence or two what is going on."""
    going = sum(not run.state.ended for run in runs)
    told = [f"{_number(going, 'run is', 'runs are')} going on."]
    if monitors:
        found = [f"{verdicts[v]:,} {words.VERDICTS[v].lower()}" for v in words.SEVERITY if verdicts.get(v)]
        told.append(f"{_number(monitors, 'monitor', 'monitors')}{': ' + ', '.join(found) if found else ''}.")
    return " ".join(told)


def _number(count: int, one: str, several: str) -> str:
    return f"{count:,} {several}" if count > 1 else f"{count or 'No'} {one}"


def _entry(line: Line) -> Entry:
    return Entry(
        name=line.name.partition("/")[2],
        description=line.description,
        meta=_meta(line),
        chip=_chip(line),
        sentence=line.sentence,
    )


def _meta(line: Line) -> str:
    told = ["paused"] if line.paused else []
    told.append("waits for its first generation" if line.number is None else f"generation {line.number}")
    told += [moment(line.time)] if line.time else []
    return " · ".join(told)


def _chip(line: Line) -> Chip:
    if line.verdict is None:
        return Chip(text="not compared yet", sign="·", css="NONE")
    return Chip(text=words.VERDICTS[line.verdict].lower(), sign=SIGNS[line.verdict], css=line.verdict.value)
