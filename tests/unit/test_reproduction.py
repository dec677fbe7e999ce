"""Claims of the literature asked of results made by hand, and the page that tells the outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reproduction.claims import (
    Status,
    all_of,
    moves,
    not_testable,
    ordered,
    seen_apart,
    selects_people,
    stays,
    within,
)
from benchmarks.reproduction.findings import FINDINGS
from benchmarks.reproduction.page import reproduction_page
from benchmarks.reproduction.results import ArmFacts, Lane, Line, Results, read_results, write_results


def lane(arm: str, seed: int, metric: str, *values: float, run: str = "exp", **more: object) -> Lane:
    """Return one arm under one seed with one metric."""
    given = {"effects": (), "verdicts": (), **more}
    return Lane(
        run=run,
        arm=arm,
        seed=seed,
        lines=(Line(metric=metric, generations=tuple(range(len(values))), values=values),),
        **given,
    )  # type: ignore[arg-type]


def results(*lanes: Lane) -> Results:
    """Return results of an experiment with these lanes."""
    facts = tuple(
        ArmFacts(run="exp", arm=arm, protocol="replace", domains=(), synthetic_share=0.5, control="", verdict="")
        for arm in dict.fromkeys(one.arm for one in lanes)
    )
    return Results(experiment="exp", command="do it", machine="here", settings="small", arms=facts, lanes=lanes)


def three(arm: str, metric: str, *ends: float) -> list[Lane]:
    """Return three seeds of an arm that begin at 10 and end there."""
    return [lane(arm, seed, metric, 10.0, end) for seed, end in enumerate(ends)]


def test_an_order_is_reproduced_where_every_seed_agrees_closely() -> None:
    found = results(
        *three("good", "heldout_perplexity", 11, 11.1, 10.9), *three("bad", "heldout_perplexity", 15, 15.2, 14.9)
    )
    assert ordered("heldout_perplexity", "good", "bad")(found).status is Status.REPRODUCED
    assert ordered("heldout_perplexity", "bad", "good")(found).status is Status.NOT_REPRODUCED


def test_a_mean_on_the_claimed_side_whose_interval_holds_0_is_not_called_reproduced() -> None:
    found = results(*three("good", "types", 9, 10, 8), *three("bad", "types", 8.5, 7, 8.9))
    # Types fall under collapse, so `bad` has fewer; differences 0.5, 3 and -0.9 have a t-interval of -4.1 to 5.8.
    assert ordered("types", "good", "bad")(found).status is Status.SAME_DIRECTION


def test_a_move_is_signed_by_the_direction_of_the_metric() -> None:
    found = results(*three("arm", "types", 5, 5.1, 4.9))
    assert moves("types", "arm")(found).status is Status.REPRODUCED
    assert moves("types", "arm", towards=False)(found).status is Status.NOT_REPRODUCED


def test_one_seed_shows_a_direction_and_no_more() -> None:
    found = results(lane("arm", 0, "types", 10.0, 5.0))
    assert moves("types", "arm")(found).status is Status.SAME_DIRECTION


def test_an_arm_that_was_not_run_is_said_to_be_missing() -> None:
    found = results(*three("arm", "types", 5, 5, 5))
    assert ordered("types", "arm", "nobody")(found).status is Status.NOT_TESTABLE
    assert moves("mattr", "arm")(found).status is Status.NOT_TESTABLE
    assert stays("arm")(found).status is Status.NOT_RUN


def test_several_claims_are_as_true_as_the_weakest() -> None:
    found = results(*three("arm", "types", 5, 5.1, 4.9))
    both = all_of(moves("types", "arm"), moves("types", "arm", towards=False))
    assert both(found).status is Status.NOT_REPRODUCED


def test_an_arm_is_within_a_share_of_another_seed_by_seed() -> None:
    found = results(*three("calm", "types", 9.9, 10.0, 9.8), *three("wild", "types", 5, 5.2, 4.9))
    assert within("types", "calm", "wild", share=0.25)(found).status is Status.REPRODUCED
    assert within("types", "wild", "calm", share=0.25)(found).status is Status.NOT_REPRODUCED


def test_arms_are_apart_where_one_pair_is() -> None:
    found = results(
        *three("a", "types", 5, 5.1, 4.9), *three("b", "types", 5.1, 5, 5), *three("c", "types", 8, 8.1, 7.9)
    )
    assert seen_apart(("types",), "a", "b", "c")(found).status is Status.REPRODUCED
    assert seen_apart(("types",), "a", "b")(found).status is not Status.REPRODUCED


def test_verdicts_and_selections_are_read_from_every_seed() -> None:
    calm = lane("calm", 0, "types", 1.0, 1.0, verdicts=("", "STABLE"), human_share=(1.0, 0.95))
    wild = lane("wild", 0, "types", 1.0, 1.0, verdicts=("", "COLLAPSE"), human_share=(1.0, 0.5))
    found = results(calm, wild)
    assert [stays(arm)(found).status for arm in ("calm", "wild")] == [Status.REPRODUCED, Status.NOT_REPRODUCED]
    assert [selects_people(arm, 0.9)(found).status for arm in ("calm", "wild")] == [
        Status.REPRODUCED,
        Status.NOT_REPRODUCED,
    ]


def test_an_arm_of_one_of_several_runs_is_named_by_how_its_run_ends() -> None:
    found = results(lane("arm", 0, "types", 10.0, 5.0, run="exp-25"), lane("arm", 0, "types", 10.0, 9.0, run="exp-75"))
    assert "-1" in moves("types", "75/arm", towards=False)(found).figures


def test_results_survive_their_file(tmp_path: Path) -> None:
    made = results(*three("arm", "types", 5, 5.1, 4.9))
    write_results(made, tmp_path)
    assert read_results("exp", tmp_path) == made
    assert read_results("never", tmp_path) is None


def test_the_page_tells_every_finding_with_its_source_and_outcome() -> None:
    page = reproduction_page([])
    assert all(finding.told in page and finding.source in page for finding in FINDINGS)
    assert Status.NOT_RUN.value in page
    assert Status.NOT_TESTABLE.value in page


def test_the_page_shows_a_table_of_every_experiment_that_was_run() -> None:
    page = reproduction_page([results(*three("arm", "types", 5, 5.1, 4.9))])
    assert "### exp" in page
    assert "| arm | replace | 50% | generation 0 |" in page


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.told[:40])
def test_a_finding_has_an_experiment_or_a_reason(finding) -> None:
    outcome = finding.claim(results())
    assert (outcome.status is Status.NOT_TESTABLE) == (not finding.experiment)
    assert not_testable("why")(results()).figures == "why"
