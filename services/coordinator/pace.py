"""How far a run is and how long it will still take, from the stages that are behind it. Pure: time is handed in.

Lanes (arm and seed) go on side by side and queue at the same workers, so the wall time of a stage holds its wait for
the others. That is the very time the next such stage will take while as many lanes are at work; the time left of a run
is that of its longest lane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ouroscope.records.runs import RunSpec, StageTime
from services.coordinator.plan import SETUP_STAGES, Lane, arm_named, lanes_of, stages_of

WEIGHTS: Mapping[str, float] = {
    "dataset": 4.0,
    "model": 1.0,
    "baseline": 3.0,
    "prompts": 1.0,
    "fresh": 1.0,
    "generate": 4.0,
    "samples": 0.5,
    "score": 4.0,
    "analyse": 4.0,
    "compare": 0.2,
    "across": 4.0,
    "choose": 2.0,
    "fine_tune": 8.0,
}
"""How long stages take beside each other on two cores, until they have been seen. Only their ratios matter."""


@dataclass(slots=True)
class Current:
    """A stage at work."""

    stage: str
    since: float
    """Seconds on the caller's clock."""
    done: float = 0.0
    """In [0, 1]."""


class Pace:
    """What has been seen of one run. Not safe for threads: one event loop owns it."""

    def __init__(self, run: str, spec: RunSpec) -> None:
        self._seen: dict[str, list[float]] = {}
        self._behind: set[tuple[Lane | None, int, str]] = set()
        self._current: dict[Lane | None, Current] = {}
        self._total = Counter(SETUP_STAGES)
        numbers = range(spec.generations + 1)
        self._ahead: dict[Lane | None, Counter[str]] = {None: Counter(SETUP_STAGES)}
        for lane in lanes_of(run, spec):
            arm = arm_named(spec, lane.arm)
            self._ahead[lane] = Counter(stage for j in numbers for stage in stages_of(spec, arm, j))
            self._total.update(self._ahead[lane])

    def begin(self, lane: Lane | None, stage: str, now: float) -> None:
        """Note that a stage begins; lane None is the setup of the run."""
        self._current[lane] = Current(stage, now)

    def advance(self, lane: Lane | None, done: float) -> None:
        """Note that the stage at work in `lane` is done to that share."""
        if lane in self._current:
            self._current[lane].done = min(1.0, max(0.0, done))

    def finish(self, lane: Lane | None, generation: int, times: Iterable[StageTime]) -> None:
        """Note that stages are behind; those of an earlier process too. A stage that is told twice counts once."""
        for time in times:
            key = (lane, generation, time.stage)
            if key not in self._behind and self._ahead[lane][time.stage] > 0:
                self._behind.add(key)
                self._ahead[lane][time.stage] -= 1
                self._seen.setdefault(time.stage, []).append(time.seconds)
            if lane in self._current and self._current[lane].stage == time.stage:
                del self._current[lane]

    def run_done(self) -> float:
        """Return the share of the whole run that is done, in [0, 1]."""
        left = sum(self._left_of(lane, None) for lane in self._ahead)
        return min(1.0, max(0.0, 1 - left / self._seconds(self._total)))

    def seconds_left(self, now: float) -> float | None:
        """Return the expected time left in seconds, or None before the first stage is behind."""
        if not self._seen:
            return None
        return self._left_of(None, now) + max(self._left_of(lane, now) for lane in self._ahead if lane is not None)

    def _left_of(self, lane: Lane | None, now: float | None) -> float:
        return max(0.0, self._seconds(self._ahead[lane]) - self._spent(lane, now))

    def _seconds(self, stages: Counter[str]) -> float:
        return sum(count * self._expected(stage) for stage, count in stages.items())

    def _spent(self, lane: Lane | None, now: float | None) -> float:
        """Return how much of the stage at work is behind: what it reports, or what the clock says, never all of it."""
        if lane not in self._current:
            return 0.0
        current = self._current[lane]
        expected = self._expected(current.stage)
        by_clock = 0.0 if now is None or current.done > 0 else min(0.95 * expected, now - current.since)
        return max(current.done * expected, by_clock)

    def _expected(self, stage: str) -> float:
        """Return the seconds one such stage is expected to take; weights count as seconds until something was seen."""
        if times := self._seen.get(stage):
            return max(sum(times) / len(times), 1e-6)
        seen = [(WEIGHTS[name], time) for name, times in self._seen.items() for time in times]
        scale = sum(time for _, time in seen) / sum(weight for weight, _ in seen) if seen else 1.0
        return WEIGHTS[stage] * max(scale, 1e-6)
