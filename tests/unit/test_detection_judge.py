"""How the detection benchmark counts: verdicts on sequences, single thresholds beside them, leads with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.coverage import clopper_pearson
from benchmarks.detection.figures import Heard, LoopResult, load_results
from benchmarks.detection.judge import HumanSequence, Step, first, is_alarm, is_collapse, judged_again, replay
from benchmarks.detection.leads import lead, over_loops
from benchmarks.detection.record import Value
from benchmarks.detection.rivals import RIVALS, Rival, Rule, tuned
from benchmarks.detection.table import ANY, COLLAPSE, alarm_of, over_seeds, tables, with_tables
from ouroscope.canonical import from_plain, to_plain
from ouroscope.records.analysis import Family, FamilyEffect, MetricValue, Report, Verdict, VerdictReason
from services.analyzer.jackknife import GROUPS
from services.analyzer.side import Side
from services.analyzer.spread import shipped_spread

FALLS = Rule(metric="types", bound=0.2, way=-1)
MOVES = Rule(metric="types", bound=0.2, way=0)


def side(effect: float) -> Side:
    """Return a model that is so many human spreads surer than the baseline, without any noise."""
    unit = shipped_spread().deviation("top1_probability", 0, 0.3)
    value = 0.3 + effect * unit
    metric = MetricValue(id="top1_probability", value=value, replicates=(value,) * GROUPS)
    return Side(report=Report(analyzer_version="2", prompts=200, model_metrics=(metric,)))


def told(effects: Sequence[float]) -> str:
    """Return the first letters of the verdicts on a sequence."""
    found = replay(side(0), enumerate(map(side, effects), 1), shipped_spread())
    return "".join(one.verdict.value[0] for one in found)


def sequence(
    values: Sequence[float | None], verdicts: Sequence[Verdict] = (), base: float | None = 100.0
) -> HumanSequence:
    """Return a sequence in which `types` had these values."""
    said = verdicts or [Verdict.STABLE] * len(values)
    steps = [
        Step(
            generation=number,
            verdict=verdict,
            reason=VerdictReason.WITHIN_MARGIN,
            budget=10_000,
            values=(Value(id="types", value=value),),
        )
        for number, (value, verdict) in enumerate(zip(values, said, strict=True), 1)
    ]
    return HumanSequence(
        kind="plain",
        baseline=12_000,
        half="reporting",
        domain="news",
        number=0,
        baseline_words=12_000,
        words=(12_000,) * len(values),
        values=(Value(id="types", value=base),),
        steps=tuple(steps),
    )


def loop(seed: int, alarm: int | None, perplexity: int | None, arm: str = "replace-50") -> LoopResult:
    """Return a loop with these first alarms."""
    heard = (Heard(name="perplexity +10 %", generation=perplexity),)
    return LoopResult(recipe="slow", arm=arm, seed=seed, alarm=alarm, collapse=None, rivals=heard, moments=())


def test_a_sequence_beyond_the_margin_is_warned_of_and_collapse_when_it_lasts() -> None:
    assert told([0, 2, 2, 2, 2]) == "SWWCC"


def test_a_return_below_the_margin_begins_the_count_anew() -> None:
    assert told([2, 2, 0, 2, 2, 2]) == "WWSWWC"


def test_what_is_said_of_a_generation_does_not_depend_on_later_ones() -> None:
    effects = [0, 2, 2, 5, 2, 0]
    assert all(told(effects[:count]) == told(effects)[:count] for count in range(len(effects)))


def test_numbers_may_leave_gaps() -> None:
    found = replay(side(0), [(1, side(2)), (3, side(2)), (4, side(2))], shipped_spread())
    assert [one.verdict for one in found] == [Verdict.WARNING, Verdict.WARNING, Verdict.COLLAPSE]


@pytest.mark.parametrize(
    ("novelty", "length", "after"),
    [
        (-0.02, 1.0, Verdict.COLLAPSE),
        (0.0, 1.0, Verdict.WARNING),
        (-0.02, 0.3, Verdict.WARNING),
        (None, None, Verdict.COLLAPSE),
    ],
)
def test_a_kept_sequence_is_judged_again_by_the_rules_of_today(
    novelty: float | None, length: float | None, after: Verdict
) -> None:
    beyond = FamilyEffect(family=Family.TEXT, effect=2.0, lower=1.5, upper=2.5, p_value=0.0, metrics=())
    kept = sequence([100.0] * 3, [Verdict.WARNING, Verdict.WARNING, Verdict.COLLAPSE])
    steps = [replace(step, families=(beyond,), excess_novelty=novelty, length_ratio=length) for step in kept.steps]
    again = judged_again(replace(kept, steps=tuple(steps))).steps
    assert [step.verdict for step in again] == [Verdict.WARNING, Verdict.WARNING, after]


def test_what_was_no_alarm_stays_what_it_was() -> None:
    kept = sequence([100.0] * 2, [Verdict.STABLE, Verdict.INSUFFICIENT_DATA])
    assert judged_again(kept) == kept


def test_the_first_alarm_is_the_first_generation_with_a_warning_or_collapse() -> None:
    said = [Verdict.INSUFFICIENT_DATA, Verdict.STABLE, Verdict.WARNING, Verdict.COLLAPSE]
    steps = sequence([100.0] * 4, said).steps
    assert (first(steps, is_alarm), first(steps, is_collapse)) == (3, 4)
    assert first(steps[:2], is_alarm) is None


def test_a_sequence_survives_its_file() -> None:
    one = sequence([90.0, None], [Verdict.STABLE, Verdict.WARNING])
    assert from_plain(HumanSequence, to_plain(one)) == one


def test_a_threshold_speaks_at_the_first_generation_beyond_it_and_not_on_it() -> None:
    rival = Rival(name="types", rules=(FALLS,))
    assert rival.first_alarm(sequence([90.0, 80.0, 79.9, 50.0])) == 3
    assert rival.first_alarm(sequence([90.0, 80.0])) is None


@pytest.mark.parametrize(("rule", "alarm"), [(FALLS, None), (MOVES, 1)])
def test_a_rule_looks_one_way_unless_it_looks_both_ways(rule: Rule, alarm: int | None) -> None:
    assert Rival(name="types", rules=(rule,)).first_alarm(sequence([130.0])) == alarm


@pytest.mark.parametrize("one", [sequence([None, None]), sequence([1.0], base=None), sequence([1.0], base=0.0)])
def test_a_metric_that_is_not_there_raises_no_alarm(one: HumanSequence) -> None:
    assert Rival(name="types", rules=(MOVES,)).first_alarm(one) is None


def test_any_of_several_rules_speaks_no_later_than_each_of_them() -> None:
    one = sequence([95.0, 85.0, 60.0])
    rules = (FALLS, Rule(metric="types", bound=0.1, way=-1))
    assert Rival(name="any", rules=rules).first_alarm(one) == 2
    assert [Rival(name="one", rules=(rule,)).first_alarm(one) for rule in rules] == [3, 2]


def test_a_scale_changes_nothing_for_a_threshold() -> None:
    values = [95.0, 85.0, 75.0]
    scaled = sequence([3 * value for value in values], base=300.0)
    assert all(rival.first_alarm(sequence(values)) == rival.first_alarm(scaled) for rival in RIVALS)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
def test_a_tuned_bound_is_broken_by_no_more_human_sequences_than_allowed_and_no_smaller_one_is(rate: float) -> None:
    human = [sequence([100.0 - number / 10, 100.0]) for number in range(200)]
    rival = tuned(Rival(name="types", rules=(FALLS,)), human, rate)
    assert rival is not None
    assert sum(rival.first_alarm(one) is not None for one in human) == round(rate * len(human))


def test_without_the_metric_or_with_several_rules_no_bound_can_be_tuned() -> None:
    assert tuned(Rival(name="types", rules=(FALLS,)), [sequence([None])], 0.01) is None
    assert tuned(Rival(name="any", rules=(FALLS, MOVES)), [sequence([1.0])], 0.01) is None


def test_a_lead_is_the_other_generation_minus_ours() -> None:
    found = lead([2, 3], [6, 5], last=10)
    assert (found.of.mean, found.never, found.other_never) == (3.0, 0, 0)


def test_a_censored_alarm_counts_as_the_generation_after_the_last_and_is_told() -> None:
    found = lead([4, None], [None, 5], last=10)
    assert found.of.mean == (7 - 6) / 2
    assert (found.loops, found.never, found.other_never) == (2, 1, 1)


def test_an_alarm_has_no_lead_over_itself() -> None:
    alarms = [3, None, 7]
    assert lead(alarms, alarms, last=10).of == over_loops([0, 0, 0])


def test_the_interval_over_loops_holds_the_mean_and_stays_within_the_loops() -> None:
    found = over_loops([0.0, 2.0, 3.0, 7.0])
    assert 0.0 <= found.lower < found.mean < found.upper <= 7.0
    assert found.mean == 3.0


def test_more_loops_narrow_the_interval() -> None:
    few, many = over_loops([0.0, 4.0] * 4), over_loops([0.0, 4.0] * 16)
    assert many.upper - many.lower < few.upper - few.lower


def test_the_interval_over_loops_is_that_of_all_resamples() -> None:
    # Of two loops four resamples are equally likely: 0, 5, 5 and 10.
    found = over_loops([0.0, 10.0])
    assert (found.lower, found.mean, found.upper) == (0.0, 5.0, 10.0)


def test_several_loops_of_one_seed_are_one_piece_of_evidence() -> None:
    once = [loop(seed, alarm=2 + seed % 3, perplexity=7) for seed in range(6)]
    again = [loop(one.seed, one.alarm, 7, arm="replace-75") for one in once]
    assert over_seeds(once + again, ANY) == over_seeds(once, ANY)


def test_alarms_of_a_loop_are_found_by_name() -> None:
    one = loop(0, alarm=2, perplexity=7)
    assert [alarm_of(one, name) for name in (ANY, COLLAPSE, "perplexity +10 %", "unheard")] == [2, None, 7, None]


@pytest.mark.parametrize(
    ("count", "of", "bounds"),
    [
        # Conover (1971), p. 97f: the example of R's binom.test.
        (682, 925, (0.7076683, 0.7654066)),
        # By hand: the upper bound of none of n is 1 - .025^(1/n).
        (0, 300, (0.0, 1 - 0.025 ** (1 / 300))),
    ],
)
def test_bounds_of_clopper_and_pearson(count: int, of: int, bounds: tuple[float, float]) -> None:
    assert clopper_pearson(count, of) == pytest.approx(bounds, abs=1e-7)


def test_the_tables_of_the_page_are_those_of_the_committed_figures(root: Path) -> None:
    page = (root / "docs/detection.md").read_text()
    assert with_tables(page, tables(*load_results())) == page, "run `python -m benchmarks.detection.table --into PAGE`"
