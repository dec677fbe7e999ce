"""From the comparisons of single generations to the verdict of an arm over its seeds, in words. Pure.

The analyzer judges (statistics.md, rule 12); here its verdicts are only carried over generations and over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ouroscope.gate import GRAVITY, reaches
from ouroscope.records.analysis import Verdict
from ouroscope.records.runs import ArmSpec, ArmVerdict, RunSpec

WARNED = (Verdict.WARNING, Verdict.COLLAPSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the comparison of one generation said."""

    arm: str
    seed: int
    number: int
    verdict: Verdict
    sentence: str


def verdict_of_sequence(judged: Sequence[Judged]) -> Judged | None:
    """Return the generation that speaks for one arm under one seed, or None before the first comparison.

    The first COLLAPSE, since a sequence that has collapsed has collapsed (its false alarms are calibrated on the
    maximum over a whole control sequence, statistics.md rule 9). Otherwise the newest comparison: it was made with the
    history of all earlier ones, so it speaks for the sequence.
    """
    ordered = sorted(judged, key=lambda one: one.number)
    collapsed = (one for one in ordered if one.verdict is Verdict.COLLAPSE)
    return next(collapsed, ordered[-1] if ordered else None)


def warned_in_a_row(verdicts: Mapping[int, Verdict | None]) -> int:
    """Return how many generations in a row were warned of, up to the newest; `verdicts` by number of generation.

    >>> warned_in_a_row({1: Verdict.WARNING, 2: Verdict.STABLE, 3: Verdict.WARNING, 4: Verdict.COLLAPSE})
    2
    """
    newest_first = [verdicts[number] in WARNED for number in sorted(verdicts, reverse=True)]
    return newest_first.index(False) if False in newest_first else len(newest_first)


def verdict_over_seeds(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the gravest verdict that at least half of the seeds reach; at least one seed is given.

    A seed with INSUFFICIENT_DATA reaches nothing. STABLE needs more than half, so that it is never said for lack of
    data: of two seeds, one STABLE and one unknown are INSUFFICIENT_DATA.

    >>> verdict_over_seeds([Verdict.COLLAPSE, Verdict.COLLAPSE, Verdict.STABLE]).value
    'COLLAPSE'
    >>> verdict_over_seeds([Verdict.STABLE, Verdict.INSUFFICIENT_DATA]).value
    'INSUFFICIENT_DATA'
    """
    for level in (Verdict.COLLAPSE, Verdict.WARNING):
        reached = sum(reaches(verdict, level) for verdict in verdicts)
        if 2 * reached >= len(verdicts):
            return level
    known = sum(verdict in GRAVITY for verdict in verdicts)
    return Verdict.STABLE if 2 * known > len(verdicts) else Verdict.INSUFFICIENT_DATA


def arm_verdict(spec: RunSpec, arm: ArmSpec, by_seed: Mapping[int, Sequence[Judged]]) -> ArmVerdict | None:
    """Return the verdict of an arm over the seeds that have been compared, or None if there is none yet."""
    speaking = {seed: one for seed, judged in by_seed.items() if (one := verdict_of_sequence(judged)) is not None}
    if not speaking:
        return None
    verdict = verdict_over_seeds([one.verdict for one in speaking.values()])
    return ArmVerdict(arm=arm.name, verdict=verdict, sentence=_sentence(spec, arm, verdict, speaking))


def _sentence(spec: RunSpec, arm: ArmSpec, verdict: Verdict, speaking: Mapping[int, Judged]) -> str:
    """Tell the verdict, beside what, in how many seeds, and the figures of the first seed that agrees with it."""
    agreeing = {seed: one for seed, one in speaking.items() if one.verdict is verdict} or speaking
    seed, example = next(iter(sorted(agreeing.items())))
    control = spec.control_of(arm)
    beside = f"arm {control.name} at the same generation" if control else "its own generation 0"
    counted = f" in {len(agreeing)} of {len(speaking)} seeds" if len(speaking) > 1 else ""
    where = f"generation {example.number}" + (f", seed {seed}" if len(speaking) > 1 else "")
    return f"{verdict.value}{counted}, beside {beside} ({where}): {example.sentence}"


def run_verdicts(spec: RunSpec, judged: Iterable[Judged]) -> tuple[ArmVerdict, ...]:
    """Return one verdict per arm that was compared, in the order of the arms."""
    by_arm: dict[str, dict[int, list[Judged]]] = {}
    for one in judged:
        by_arm.setdefault(one.arm, {}).setdefault(one.seed, []).append(one)
    found = (arm_verdict(spec, arm, by_arm.get(arm.name, {})) for arm in spec.arms)
    return tuple(verdict for verdict in found if verdict is not None)
