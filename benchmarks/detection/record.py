"""What the benchmark keeps of a loop, one folder per generation: what a monitor would get, and facts beside it.

    OUT/<recipe>/<arm>/<seed>/<generation>/  side.json, fingerprints.safetensors, facts.json

A folder appears whole or not at all, so a loop that was killed goes on after the last one. Knows no model and no text:
judging the sequences again, under another policy or by other rules, needs nothing else.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ouroscope.canonical import canonical_json, from_plain
from ouroscope.records.analysis import Report, Verdict
from ouroscope.records.runs import StageTime
from services.analyzer.fingerprint import from_bytes, to_bytes
from services.analyzer.side import Side, side_of

SIDE_FILE = "side.json"
FINGERPRINTS_FILE = "fingerprints.safetensors"
FACTS_FILE = "facts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What one metric gave; None where it is undefined."""

    id: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One generation in numbers that its report does not hold, or that rivals of the verdict look at."""

    recipe: str
    arm: str
    seed: int
    generation: int
    heldout_perplexity: float
    documents: int
    """Documents that the model wrote."""
    tokens: int
    """Tokens of the model that it drew."""
    words: int
    """Words that the analyzer saw: without the real prefixes."""
    characters: int
    """Characters that the model wrote."""
    values: tuple[Value, ...] = ()
    """What single thresholds look at, at the smallest rung; one that is undefined has no value."""
    verdict: Verdict | None = None
    """Of the default policy, beside generation 0 with the history since; None for generation 0."""
    times: tuple[StageTime, ...] = ()

    def value(self, metric: str) -> float | None:
        """Return a value by the id of its metric, None where it was not measured or is undefined."""
        return next((one.value for one in self.values if one.id == metric), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One generation as it was kept."""

    facts: Facts
    side: Side

    @property
    def generation(self) -> int:
        """Return its number, 0 for the model that the loop began with."""
        return self.facts.generation


def folder_of(out: Path, facts: Facts) -> Path:
    """Return where a generation is kept."""
    return sequence_of(out, facts.recipe, facts.arm, facts.seed) / str(facts.generation)


def sequence_of(out: Path, recipe: str, arm: str, seed: int) -> Path:
    """Return where the generations of one loop are kept."""
    return out / recipe / arm / str(seed)


def save(out: Path, recorded: Recorded) -> Path:
    """Keep a generation and return its folder; one that is there already stays as it is."""
    folder = folder_of(out, recorded.facts)
    if folder.exists():
        return folder
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    (draft / SIDE_FILE).write_text(canonical_json(replace(recorded.side.report, report=None)))
    (draft / FINGERPRINTS_FILE).write_bytes(to_bytes(recorded.side.fingerprints.values()))
    (draft / FACTS_FILE).write_text(canonical_json(recorded.facts))
    draft.rename(folder)
    return folder


def load(folder: Path) -> Recorded:
    """Return the generation that a folder holds.

    Raises:
        InvalidRequest: a file was written by another version.
        CorruptArtifact: the fingerprints cannot be read.
    """
    report = from_plain(Report, json.loads((folder / SIDE_FILE).read_text()))
    side = side_of(report, from_bytes((folder / FINGERPRINTS_FILE).read_bytes()))
    return Recorded(facts=from_plain(Facts, json.loads((folder / FACTS_FILE).read_text())), side=side)


def load_sequence(folder: Path) -> list[Recorded]:
    """Return the generations of one loop in rising order, empty if there are none; drafts are passed over."""
    kept = folder.iterdir() if folder.is_dir() else ()
    return [load(one) for one in sorted((one for one in kept if one.name.isdigit()), key=lambda one: int(one.name))]


def load_all(out: Path) -> dict[tuple[str, str, int], list[Recorded]]:
    """Return every loop below `out` by (recipe, arm, seed)."""
    folders = sorted({one.parent for one in out.glob(f"*/*/*/*/{FACTS_FILE}") if one.parent.name.isdigit()})
    sequences = sorted({one.parent for one in folders})
    return {(one.parent.parent.name, one.parent.name, int(one.name)): load_sequence(one) for one in sequences}
