"""From sequences on disk to the small figures that are committed.

    python -m benchmarks.detection.figures HUMAN LOOPS

HUMAN is what `human` made, LOOPS what `loops` recorded; writes results/human.json and results/loops.json beside this
file. Sequences of loops are judged here, as a monitor would with generation 0 as its frozen baseline. Bounds of single
thresholds are tuned on the calibration half of the plain human sequences.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.detection.arms import ARMS, has_ended
from benchmarks.detection.judge import HumanSequence, Step, first, is_alarm, is_collapse, judged_again, replay, step_of
from benchmarks.detection.record import Recorded, Value, load_all
from benchmarks.detection.rivals import RIVALS, Rival, tuned
from benchmarks.detection.worlds import Half
from ouroscope.canonical import from_plain, to_plain
from services.analyzer.spread import shipped_spread

RESULTS = Path(__file__).parent / "results"
RATE = 0.01
"""False alarms per calibration sequence that tuned bounds are allowed."""
PLAIN = "plain"

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """How many sequences raised an alarm of one kind."""

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanGroup:
    """All human sequences of one kind, half and domain beside one size of baseline."""

    kind: str
    baseline: int
    half: str
    domain: str
    sequences: int
    alarms: int
    """Sequences with a warning or collapse."""
    collapses: int
    verdicts: tuple[Alarms, ...]
    """How many generations had which verdict and reason."""
    largest_lower: float | None
    """Largest lower end of a family's effect in any generation; None where none was compared."""
    baseline_words: int
    """On the average."""
    words: int
    """Of a generation, on the average."""
    rivals: tuple[Alarms, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The bound of a tuned rival."""

    name: str
    metric: str
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Human:
    """All that is kept of the human sequences."""

    groups: tuple[HumanGroup, ...]
    bounds: tuple[Bound, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """When one rival raised its first alarm; None if it never did."""

    name: str
    generation: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One generation of a loop."""

    verdict: str
    lowers: tuple[Value, ...]
    """Lower end of the effect of each family that could vote."""
    perplexity: float
    """As a multiple of generation 0."""
    words: int
    """Words that the analyzer saw."""
    excess_novelty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """One trained loop."""

    recipe: str
    arm: str
    seed: int
    alarm: int | None
    """First generation with a warning or collapse."""
    collapse: int | None
    rivals: tuple[Heard, ...]
    moments: tuple[Moment, ...]
    """From generation 1 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """All that is kept of the trained loops."""

    loops: tuple[LoopResult, ...]
    unfinished: tuple[str, ...] = ()
    """Loops that were still running; they count for nothing."""


def main() -> None:
    """Write both files."""
    options = _options()
    sequences = list(human_sequences(options.human))
    rivals = (*RIVALS, *tuned_rivals(sequences))
    bounds = tuple(
        Bound(name=one.name, metric=one.rules[0].metric, bound=one.rules[0].bound) for one in rivals[len(RIVALS) :]
    )
    _write("human", Human(groups=tuple(_groups(sequences, rivals)), bounds=bounds))
    if options.loops:
        _write("loops", _loops(load_all(options.loops), rivals))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("human", type=Path)
    parser.add_argument("loops", type=Path, nargs="?")
    return parser.parse_args()


def human_sequences(out: Path) -> Iterator[HumanSequence]:
    """Yield what `human` made, in the order of its names, judged by today's rules."""
    for file in sorted(out.rglob("*.json")):
        yield from (judged_again(from_plain(HumanSequence, one)) for one in json.loads(file.read_text()))


def tuned_rivals(sequences: Sequence[HumanSequence]) -> list[Rival]:
    """Return the rivals of one rule with bounds from the plain sequences of the calibration half."""
    calibration = [one for one in sequences if one.kind == PLAIN and one.half == Half.CALIBRATION.value]
    found = (tuned(rival, calibration, RATE) for rival in RIVALS)
    return list({one.rules: one for one in found if one}.values())


def _groups(sequences: Sequence[HumanSequence], rivals: Sequence[Rival]) -> Iterator[HumanGroup]:
    groups: dict[tuple[str, int, str, str], list[HumanSequence]] = defaultdict(list)
    for one in sequences:
        groups[one.kind, one.baseline, one.half, one.domain].append(one)
    for (kind, baseline, half, domain), found in sorted(groups.items()):
        steps = [step for one in found for step in one.steps]
        yield HumanGroup(
            kind=kind,
            baseline=baseline,
            half=half,
            domain=domain,
            sequences=len(found),
            alarms=sum(first(one.steps, is_alarm) is not None for one in found),
            collapses=sum(first(one.steps, is_collapse) is not None for one in found),
            verdicts=_counted(steps),
            largest_lower=max((round(one.lower, 3) for step in steps for one in step.families), default=None),
            baseline_words=round(sum(one.baseline_words for one in found) / len(found)),
            words=round(sum(sum(one.words) for one in found) / len(steps)),
            rivals=tuple(
                Alarms(name=rival.name, count=sum(rival.first_alarm(one) is not None for one in found))
                for rival in rivals
            ),
        )


def _counted(steps: Sequence[Step]) -> tuple[Alarms, ...]:
    counts = Counter(f"{step.verdict.value}/{step.reason.value}" for step in steps)
    return tuple(Alarms(name=name, count=count) for name, count in sorted(counts.items()))


def _loops(recorded: Mapping[tuple[str, str, int], list[Recorded]], rivals: Sequence[Rival]) -> Loops:
    arms = {arm.name: arm for arm in ARMS}
    ended = {key: has_ended(arms[key[1]], [one.facts for one in found]) for key, found in recorded.items()}
    return Loops(
        loops=tuple(_loop(recorded[key], rivals) for key in sorted(recorded) if ended[key]),
        unfinished=tuple("/".join(map(str, key)) for key in sorted(recorded) if not ended[key]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A loop as rivals look at it."""

    values: tuple[Value, ...]
    steps: tuple[Step, ...]


def _loop(recorded: Sequence[Recorded], rivals: Sequence[Rival]) -> LoopResult:
    base, later = recorded[0], recorded[1:]
    told = replay(base.side, [(one.generation, one.side) for one in later], shipped_spread())
    steps = tuple(step_of(one.generation, said, _values(one)) for one, said in zip(later, told, strict=True))
    seen = _Seen(values=_values(base), steps=steps)
    return LoopResult(
        recipe=base.facts.recipe,
        arm=base.facts.arm,
        seed=base.facts.seed,
        alarm=first(steps, is_alarm),
        collapse=first(steps, is_collapse),
        rivals=tuple(Heard(name=rival.name, generation=rival.first_alarm(seen)) for rival in rivals),
        moments=tuple(_moment(base, one, step) for one, step in zip(later, steps, strict=True)),
    )


def _values(recorded: Recorded) -> tuple[Value, ...]:
    perplexity = Value(id="heldout_perplexity", value=recorded.facts.heldout_perplexity)
    return (*(one for one in recorded.facts.values if one.id != perplexity.id), perplexity)


def _moment(base: Recorded, one: Recorded, step: Step) -> Moment:
    return Moment(
        verdict=f"{step.verdict.value}/{step.reason.value}",
        lowers=tuple(Value(id=effect.family.value, value=round(effect.lower, 2)) for effect in step.families),
        perplexity=round(one.facts.heldout_perplexity / base.facts.heldout_perplexity, 3),
        words=one.facts.words,
        excess_novelty=None if step.excess_novelty is None else round(step.excess_novelty, 3),
    )


def _write(name: str, result: Human | Loops) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(to_plain(result), sort_keys=True, separators=(",", ":"))
    # One line for each group and loop: small, and a change is seen.
    (RESULTS / f"{name}.json").write_text(text.replace('},{"alarm', '},\n{"alarm') + "\n", encoding="ascii")


def load_results() -> tuple[Human, Loops]:
    """Return what is committed."""
    human, loops = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("human", "loops"))
    return from_plain(Human, human), from_plain(Loops, loops)


if __name__ == "__main__":
    main()
