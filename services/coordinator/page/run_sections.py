"""What the head, the progress and the list entry of a run show, ready for the templates. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.records.runs import Run, RunEvent, RunState
from services.coordinator.page.bounds import left_out, shown_of
from services.coordinator.page.times import moment
from services.coordinator.report import words
from services.coordinator.report.page import STATES
from services.coordinator.report.sections import SIGNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A verdict in few words."""

    text: str
    sign: str
    css: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is said of a run before its charts."""

    name: str
    headline: str
    meta: str
    caution: str | None
    said: str
    """What a screen reader is told when it changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    state: str
    ended: bool
    share: str
    """In [0, 1], for the bar."""
    percent: str
    counted: str
    doing: str
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A run in the list."""

    name: str
    meta: str
    progress: Progress
    chips: tuple[Chip, ...]


def head(run: Run) -> Head:
    """Return what is said of a run."""
    return Head(
        name=_id(run),
        headline=words.headline(run),
        meta=f"{STATES[run.state]} · begun {moment(run.create_time)}",
        caution=_caution(run),
        said=f"Run {STATES[run.state]}, {_counted(run)} finished. {words.headline(run)}",
    )


def _caution(run: Run) -> str | None:
    told = []
    if run.state is RunState.FAILED:
        told.append(f"The run failed. Reason: {run.error}" if run.error else "The run failed.")
    elif run.error:
        told.append(run.error)
    told += [less] if (less := left_out(run.spec, shown_of(run.spec))) else []
    return " ".join(told) or None


def progress(run: Run, event: RunEvent | None) -> Progress:
    """Return how far a run is; `event` is its newest where this process drives it."""
    going = event is not None and not run.state.ended
    share = event.run_done if event and going else run.generations_done / max(1, run.generations_total)
    return Progress(
        state=STATES[run.state],
        ended=run.state.ended,
        share=f"{share:.3f}",
        percent=words.percent(share),
        counted=_counted(run),
        doing=_doing(event) if event and going else "",
        left=words.format_seconds(event.seconds_left) if event and going else "",
    )


def _doing(event: RunEvent) -> str:
    return f"{words.describe(event)}: {event.message}" if event.stage and event.message else words.describe(event)


def _counted(run: Run) -> str:
    return f"{run.generations_done:,} of {run.generations_total:,} generations"


def entry(run: Run, event: RunEvent | None) -> Entry:
    """Return a run as the list shows it."""
    return Entry(name=_id(run), meta=moment(run.create_time), progress=progress(run, event), chips=chips(run))


def chips(run: Run) -> tuple[Chip, ...]:
    """Return the verdicts of the arms, the gravest first."""
    ordered = sorted(run.verdicts, key=lambda one: words.SEVERITY.index(one.verdict))
    return tuple(
        Chip(text=f"{one.arm}: {words.VERDICTS[one.verdict].lower()}", sign=SIGNS[one.verdict], css=one.verdict.value)
        for one in ordered
    )


def _id(run: Run) -> str:
    return run.name.removeprefix("runs/")
