"""Claims of the literature as questions that results can answer. Pure.

Differences are taken seed by seed and signed so that above 0 is towards collapse. A claim is reproduced where the 95 %
t-interval over seeds of every difference it speaks of lies on the claimed side; with the means on that side and an
interval that holds 0 it is `same direction`; else it is not reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations, pairwise
from math import comb
from statistics import fmean, stdev

from benchmarks.reproduction.results import Lane, Results, lanes_of, rising
from services.analyzer.jackknife import t_quantile
from services.coordinator.report.svg import figure


class Status(Enum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    SAME_DIRECTION = "same direction, interval holds 0"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTABLE = "not testable at this scale"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What our runs say of a claim."""

    status: Status
    figures: str


Claim = Callable[[Results], Outcome]


@dataclass(frozen=True, slots=True)
class _Difference:
    name: str
    values: tuple[float, ...]
    of: int = 1
    """Differences of which this one was picked: its interval is as much wider (Bonferroni)."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the t-interval of the mean, 95 % for all that it was picked of; None for a single value."""
        if len(self.values) < 2:
            return None
        t = t_quantile(len(self.values) - 1, 1 - 0.05 / self.of)
        half = t * stdev(self.values) / len(self.values) ** 0.5
        return fmean(self.values) - half, fmean(self.values) + half

    @property
    def status(self) -> Status:
        if fmean(self.values) <= 0:
            return Status.NOT_REPRODUCED
        return Status.REPRODUCED if self.interval and self.interval[0] > 0 else Status.SAME_DIRECTION

    def __str__(self) -> str:
        told = f"{self.name} {fmean(self.values):+.3g}"
        return f"{told} ({self.interval[0]:+.3g} to {self.interval[1]:+.3g})" if self.interval else told


def ordered(metric: str, *arms: str) -> Claim:
    """Claim that each arm ends worse than the one before it."""

    def claim(results: Results) -> Outcome:
        pairs = [(better, worse) for better, worse in pairwise(arms)]
        found = [_between(results, metric, worse, better) for better, worse in pairs]
        return _outcome(results, metric, found)

    return claim


def moves(metric: str, arm: str, *, towards: bool = True) -> Claim:
    """Claim that an arm ends nearer to collapse (or farther from it) than its generation 0 was."""

    def claim(results: Results) -> Outcome:
        sign = 1 if towards else -1
        changes = tuple(sign * moved for moved in _moved(results, metric, arm).values())
        return _outcome(results, metric, [_Difference(f"{arm} since generation 0", changes)])

    return claim


def within(metric: str, arm: str, beside: str, *, share: float) -> Claim:
    """Claim that an arm moves by less than `share` of what another one moves, seed by seed."""

    def claim(results: Results) -> Outcome:
        moved = [_moved(results, metric, one) for one in (beside, arm)]
        seeds = sorted(moved[0].keys() & moved[1].keys())
        room = tuple(share * moved[0][seed] - moved[1][seed] for seed in seeds)
        return _outcome(results, metric, [_Difference(f"{share:g} of {beside} minus {arm}", room)])

    return claim


def seen_apart(metrics: Sequence[str], *arms: str) -> Claim:
    """Claim that arms move by different amounts: two of them by one of the metrics. All pairs asked are counted."""

    def claim(results: Results) -> Outcome:
        asked = len(metrics) * comb(len(arms), 2)
        found = [(metric, pair) for metric in metrics for pair in _pairs(results, metric, arms, asked)]
        order = list(Status)
        metric, best = min(found, key=lambda one: order.index(one[1].status) if one[1].values else len(order))
        return _outcome(results, metric, [best])

    return claim


def _pairs(results: Results, metric: str, arms: Sequence[str], asked: int) -> Iterator[_Difference]:
    moved = {arm: _moved(results, metric, arm) for arm in arms}
    for one, other in combinations(arms, 2):
        seeds = sorted(moved[one].keys() & moved[other].keys())
        values = tuple(moved[one][seed] - moved[other][seed] for seed in seeds)
        # Either may be the larger one: the claim is that they differ.
        sign = -1 if values and fmean(values) < 0 else 1
        name = f"{one} against {other}"
        yield _Difference(name, tuple(sign * value for value in values), asked)


