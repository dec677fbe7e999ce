"""What an experiment would cost: counted by hand, laws of sharing and of time, bytes of known models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.records.runs import ArmSpec, EvaluationSpec, PromptSelection, RunSpec
from ouroscope.records.selection import SelectionRule, SelectionSpec
from ouroscope.records.training import BaseWeights, LoraSpec, Method, Recipe
from ouroscope_app.estimating.footprint import disk_of, memory_of, model_bytes, moved_weights, shape_of
from ouroscope_app.estimating.rates import COORDINATION, START, Rate, Rates, line, seconds_of
from ouroscope_app.estimating.work import Kind, work_of

HUMAN, REPLACE = ArmSpec(name="human", protocol="human"), ArmSpec(name="replace", protocol="replace")
SPEC = RunSpec(
    name="mine",
    arms=(HUMAN, REPLACE),
    generations=2,
    seeds=3,
    documents=100,
    document_tokens=64,
    recipe=Recipe(steps=5),
    evaluation=EvaluationSpec(prompts=20, prompt_length=10, heldout_documents=30, max_tokens=50, scored_documents=40),
)
SECOND = Rates(rates=tuple(Rate(kind=kind.value, fixed=1.0, per_unit=0.0) for kind in Kind), dataset=0.0)
"""Every request takes one second."""


def test_amounts_are_those_of_a_count_by_hand() -> None:
    work = work_of([SPEC])
    # Per seed: generation 0 is the same in both arms, generations 1 and 2 are not.
    texts = 3 * (1 + 2 * 2)
    assert work.documents == texts * 100
    assert work.total(Kind.WRITE) == texts * (100 + 6) * 48
    assert (work.count(Kind.TRAIN), work.total(Kind.TRAIN)) == (3 * 2 * 2, 3 * 2 * 2 * 5)
    assert work.count(Kind.CUT) == 3 * 3
    asked = 30 * 50 + 20 * 10
    assert work.total(Kind.SCORE) == texts * (asked + 40 * 50) + 3 * 2 * 2 * 40 * 50
    assert work.total(Kind.ANALYSE) == (texts + 3 * 3) * 100 * 48


def test_a_run_under_another_name_costs_nothing_and_another_arm_only_itself() -> None:
    again = work_of([SPEC, replace(SPEC, name="other")])
    assert again.pieces == work_of([SPEC]).pieces
    more = work_of(
        [SPEC, replace(SPEC, name="more", arms=(*SPEC.arms, replace(REPLACE, name="third", protocol="accumulate")))]
    )
    assert more.count(Kind.TRAIN) - work_of([SPEC]).count(Kind.TRAIN) == 3 * 2
    assert more.count(Kind.CUT) == work_of([SPEC]).count(Kind.CUT)


def test_what_decides_a_text_makes_it_another_piece() -> None:
    warm = replace(SPEC, sampling=replace(SPEC.sampling, temperature=2.0))
    both = work_of([SPEC, warm])
    assert both.documents == 2 * work_of([SPEC]).documents
    assert both.count(Kind.CUT) == work_of([SPEC]).count(Kind.CUT), "human text stays the same"


def test_fixed_prompts_have_one_human_reference_and_fresh_text_to_train_on() -> None:
    fixed = work_of([replace(SPEC, prompt_selection=PromptSelection.FIXED)])
    fresh = work_of([SPEC])
    assert fresh.count(Kind.ANALYSE) - fixed.count(Kind.ANALYSE) == 3 * 2
    assert fixed.count(Kind.CUT) == fresh.count(Kind.CUT)


def test_choosing_by_surplexity_scores_the_whole_pool_in_every_generation() -> None:
    arm = ArmSpec(name="s", protocol="accumulate-subsample", selection=SelectionSpec(rule=SelectionRule.SURPLEXITY))
    one = replace(SPEC, seeds=1, arms=(arm,))
    plain = replace(one, arms=(replace(arm, selection=None),))
    # Human text and D_0, then D_1 too.
    assert work_of([one]).total(Kind.SCORE) - work_of([plain]).total(Kind.SCORE) == (2 + 3) * 100 * 64


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_more_processors_never_take_longer_and_twice_as_many_save_at_most_half(
    seeds: int, runs: int, cores: int
) -> None:
    work = work_of([replace(SPEC, seeds=seeds, seed=number) for number in range(runs)])
    few, many = seconds_of(work, SECOND, cores), seconds_of(work, SECOND, 2 * cores)
    assert many <= few
    assert few - START <= 2 * (many - START) + 1e-9


def test_one_lane_on_any_machine_takes_its_stages_one_after_the_other() -> None:
    work = work_of([replace(SPEC, seeds=1, arms=(HUMAN,))])
    expected = START + len(work.pieces) + 3 * COORDINATION
    assert seconds_of(work, SECOND, 64) == pytest.approx(expected)


@given(st.floats(0, 10), st.floats(1e-6, 1))
def test_a_line_through_two_measurements_goes_through_them(fixed: float, slope: float) -> None:
    rate = line(Kind.SCORE, (10, fixed + 10 * slope), (50, fixed + 50 * slope))
    assert rate.fixed + 30 * rate.per_unit == pytest.approx(fixed + 30 * slope, abs=1e-6)


def test_a_noisy_measurement_gives_no_time_below_zero() -> None:
    assert line(Kind.SCORE, (10, 5.0), (50, 1.0)).per_unit == 0
    assert line(Kind.SCORE, (10, 0.1), (50, 5.0)).fixed == 0


def test_the_size_of_the_embedded_model_is_that_of_its_files() -> None:
    shape = shape_of("ouro-tiny")
    assert shape is not None
    # 4096 x 256 embeddings, four layers of 4 x 256^2 + 3 x 256 x 544 and two norms, one norm at the end.
    assert shape.parameters == 4096 * 256 + 4 * (4 * 256**2 + 3 * 256 * 544 + 2 * 256) + 256
    assert (shape.vocabulary, len(shape.matrices)) == (4096, 4 * 7)
    assert model_bytes(SPEC, shape) == 4 * shape.parameters
    rank = Recipe(method=Method.LORA, lora=LoraSpec(rank=2, keep_adapter=True))
    assert moved_weights(shape, rank) == 2 * 4 * (4 * 512 + 3 * (256 + 544))
    assert model_bytes(replace(SPEC, recipe=rank), shape) == 4 * moved_weights(shape, rank)


def test_memory_of_full_training_is_four_floats_a_weight() -> None:
    shape = shape_of("ouro-tiny")
    assert shape is not None
    needed = memory_of(SPEC, shape)
    assert needed["weights in training"] + needed["optimiser"] == 16 * shape.parameters
    four = Recipe(method=Method.LORA, lora=LoraSpec(base_weights=BaseWeights.FOUR_BIT))
    assert memory_of(replace(SPEC, recipe=four), shape)["weights in training"] < shape.parameters * 4


def test_disk_grows_by_a_model_with_every_fine_tuning() -> None:
    shape = shape_of("ouro-tiny")
    assert shape is not None
    one, more = ([replace(SPEC, seeds=1, generations=number)] for number in (1, 2))
    grown = disk_of(more, work_of(more), shape)["models"] - disk_of(one, work_of(one), shape)["models"]
    assert grown == 2 * 4 * shape.parameters


def test_a_model_that_is_not_here_has_no_size(tmp_path: Path) -> None:
    assert shape_of("meta-llama/Llama-2-7b-hf") is None
    assert shape_of(str(tmp_path)) is None
