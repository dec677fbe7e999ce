"""Several runs side by side: tidy tables, severity, the cross-dataset matrix, the page."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pa_parquet
import pytest

from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.runs import ArmSpec
from ouroscope.records.selection import Composition, Selected, SelectionOrder, SelectionRule, SelectionSpec
from services.coordinator.plan import synthetic_ratio
from services.coordinator.report.view import Point, RunView, value_of
from services.coordinator.study import matrix, severity, tidy
from services.coordinator.study.export import write_tables
from services.coordinator.study.page import render_study
from services.coordinator.study.view import Across, Part, Study, change, mean_of, trained_share
from tests.html_reader import Reader
from tests.report_example import METRICS, example_view

from .fakes import made


def study_of(*views: RunView) -> Study:
    """Return a study of made-up runs; each generation of an arm was examined on two domains."""
    return Study(parts=tuple(Part(view=view, across=across_of(view)) for view in views), metrics=METRICS, budget=20_000)


def across_of(view: RunView) -> tuple[Across, ...]:
    """Say that every model does on `wiki` and `news` what it does at home."""
    return tuple(
        Across(arm=point.arm, seed=point.seed, number=point.number, domain=domain, report=point.report)
        for point in view.points
        if point.report is not None
        for domain in ("wiki", "news")
    )


def value(point: Point, metric: str) -> float:
    """Return what was measured of a point."""
    found = value_of(point.report, metric)
    assert found is not None
    return found[0]


@pytest.fixture(scope="module")
def study() -> Study:
    """Return one run of three arms and three seeds."""
    return study_of(example_view())


def test_a_mean_has_the_standard_error_over_seeds_and_none_for_a_single_one() -> None:
    mean = mean_of([1.0, 2.0, 6.0])
    assert mean is not None
    assert mean.value == 3.0
    # Standard deviation of 1, 2, 6 is sqrt(7); over the square root of three seeds.
    assert mean.error == pytest.approx(math.sqrt(7 / 3))
    single = mean_of([1.0])
    assert single is not None
    assert (single.error, single.lower) == (None, None)
    assert mean_of([]) is None


def test_a_change_is_taken_seed_by_seed_from_the_control_at_the_same_generation(study: Study) -> None:
    (part,) = study.parts
    arm = next(arm for arm in part.spec.arms if arm.name == "replace")
    last = part.view.measured("replace")[-1]
    expected = [
        value(part.view.of("replace", last)[seed], "types") - value(part.view.of("human", last)[seed], "types")
        for seed in range(3)
    ]
    assert change(part, arm, "types") == pytest.approx(expected)


def test_an_arm_without_a_control_is_taken_from_its_own_beginning(study: Study) -> None:
    (part,) = study.parts
    human = next(arm for arm in part.spec.arms if arm.name == "human")
    last = part.view.measured("human")[-1]
    first = [value(point, "types") for point in part.view.of("human", 0)]
    expected = [
        value(point, "types") - before for point, before in zip(part.view.of("human", last), first, strict=True)
    ]
    assert change(part, human, "types") == pytest.approx(expected)


def test_severity_stands_at_the_share_of_synthetic_tokens_that_the_arm_learnt_from(study: Study) -> None:
    (part,) = study.parts
    spots = {spot.name: spot for spot in severity.metric_spots(study, "types")}
    for arm in part.spec.arms:
        ratios = [synthetic_ratio(part.spec, arm, j) for j in range(1, part.spec.generations + 1)]
        assert spots[arm.name].share == pytest.approx(sum(ratios) / len(ratios))
    assert spots["human"].share == 0


def test_a_line_joins_arms_of_one_way_of_learning_and_tells_others_apart(study: Study) -> None:
    (part,) = study.parts
    surprising = SelectionSpec(rule=SelectionRule.SURPLEXITY, order=SelectionOrder.LOWEST)
    ways = {"human": ArmSpec(name="human", protocol="human")}
    ways["replace"] = ArmSpec(name="replace", protocol="replace", real_share=0.5)

    def groups(**arms: ArmSpec) -> list[str]:
        spec = replace(part.spec, arms=tuple(arms.values()))
        run = replace(part.view.run, spec=spec)
        one = replace(part, view=replace(part.view, run=run, points=()))
        return severity.groups_of(replace(study, parts=(one,)))

    assert groups(**ways, less=replace(ways["replace"], name="less", real_share=0.25)) == ["all text"]
    chosen = replace(ways["replace"], name="chosen", protocol="accumulate-subsample", selection=surprising)
    assert groups(**ways, chosen=chosen) == ["human", "replace", "accumulate-subsample, surplexity lowest"]


def test_what_was_really_chosen_counts_before_what_the_protocol_says(study: Study) -> None:
    (part,) = study.parts
    selected = Selected(
        corpus=made(ArtifactKind.CORPUS, "chosen"),
        pool=Composition(documents=100, human_share=0.5),
        chosen=Composition(documents=20, human_share=0.9, surplexity=(1.0, 2.0, 3.0, 4.0, 5.0)),
    )
    points = tuple(
        replace(p, generation=replace(p.generation, selections=(selected,), training=(selected.corpus,)))
        for p in part.view.points
    )
    chosen = replace(part, view=replace(part.view, points=points))
    arm = next(arm for arm in part.spec.arms if arm.name == "replace")
    written = 1 - part.spec.prefix_tokens(arm) / part.spec.document_tokens
    assert trained_share(chosen, arm) == pytest.approx(0.1 * written)
    rows = [row for row in tidy.selection_rows(replace(study, parts=(chosen,))) if row.side == "chosen"]
    assert {(row.human_share, row.surplexity_median) for row in rows} == {(0.9, 3.0)}


def test_the_matrix_has_one_cell_per_arm_and_domain_and_is_zero_for_what_did_not_move(study: Study) -> None:
    (part,) = study.parts
    still = tuple(replace(one, report=part.across[0].report, number=one.number) for one in part.across)
    found = matrix.cells(replace(study, parts=(replace(part, across=still),)), ["types"])
    assert sorted((cell.arm, cell.domain) for cell in found) == sorted(
        (arm.name, domain) for arm in part.spec.arms for domain in ("wiki", "news")
    )
    assert all(cell.change.value == 0 for cell in found)


def test_a_domain_that_was_looked_at_once_has_no_change(study: Study) -> None:
    (part,) = study.parts
    once = tuple(one for one in part.across if one.number == 0)
    assert matrix.cells(replace(study, parts=(replace(part, across=once),))) == []


def test_tables_are_written_as_csv_and_parquet_with_the_same_rows(study: Study, tmp_path: Path) -> None:
    files = write_tables(study, tmp_path)
    assert {path.name for path in files} == {
        f"{name}.{kind}" for name in ("values", "means", "effects", "selections") for kind in ("csv", "parquet")
    }
    for name, rows in (("values", tidy.value_rows), ("means", tidy.mean_rows), ("effects", tidy.effect_rows)):
        expected = len(list(rows(study)))
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == expected > 0
        assert pa_parquet.read_table(tmp_path / f"{name}.parquet").num_rows == expected


def test_a_mean_row_is_the_mean_of_its_value_rows(study: Study) -> None:
    values = [r for r in tidy.value_rows(study) if (r.text, r.domain, r.metric) == ("model", "", "types")]
    for row in tidy.mean_rows(study):
        if row.metric == "types":
            seeds = [v.value for v in values if (v.arm, v.generation) == (row.arm, row.generation)]
            assert (row.mean, row.seeds) == (pytest.approx(sum(seeds) / len(seeds)), len(seeds))


def test_the_page_shows_every_run_and_arm_and_runs_no_script() -> None:
    first = example_view()
    second = replace(first, run=replace(first.run, name="runs/<script>alert(1)</script>"))
    html = render_study(study_of(first, second), "two runs & more")
    page = Reader(html)
    assert "<script" not in html
    for part in study_of(first, second).parts:
        for arm in part.spec.arms:
            assert f"{part.name}: {arm.name}" in page.text
    assert "Trained on one domain, asked about another" in page.text


def test_a_run_of_which_nothing_is_known_is_named_as_left_out(study: Study) -> None:
    assert "Nothing was measured yet in lonely" in render_study(replace(study, left_out=("lonely",)), "study")