def stays(arm: str) -> Claim:
    """Claim that an arm is never called WARNING or COLLAPSE; where it could not be judged, nothing is said."""

    def claim(results: Results) -> Outcome:
        said = [verdict for lane in lanes_of(results, arm) for verdict in lane.verdicts if verdict]
        if not said:
            return Outcome(status=Status.NOT_RUN, figures="")
        told = ", ".join(f"{said.count(verdict)} {verdict}" for verdict in dict.fromkeys(said))
        if {"WARNING", "COLLAPSE"} & set(said):
            return Outcome(status=Status.NOT_REPRODUCED, figures=f"{arm}: {told}")
        judged = "STABLE" in said
        return Outcome(status=Status.REPRODUCED if judged else Status.NOT_TESTABLE, figures=f"{arm}: {told}")

    return claim


def selects_people(arm: str, least: float) -> Claim:
    """Claim that at least this share of what an arm selects was written by people, in every generation."""

    def claim(results: Results) -> Outcome:
        shares = [share for lane in lanes_of(results, arm) for share in lane.human_share]
        if not shares:
            return Outcome(status=Status.NOT_RUN, figures="")
        status = Status.REPRODUCED if min(shares) >= least else Status.NOT_REPRODUCED
        return Outcome(status=status, figures=f"human share {min(shares):.2f} to {max(shares):.2f}")

    return claim


def all_of(*claims: Claim) -> Claim:
    """Claim several things at once: the outcome is that of the weakest."""

    def claim(results: Results) -> Outcome:
        found = [one(results) for one in claims]
        order = list(Status)
        status = max((one.status for one in found), key=order.index)
        return Outcome(status=status, figures="; ".join(one.figures for one in found if one.figures))

    return claim


def not_testable(reason: str) -> Claim:
    """Say why our runs cannot answer."""
    return lambda _: Outcome(status=Status.NOT_TESTABLE, figures=reason)


def _between(results: Results, metric: str, worse: str, better: str) -> _Difference:
    sides = [
        {lane.seed: ends[1] for lane in lanes_of(results, a) if (ends := _ends(lane, metric))} for a in (worse, better)
    ]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    values = tuple(rising(metric) * (sides[0][seed] - sides[1][seed]) for seed in seeds)
    return _Difference(f"{worse} beyond {better}", values)


def _moved(results: Results, metric: str, arm: str) -> dict[int, float]:
    """Return by seed how far an arm has moved towards collapse since its generation 0."""
    ends = {lane.seed: found for lane in lanes_of(results, arm) if (found := _ends(lane, metric))}
    return {seed: rising(metric) * (last - first) for seed, (first, last) in ends.items()}


def _ends(lane: Lane, metric: str) -> tuple[float, float] | None:
    """Return the first and the last value of a metric, or of the effect of a family."""
    line = next((line for line in (*lane.lines, *lane.effects) if line.metric == metric), None)
    return (line.values[0], line.values[-1]) if line and len(line.values) > 1 else None


def _outcome(results: Results, metric: str, found: Sequence[_Difference]) -> Outcome:
    if any(not one.values for one in found) and not results.lanes:
        return Outcome(status=Status.NOT_RUN, figures="")
    if any(not one.values for one in found):
        return Outcome(status=Status.NOT_TESTABLE, figures=f"{metric}: not on equal amounts of words in all arms")
    order = list(Status)
    status = max((one.status for one in found), key=order.index)
    return Outcome(status=status, figures=f"{metric}: " + "; ".join(map(str, found)))


def ends_told(results: Results, arm: str, metric: str) -> str:
    """Return the mean of a metric at the beginning and at the end of an arm, for a table."""
    ends = [found for lane in lanes_of(results, arm) if (found := _ends(lane, metric))]
    if not ends:
        return "not measured"
    return f"{figure(fmean(a for a, _ in ends))} to {figure(fmean(b for _, b in ends))}"
