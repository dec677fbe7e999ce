"""What a monitor says of a sequence, generation by generation, and when it first raised an alarm.

Knows no text and no model: sequences come measured, from `human` or from `record`. `replay` is the one place where the
benchmark turns them into verdicts, with the function that the analyzer's service calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.detection.record import Value
from ouroscope.records.analysis import Comparison, FamilyEffect, PastEffects, Policy, Verdict, VerdictReason
from services.analyzer.comparison import compare
from services.analyzer.side import Side
from services.analyzer.spread import HumanSpread

DEFAULT = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One generation as a monitor saw it."""

    generation: int
    """From 1 on; generation 0 is the baseline."""
    verdict: Verdict
    reason: VerdictReason
    budget: int
    """Rung of the comparison, 0 where there was none."""
    excess_novelty: float | None = None
    """Share of words new to the baseline beyond what it expects of itself; None without a rung."""
    families: tuple[FamilyEffect, ...] = ()
    values: tuple[Value, ...] = ()
    """What single thresholds look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanSequence:
    """What a monitor said of one human sequence."""

    kind: str
    baseline: int
    """Words that were asked for; a corpus may have had fewer."""
    half: str
    domain: str
    number: int
    baseline_words: int
    words: tuple[int, ...]
    """Of each generation."""
    values: tuple[Value, ...]
    """Of the baseline."""
    steps: tuple[Step, ...]


def replay(baseline: Side, candidates: Iterable[tuple[int, Side]], spread: HumanSpread) -> list[Comparison]:
    """Return what the default policy says of each numbered generation, with the history that a monitor would have."""
    history: list[PastEffects] = []
    told = []
    for generation, candidate in candidates:
        told.append(compare(baseline, candidate, spread=spread, policy=DEFAULT, history=history, generation=generation))
        history.append(told[-1].as_past(generation))
    return told


def step_of(generation: int, told: Comparison, values: Iterable[Value] = ()) -> Step:
    """Return what the benchmark keeps of a comparison: no metric for itself, no sentence."""
    new, expected = told.novel_token_share, told.expected_novel_token_share
    return Step(
        generation=generation,
        verdict=told.verdict,
        reason=told.reason,
        budget=told.budget,
        excess_novelty=None if new is None or expected is None else new - expected,
        families=told.families,
        values=tuple(values),
    )


def is_alarm(step: Step) -> bool:
    """Return whether somebody is told: of a warning or of collapse."""
    return step.verdict in (Verdict.WARNING, Verdict.COLLAPSE)


def is_collapse(step: Step) -> bool:
    """Return whether the verdict is collapse."""
    return step.verdict is Verdict.COLLAPSE


def first(steps: Sequence[Step], holds: Callable[[Step], bool]) -> int | None:
    """Return the first generation of which something holds, None if there is none."""
    return next((step.generation for step in steps if holds(step)), None)
