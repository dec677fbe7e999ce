"""What a monitor says of a sequence, generation by generation, and when it first raised an alarm.

Knows no text and no model: sequences come measured, from `human` or from `record`. `replay` is the one place where the
benchmark turns them into verdicts, with the function that the analyzer's service calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks.detection.record import Value
from ouroscope.records.analysis import Comparison, FamilyEffect, PastEffects, Policy, Verdict, VerdictReason
from services.analyzer.comparison import compare
from services.analyzer.doubts import LENGTH, Circumstances
from services.analyzer.side import Side
from services.analyzer.spread import HumanSpread
from services.analyzer.verdicts import judge

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
    length_ratio: float | None = None
    """Mean length of documents in terms of the baseline's; None where it was not kept."""
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
    return Step(
        generation=generation,
        verdict=told.verdict,
        reason=told.reason,
        budget=told.budget,
        excess_novelty=told.excess_novelty,
        length_ratio=_length_ratio(told),
        families=told.families,
        values=tuple(values),
    )


def judged_again(sequence: HumanSequence) -> HumanSequence:
    """Return a sequence with the verdicts that today's rules give its effects; nothing is measured again.

    Rules of sequences change what a generation beyond the margin is called; all other verdicts stay.
    """
    history: list[PastEffects] = []
    steps = []
    for step in sequence.steps:
        now = Circumstances(excess_novelty=step.excess_novelty, length_ratio=step.length_ratio)
        said = judge(step.families, (), history, DEFAULT, now) if is_alarm(step) else step
        steps.append(replace(step, verdict=said.verdict, reason=said.reason))
        history.append(
            PastEffects(generation=step.generation, families=step.families, excess_novelty=step.excess_novelty)
        )
    return replace(sequence, steps=tuple(steps))


def _length_ratio(told: Comparison) -> float | None:
    found = next((one for one in told.metrics if one.id == LENGTH), None)
    if found is None or not found.baseline or not found.candidate:
        return None
    return found.candidate / found.baseline


def is_alarm(step: Step) -> bool:
    """Return whether somebody is told: of a warning or of collapse."""
    return step.verdict in (Verdict.WARNING, Verdict.COLLAPSE)


def is_collapse(step: Step) -> bool:
    """Return whether the verdict is collapse."""
    return step.verdict is Verdict.COLLAPSE


def first(steps: Sequence[Step], holds: Callable[[Step], bool]) -> int | None:
    """Return the first generation of which something holds, None if there is none."""
    return next((step.generation for step in steps if holds(step)), None)
