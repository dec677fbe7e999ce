"""The decisions between the stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import (
    CapabilityMissing,
    InvalidRequest,
    NotFound,
    OuroscopeError,
    PreconditionFailed,
    Unavailable,
)
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.generation import BackendInfo, Capability, SamplingSpec
from ouroscope.records.runs import ArmSpec, DatasetSpec, EvaluationSpec, PromptSelection, RunSpec, Start
from ouroscope.records.training import LoraSpec, Method, Recipe
from services.coordinator import plan
from services.coordinator.plan import Lane, Turn

from .fakes import made, small_spec

unhurried = settings(max_examples=40, deadline=None)
"""A busy machine is no failure."""

SPEC = small_spec()
HUMAN, REPLACE = SPEC.arms


def specs() -> st.SearchStrategy[RunSpec]:
    """Draw specifications that differ in their size and root."""
    return st.builds(
        small_spec,
        seed=st.integers(0, 2**63 - 1),
        seeds=st.integers(1, 4),
        generations=st.integers(1, 6),
        documents=st.integers(20, 50),
        prompt_selection=st.sampled_from(PromptSelection),
    )


def turn(number: int) -> Turn:
    """Return an examined generation."""
    return Turn(model=made(ArtifactKind.MODEL, number), report=made(ArtifactKind.REPORT, number))


@unhurried
@given(spec=specs(), seed=st.integers(0, 3))
def test_fresh_slices_of_all_generations_are_disjoint(spec: RunSpec, seed: int) -> None:
    windows = [plan.human_window(spec, HUMAN, seed, j) for j in range(spec.generations + 1)]
    taken = [set(range(w.offset, w.offset + w.count)) for w in windows]
    assert len(set.union(*taken)) == sum(map(len, taken))
    assert len({w.seed for w in windows}) == 1


@unhurried
@given(spec=specs())
def test_fixed_prompts_are_those_of_generation_0_and_fresh_ones_are_what_the_human_arm_learns_from(
    spec: RunSpec,
) -> None:
    for j in range(spec.generations + 1):
        prompts = plan.prompt_window(spec, REPLACE, 0, j)
        fixed = spec.prompt_selection is PromptSelection.FIXED
        assert prompts == plan.human_window(spec, REPLACE, 0, 0 if fixed else j)


@unhurried
@given(spec=specs())
def test_no_two_derived_seeds_of_a_run_are_the_same(spec: RunSpec) -> None:
    seeds = [
        made_up
        for seed in range(spec.seeds)
        for j in range(spec.generations + 1)
        for made_up in (plan.sampling(spec, REPLACE, seed, j).seed, plan.recipe(spec, seed, j).seed)
    ]
    seeds += [plan.human_window(spec, REPLACE, seed, 0).seed for seed in range(spec.seeds)]
    seeds += [plan.sample_window(spec, REPLACE).seed]
    seeds += [plan.sample_sampling(spec, REPLACE, seed).seed for seed in range(spec.seeds)]
    assert len(set(seeds)) == len(seeds)


@unhurried
@given(spec=specs(), j=st.integers(0, 6))
def test_arms_see_the_same_prompts_under_the_same_noise(spec: RunSpec, j: int) -> None:
    assert plan.prompt_window(spec, HUMAN, 0, j) == plan.prompt_window(spec, REPLACE, 0, j)
    assert plan.sampling(spec, HUMAN, 0, j) == plan.sampling(spec, REPLACE, 0, j)


@unhurried
@given(spec=specs(), share=st.sampled_from([0.25, 0.5, 0.75]))
def test_prefix_and_continuation_add_up_to_the_document(spec: RunSpec, share: float) -> None:
    arm = ArmSpec(name="other", protocol="replace", real_share=share)
    sampling = plan.sampling(spec, arm, 0, 1)
    assert sampling.min_new_tokens == sampling.max_new_tokens
    assert plan.prompt_window(spec, arm, 0, 1).prefix_tokens + sampling.max_new_tokens == spec.document_tokens


@unhurried
@given(spec=specs())
def test_the_last_window_is_the_furthest_of_all(spec: RunSpec) -> None:
    windows = [
        plan.human_window(spec, arm, seed, j)
        for arm in spec.arms
        for seed in range(spec.seeds)
        for j in range(spec.generations + 1)
    ]
    last = plan.last_window(spec)
    assert max(w.offset + w.count for w in windows) == last.offset + last.count


@unhurried
@given(spec=specs())
def test_an_arm_stops_after_its_base_model_and_as_many_generations_as_asked_for(spec: RunSpec) -> None:
    history = [turn(j) for j in range(spec.generations + 1)]
    assert all(plan.reason_to_stop(spec, history[:j]) is None for j in range(spec.generations + 1))
    assert plan.reason_to_stop(spec, history)


def test_only_the_last_generation_is_not_trained_further() -> None:
    assert [("fine_tune" in plan.stages_of(SPEC, SPEC.arms[0], j)) for j in range(4)] == [True, True, True, False]
    assert [plan.is_last(SPEC, j) for j in range(4)] == [False, False, False, True]


def test_samples_that_nobody_wants_are_no_stage() -> None:
    without = replace(SPEC, evaluation=replace(SPEC.evaluation, samples=0))
    assert "samples" not in plan.stages_of(without, without.arms[0], 0)


def test_generations_count_base_models_arms_and_seeds() -> None:
    assert plan.generations_total(small_spec(seeds=3, generations=5)) == 2 * 3 * 6


def test_lanes_stand_by_seed_so_that_an_arm_and_its_control_go_together() -> None:
    lanes = plan.lanes_of("r", small_spec(seeds=2))
    assert [(lane.seed, lane.arm) for lane in lanes] == [(0, "human"), (0, "replace"), (1, "human"), (1, "replace")]
    assert lanes[1].workflow_id == "r/replace/0"
    assert lanes[1].generation_name(2) == "runs/r/arms/replace/seeds/0/generations/2"


def test_weights_go_on_from_the_generation_before_or_from_the_base_model() -> None:
    base, model = made(ArtifactKind.MODEL, "base"), made(ArtifactKind.MODEL, "j")
    assert plan.start_of(SPEC, base, model) == model
    assert plan.start_of(small_spec(start=Start.BASE), base, model) == base


def test_a_report_is_never_compared_with_itself_or_with_nothing() -> None:
    report = made(ArtifactKind.REPORT, 0)
    assert plan.comparison_wanted(SPEC, report, report, []) is None
    assert plan.comparison_wanted(SPEC, None, report, []) is None
    assert plan.own_baseline([]) is None
    assert plan.own_baseline([turn(0), turn(1)]) == turn(0).report


@pytest.mark.parametrize(
    ("protocol", "generation", "expected"),
    [
        ("replace", 0, 0.0),
        ("replace", 3, 0.75),
        ("human", 3, 0.0),
        # H_0, D_0, D_1, D_2 in equal parts, three quarters of each D synthetic.
        ("accumulate", 3, 0.75 * 3 / 4),
    ],
)
def test_the_synthetic_ratio_is_that_of_the_training_set(protocol: str, generation: int, expected: float) -> None:
    arm = ArmSpec(name="one", protocol=protocol, real_share=0.25)
    assert plan.synthetic_ratio(SPEC, arm, generation) == pytest.approx(expected)


def test_everything_that_is_wrong_with_a_specification_is_told_at_once() -> None:
    arms = (ArmSpec(name="a", protocol="replase"), ArmSpec(name="b", protocol="humane"))
    evaluation = EvaluationSpec(prompt_length=300)
    wrong = {"arms": arms, "model": " ", "dataset": DatasetSpec(source=""), "evaluation": evaluation}
    with pytest.raises(InvalidRequest) as caught:
        plan.validate(small_spec(**wrong, recipe=Recipe(lora=LoraSpec(keep_adapter=True))))
    fields = [problem.field for problem in caught.value.problems]
    assert fields == [
        *("arms[0].protocol", "arms[1].protocol", "model", "dataset.source"),
        *("recipe.lora.keep_adapter", "evaluation.max_tokens"),
    ]


def test_names_of_resources_are_read_part_by_part() -> None:
    assert plan.parse_lane("runs/r") == ("r", None, None, None)
    assert plan.parse_lane(Lane("r", "a", 2).generation_name(7)) == ("r", "a", 2, 7)


@pytest.mark.parametrize(
    "name", ["", "runs", "runs/", "run/r", "runs/r/arms", "runs/r/seeds/0", "runs/r/arms/a/seeds/x"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a name"):
        plan.parse_lane(name)


def test_seeds_differ_between_roots() -> None:
    windows = {plan.human_window(small_spec(seed=root), HUMAN, 0, 0).seed for root in range(50)}
    assert len(windows) == 50


BOTH = (Capability.GENERATE, Capability.SCORE)
OWN = BackendInfo(name="transformers", kind="transformers", capabilities=BOTH)
ADAPTERS = Recipe(method=Method.LORA, lora=LoraSpec(keep_adapter=True))


def pool(**changes: object) -> BackendInfo:
    return replace(BackendInfo(name="pool", kind="vllm", capabilities=BOTH, weights="adapters"), **changes)


def test_a_backend_that_writes_scores_and_takes_what_is_trained_serves_a_run() -> None:
    plan.check_backend(small_spec(backend="pool", recipe=ADAPTERS), (OWN, pool()))
    plan.check_backend(small_spec(backend="pool"), (OWN, pool(weights="reload")))
    plan.check_backend(small_spec(backend="transformers"), (OWN, pool()))


@pytest.mark.parametrize(
    ("backend", "kind", "told"),
    [
        (pool(name="poll"), NotFound, "no backend 'pool'; it has transformers, poll"),
        (pool(capabilities=(), problem="it is asleep"), Unavailable, "it is asleep"),
        (
            pool(capabilities=BOTH[:1], problem="it ignores logprobs"),
            CapabilityMissing,
            "'pool' cannot: it ignores logprobs; those that can: 'transformers'",
        ),
        (pool(weights="fixed"), PreconditionFailed, "one model only"),
    ],
)
def test_a_backend_that_cannot_serve_a_run_is_refused_with_the_reason(
    backend: BackendInfo, kind: type[OuroscopeError], told: str
) -> None:
    with pytest.raises(kind, match=told):
        plan.check_backend(small_spec(backend="pool", recipe=ADAPTERS), (OWN, backend))


def test_documents_are_as_long_as_the_real_continuation_exactly_or_at_most() -> None:
    spec = small_spec()
    exact = plan.sampling(spec, spec.arms[0], 0, 1)
    at_most = plan.sampling(replace(spec, sampling=SamplingSpec(min_new_tokens=0)), spec.arms[0], 0, 1)
    assert (exact.min_new_tokens, exact.max_new_tokens) == (12, 12)
    assert at_most == replace(exact, min_new_tokens=0)


def test_a_server_that_cannot_draw_as_asked_is_refused_with_every_setting_that_would_help() -> None:
    tgi, plain = (pool(kind=kind, weights="reload") for kind in ("tgi", "openai"))
    with pytest.raises(InvalidRequest, match=r"sampling\.min_new_tokens: set 0.*sampling\.top_k: set 0"):
        plan.check_backend(small_spec(backend="pool"), (OWN, plain))
    with pytest.raises(InvalidRequest, match=r"sampling\.min_new_tokens: set 0"):
        plan.check_backend(small_spec(backend="pool"), (OWN, tgi))
    plan.check_backend(small_spec(backend="pool", sampling=SamplingSpec(min_new_tokens=0)), (OWN, tgi))
    plan.check_backend(small_spec(backend="pool", sampling=SamplingSpec(min_new_tokens=0, top_k=0)), (OWN, plain))


def test_a_backend_that_takes_adapters_needs_a_recipe_that_keeps_them() -> None:
    for recipe in (Recipe(), Recipe(method=Method.LORA)):
        with pytest.raises(PreconditionFailed, match="keep_adapter: true"):
            plan.check_backend(small_spec(backend="pool", recipe=recipe), (OWN, pool()))
