"""How much one page shows at most, whatever people run: seeds, then generations, then arms are left out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.records.runs import RunSpec

MOST_RUNS = 50
MOST_MONITORS = 100
MOST_POINTS = 400
"""Generations of a run, over all arms and seeds."""
MOST_PROMPTS = 6
"""Of a run, whose continuations are shown side by side."""
MOST_GENERATIONS = 30
"""Of a monitor, the newest."""
MOST_DOMAINS = 5
"""Of a monitor, in charts; each has a colour of its own."""
_FEWEST_NUMBERS = 11


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a run is drawn."""

    arms: tuple[str, ...]
    seeds: int
    numbers: tuple[int, ...]


def shown_of(spec: RunSpec, most: int = MOST_POINTS) -> Shown:
    """Return what of a run is drawn: at most `most` generations, always the first and the last of each arm."""
    count = spec.generations + 1
    seeds = max(1, min(spec.seeds, most // (len(spec.arms) * count)))
    room = max(_FEWEST_NUMBERS, most // (len(spec.arms) * seeds))
    numbers = _numbers(count, step=max(1, -(-(count - 1) // (room - 1))))
    arms = tuple(arm.name for arm in spec.arms)[: max(1, most // (seeds * len(numbers)))]
    return Shown(arms, seeds, numbers)


def _numbers(count: int, step: int) -> tuple[int, ...]:
    return tuple(sorted({*range(0, count, step), count - 1}))


def left_out(spec: RunSpec, shown: Shown) -> str | None:
    """Say what of a run is not drawn, or None where everything is.

    >>> from ouroscope.records.runs import ArmSpec
    >>> spec = RunSpec(name="wide", arms=(ArmSpec(name="a", protocol="replace"),), seeds=100, generations=9)
    >>> left_out(spec, shown_of(spec))
    'This page shows 40 of 100 seeds. `ouroscope report` writes all.'
    """
    told = []
    if len(shown.arms) < len(spec.arms):
        told.append(f"{len(shown.arms)} of {len(spec.arms)} arms")
    if shown.seeds < spec.seeds:
        told.append(f"{shown.seeds} of {spec.seeds} seeds")
    if len(shown.numbers) < spec.generations + 1:
        told.append(f"{len(shown.numbers)} of {spec.generations + 1} generations")
    if spec.evaluation.samples > MOST_PROMPTS:
        told.append(f"{MOST_PROMPTS} of {spec.evaluation.samples} prompts")
    return f"This page shows {', '.join(told)}. `ouroscope report` writes all." if told else None
