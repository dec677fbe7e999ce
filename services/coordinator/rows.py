"""How records lie in rows: what the tables keep beside the payload, and the way back. Knows no database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ouroscope.canonical import canonical_json, from_plain
from ouroscope.records.analysis import Verdict
from ouroscope.records.runs import Generation, Run, RunState
from services.coordinator.plan import Lane
from services.coordinator.verdicts import Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One value of a report, kept beside its generation so that a restarted exporter needs no store."""

    id: str
    value: float | None = None
    model: bool = False
    """Whether it was measured on the model, not on its text."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A generation as it lies in the database."""

    lane: Lane
    generation: Generation
    values: tuple[Measured, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """The little of a generation that a run is counted by; the payload is not read for it."""

    state: RunState
    judged: Judged | None
    """What its comparison said; None where it was not compared."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a generation tells whether anything of it has changed; the payload is not read for it."""

    lane: Lane
    number: int
    state: RunState
    report: str | None
    verdict: str | None


def loads(text: str | None) -> dict[str, Any]:
    """Read a mapping in JSON; nothing is an empty one."""
    return dict(json.loads(text)) if text else {}


def place_of(run: Run) -> tuple[str, str]:
    """Return where a run stands in the order of `History.runs`."""
    return time_text(run.create_time), run.name.removeprefix("runs/")


def time_text(time: datetime) -> str:
    """Write a time so that the order of the texts is the order of the times."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def run_row(run: Run) -> dict[str, Any]:
    """Return the columns of a run, without its id."""
    return {"state": run.state.value, "created": time_text(run.create_time), "payload": canonical_json(run)}


def generation_row(kept: Kept) -> dict[str, Any]:
    """Return all columns of a generation."""
    lane, generation, comparison = kept.lane, kept.generation, kept.generation.comparison
    return {
        "run": lane.run,
        "arm": lane.arm,
        "seed": lane.seed,
        "number": generation.number,
        "state": generation.state.value,
        "report": str(generation.report) if generation.report else None,
        "verdict": comparison.verdict.value if comparison else None,
        "sentence": comparison.sentence if comparison else None,
        "payload": canonical_json(generation),
        "measured": canonical_json(kept.values),
    }


def kept_of(row: Any) -> Kept:
    """Read a row of generations."""
    lane = Lane(row.run, row.arm, row.seed)
    values = tuple(from_plain(Measured, plain) for plain in json.loads(row.measured or "[]"))
    return Kept(lane, from_plain(Generation, json.loads(row.payload)), values)


def outline_of(row: Any) -> Outline:
    """Read the columns of a generation that change with it."""
    return Outline(Lane(row.run, row.arm, row.seed), row.number, RunState(row.state), row.report, row.verdict)


def counted_of(row: Any) -> Counted:
    """Read the columns of a generation that are not its payload."""
    judged = None
    if row.verdict is not None:
        verdict = Verdict(row.verdict)
        judged = Judged(arm=row.arm, seed=row.seed, number=row.number, verdict=verdict, sentence=row.sentence)
    return Counted(RunState(row.state), judged)
