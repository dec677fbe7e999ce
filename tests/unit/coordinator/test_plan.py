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
from ouroscope.records.generation import (
    BackendInfo,
    Capability,
    ChatFormat,
    PromptUnit,
    SamplingSpec,
    WindowSpec,
)
from ouroscope.records.runs import (
    ArmSpec,
    DatasetSpec,
    DomainSpec,
    EditSpec,
    EvaluationSpec,
    HumanText,
    PromptSelection,
    RunSpec,
    Start,
)
from ouroscope.records.selection import SelectionRule, SelectionSpec
from ouroscope.records.training import LoraSpec, Method, Recipe
from services.coordinator import plan
from services.coordinator.plan import Lane, Turn
from services.coordinator.protocols import PROTOCOLS, Pools

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


def arm(protocol: str, name: str = "", **given: object) -> ArmSpec:
    """Return an arm, by default called like its protocol."""
    return ArmSpec(name=name or protocol, protocol=protocol, **given)


def taken(window: WindowSpec) -> set[int]:
    """Return the numbers of the windows in a slice."""
    return set(range(window.offset, window.offset + window.count))


def turn(number: int) -> Turn:
    """Return an examined generation."""
    return Turn(model=made(ArtifactKind.MODEL, number), report=made(ArtifactKind.REPORT, number))


ARMS = [
    (HUMAN, REPLACE),
    (HUMAN, arm("replace-growing"), arm("accumulate")),
    (HUMAN, arm("replace", "one", part=0, parts=3), arm("replace", "other", part=2, parts=3)),
    (HUMAN, arm("replace-growing", "one", part=0, parts=2), arm("replace", "other", part=1, parts=2)),
]
"""Arms that ask for equal slices, for longer and longer ones, for slices of parts, and for both."""


@unhurried
@given(spec=specs(), seed=st.integers(0, 3), arms=st.sampled_from(ARMS))
def test_fresh_slices_of_all_generations_are_disjoint(spec: RunSpec, seed: int, arms: tuple[ArmSpec, ...]) -> None:
    spec = replace(spec, arms=arms)
    for one in arms:
        windows = [plan.human_window(spec, one, seed, j) for j in range(spec.generations + 1)]
        slices = [taken(window) for window in windows]
        assert len(set.union(*slices)) == sum(map(len, slices))
        assert len({w.seed for w in windows}) == 1


@unhurried
@given(spec=specs(), arms=st.sampled_from(ARMS[2:]))
def test_arms_that_read_different_parts_never_see_the_same_human_text(spec: RunSpec, arms: tuple[ArmSpec, ...]) -> None:
    spec = replace(spec, arms=arms)
    one, other = (
        set.union(*(taken(window(spec, by, 0, j)) for j in range(spec.generations + 1)))
        for window in (plan.human_window,)
        for by in arms[1:]
    )
    assert not one & other


@unhurried
@given(spec=specs(), arms=st.sampled_from(ARMS), generation=st.integers(0, 6))
def test_arms_of_one_part_begin_with_the_same_prompts_however_many_they_need(
    spec: RunSpec, arms: tuple[ArmSpec, ...], generation: int
) -> None:
    spec = replace(spec, arms=arms, prompt_selection=PromptSelection.FRESH)
    windows = [plan.prompt_window(spec, one, 0, generation) for one in arms if one.part == 0]
    assert len({(window.offset, window.seed) for window in windows}) == 1


def test_an_arm_that_grows_is_prompted_with_as_many_windows_as_it_writes_documents() -> None:
    spec = small_spec(arms=ARMS[1])
    growing = [plan.prompt_window(spec, spec.arms[1], 0, j) for j in range(4)]
    assert [window.count for window in growing] == [20, 40, 60, 80]
    assert [window.offset for window in growing] == [0, 20, 60, 120]
    assert [plan.prompt_window(spec, HUMAN, 0, j).count for j in range(4)] == [20] * 4


def test_samples_for_the_reader_are_the_same_windows_in_every_part() -> None:
    spec = small_spec(arms=ARMS[2])
    assert len({plan.sample_window(spec, one) for one in spec.arms}) == 1
    assert plan.sample_window(spec, spec.arms[2]).offset == 0


@unhurried
@given(spec=specs())
def test_fixed_prompts_are_those_of_generation_0_and_fresh_ones_are_what_the_human_arm_learns_from(
    spec: RunSpec,
) -> None:
    for j in range(spec.generations + 1):
        prompts = plan.prompt_window(spec, REPLACE, 0, j)
        fixed = spec.prompt_selection is PromptSelection.FIXED
        assert prompts == plan.human_window(spec, REPLACE, 0, 0 if fixed else j)


def seeds_of(spec: RunSpec) -> list[int]:
    """Return the seeds of everything that is drawn in a run, arms by arms where they differ."""
    numbers, repetitions = range(spec.generations + 1), range(spec.seeds)
    found = [plan.sample_window(spec, REPLACE).seed, plan.across_window(spec, REPLACE).seed]
    for seed in repetitions:
        found += [plan.human_window(spec, REPLACE, seed, 0).seed]
        found += [plan.sample_sampling(spec, REPLACE, seed).seed, plan.across_sampling(spec, REPLACE, seed).seed]
        found += [plan.recipe(spec, seed, j).seed for j in numbers]
        for one in (REPLACE, *(by for by in spec.arms if by.feeds_on)):
            found += [plan.sampling(spec, one, seed, j).seed for j in numbers]
            found += [plan.choice(spec, one, seed, j, made(ArtifactKind.MODEL), (), Pools()).seed for j in numbers]
    return found


def test_no_two_seeds_are_the_same_over_runs_repetitions_generations_purposes_and_arms_that_share_a_pool() -> None:
    """The published code derives run * 10 + generation, where run 0 meets run 1 at generation 10."""
    evaluation = replace(SPEC.evaluation, across_documents=20)
    ecosystem = (REPLACE, arm("replace", "a", feeds_on=("b",)), arm("replace", "b", feeds_on=("a",)))
    grid = [
        seed
        for root in (*range(12), 2**31, 2**63 - 1)
        for seed in seeds_of(small_spec(seed=root, seeds=12, generations=12, arms=ecosystem, evaluation=evaluation))
    ]
    assert len(set(grid)) == len(grid)
    assert all(0 <= seed < 2**63 for seed in grid)


def test_models_that_share_a_pool_write_and_draw_with_noise_of_their_own_and_others_do_not() -> None:
    one, fed = arm("replace", "one"), arm("replace", "fed", feeds_on=("one",))
    alone, shared = small_spec(arms=(one, REPLACE)), small_spec(arms=(one, fed, REPLACE))
    assert plan.sampling(alone, one, 0, 1) == plan.sampling(alone, REPLACE, 0, 1)
    assert len({plan.sampling(shared, by, 0, 1).seed for by in shared.arms}) == 3
    assert plan.sampling(shared, REPLACE, 0, 1) == plan.sampling(alone, REPLACE, 0, 1)


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
@given(spec=specs(), arms=st.sampled_from(ARMS))
def test_the_last_window_is_the_furthest_of_all(spec: RunSpec, arms: tuple[ArmSpec, ...]) -> None:
    spec = replace(spec, arms=arms)
    asked = [
        window(spec, one, seed, j)
        for one in spec.arms
        for seed in range(spec.seeds)
        for j in range(spec.generations + 1)
        for window in (plan.human_window, plan.prompt_window)
    ]
    last = plan.last_window(spec)
    assert max(w.offset + w.count for w in asked) == last.offset + last.count


@unhurried
@given(spec=specs())
def test_an_arm_stops_after_its_base_model_and_as_many_generations_as_asked_for(spec: RunSpec) -> None:
    history = [turn(j) for j in range(spec.generations + 1)]
    assert all(plan.reason_to_stop(spec, history[:j]) is None for j in range(spec.generations + 1))
    assert plan.reason_to_stop(spec, history)


def test_only_the_last_generation_is_not_trained_further() -> None:
    assert [("fine_tune" in plan.stages_of(SPEC, SPEC.arms[0], j)) for j in range(4)] == [True, True, True, False]
    assert [plan.is_last(SPEC, j) for j in range(4)] == [False, False, False, True]


def test_only_sets_that_are_drawn_are_chosen_and_nothing_to_train_on_is_no_stage() -> None:
    def work(one: ArmSpec, generation: int = 0) -> list[str]:
        return [stage for stage in plan.stages_of(SPEC, one, generation) if stage in {"choose", "fine_tune"}]

    assert work(arm("replace")) == work(arm("accumulate")) == ["fine_tune"]
    assert work(arm("mixed")) == work(arm("replace", feeds_on=("human",))) == ["choose", "fine_tune"]
    assert work(arm("accumulate", edit=EditSpec())) == ["choose", "fine_tune"]
    assert work(arm("accumulate-synthetic")) == ["fine_tune"], "one corpus is taken whole"
    assert work(arm("accumulate-synthetic"), 1) == ["choose", "fine_tune"]
    assert work(arm("untouched")) == []


def test_an_arm_of_a_part_is_compared_with_the_human_arm_of_its_part() -> None:
    humans = tuple(arm("human", f"human-{part}", part=part, parts=2) for part in (0, 1))
    spec = small_spec(arms=(*humans, arm("replace", "one", part=1, parts=2), REPLACE))
    assert [spec.control_of(one) for one in spec.arms] == [None, None, humans[1], humans[0]]


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
    ("given", "generation", "expected"),
    [
        (arm("replace"), 0, 0.0),
        (arm("replace"), 3, 1.0),
        (arm("replace-growing"), 3, 1.0),
        (arm("human"), 3, 0.0),
        (arm("human-replayed"), 3, 0.0),
        (arm("untouched"), 3, 0.0),
        # H_0, D_0, D_1, D_2 in equal parts.
        (arm("accumulate"), 3, 3 / 4),
        (arm("accumulate-fresh"), 3, 1 / 2),
        (arm("accumulate-subsample"), 3, 3 / 4),
        (arm("accumulate-synthetic"), 3, 1.0),
        # Half D_2, and half of H_0, D_0, D_1.
        (arm("half-history"), 3, 1 / 2 + 1 / 2 * 2 / 3),
        (arm("mixed"), 3, 1 / 2),
        (arm("mixed", human_fraction=0.1, synthetic_fraction=1.0), 3, 10 / 11),
        # The loss counts: its weight on real text is 0.618, or the given one.
        (arm("weighted"), 3, 1 - 0.6180339887),
        (arm("weighted", real_weight=0.9, human_fraction=0.25), 3, 0.1),
        (arm("cycle-full", human_fraction=0.25), 3, 3 / 4),
        (arm("cycle-balanced"), 3, 3 / 4),
        (arm("cycle-incremental"), 2, 3 / 4),
        (arm("cycle-expanding"), 2, 1 / 2),
        # H_0, own D_0 and D_1, and those of a feeder that grows: 1, 1, 1, 1 and 2 parts.
        (arm("accumulate", feeds_on=("grows",)), 2, 5 / 6),
    ],
)
def test_the_synthetic_ratio_is_that_of_the_training_set(given: ArmSpec, generation: int, expected: float) -> None:
    """Of each synthetic document the first quarter is real; without a human document 3/4 are left."""
    spec = small_spec(arms=(given, arm("replace-growing", "grows")))
    assert plan.synthetic_ratio(spec, given, generation) == pytest.approx(0.75 * expected)


@unhurried
@given(protocol=st.sampled_from(sorted(PROTOCOLS)), generation=st.integers(0, 12))
def test_the_synthetic_ratio_is_a_share_and_that_of_accumulate_grows_while_a_replayed_share_stays(
    protocol: str, generation: int
) -> None:
    assert 0 <= plan.synthetic_ratio(SPEC, arm(protocol), generation) <= 0.75
    grown = [plan.synthetic_ratio(SPEC, arm("accumulate"), j) for j in range(1, generation + 2)]
    assert sorted(set(grown)) == grown
    replayed = arm("mixed", human_fraction=0.1, human_text=HumanText.REPLAYED)
    assert len({plan.synthetic_ratio(SPEC, replayed, j) for j in range(1, generation + 2)}) == 1


def refused(arms: tuple[ArmSpec, ...] = (), **changes: object) -> dict[str, str]:
    """Return what is wrong with a specification, by field."""
    with pytest.raises(InvalidRequest) as caught:
        plan.validate(small_spec(**({"arms": arms} if arms else {}), **changes))
    return {problem.field: problem.description for problem in caught.value.problems}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_can_be_run_by_its_name_alone(protocol: str) -> None:
    plan.validate(small_spec(arms=(arm(protocol),)))


@pytest.mark.parametrize(
    ("wrong", "field", "told"),
    [
        (arm("mixd"), "protocol", "did you mean mixed"),
        (arm("replace", "a", control="b"), "control", "a -> b -> a"),
        (arm("replace", "a", domains=("wiki", "news")), "domains", "no domain 'news'; known are wiki, code"),
        (arm("replace", "a", domains=("wiki", "wiki")), "domains", "listed twice"),
        (arm("replace", "a", feeds_on=("a",)), "feeds_on", "name others"),
        (arm("replace", "a", feeds_on=("nobody",)), "feeds_on", "'nobody': no such arm"),
        (arm("replace", "a", feeds_on=("b", "b")), "feeds_on", "listed twice"),
        (arm("replace", "a", feeds_on=("b",), real_share=0.5), "feeds_on", "'b' has another real_share"),
        (arm("human", "a", feeds_on=("b",)), "feeds_on", "takes nothing that was written"),
        (arm("replace", "a", human_fraction=0.1), "human_fraction", "does not read it; those that do: mixed, weighted"),
        (arm("accumulate", "a", human_text=HumanText.REPLAYED), "human_text", "those that do: mixed, weighted"),
        (arm("mixed", "a", real_weight=0.5), "real_weight", "those that do: weighted"),
        (arm("weighted", "a", real_weight=0.5, human_fraction=0.0), "real_weight", "only one kind"),
        (arm("weighted", "a", real_weight=0.5, synthetic_fraction=0.0), "real_weight", "only one kind"),
        (arm("cycle-incremental", "a", human_fraction=0.6), "human_fraction", "nothing more can be replaced"),
        (arm("replace", "a", edit=EditSpec()), "edit", "'replace' trains on none"),
        (arm("untouched", "a", selection=SelectionSpec()), "selection", "trains on nothing"),
        (arm("replace", "a", selection=SelectionSpec()), "selection.rule", "no more documents than are kept"),
        (
            arm("mixed", "a", human_fraction=1.0, synthetic_fraction=1.0, selection=SelectionSpec()),
            "selection.rule",
            "no more documents than are kept",
        ),
        (arm("human", "a", selection=SelectionSpec(human_free=True)), "selection.human_free", "nothing but human"),
        (
            arm("half-history", "a", selection=SelectionSpec(human_free=True)),
            "selection.human_free",
            "nothing but human",
        ),
        (
            arm(
                "accumulate",
                "a",
                part=1,
                parts=2,
                feeds_on=("b",),
                selection=SelectionSpec(rule=SelectionRule.VERIFIER),
            ),
            "selection.rule",
            "a verifier knows the real text behind this arm's prompts",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_field(wrong: ArmSpec, field: str, told: str) -> None:
    domains = (DomainSpec(name="wiki"), DomainSpec(name="code"))
    other = arm("replace", "b", control=wrong.name if wrong.control else None)
    problems = refused((other, wrong), dataset=DatasetSpec(domains=domains))
    assert told in problems[f"arms[1].{field}"]
    assert {path for path in problems if not path.startswith("arms[1]")} <= {"arms[0].control"}


@pytest.mark.parametrize(
    "selection",
    [
        SelectionSpec(),
        SelectionSpec(rule=SelectionRule.SURPLEXITY, human_free=True),
        SelectionSpec(rule=SelectionRule.VERIFIER),
    ],
)
@pytest.mark.parametrize("protocol", ["accumulate", "accumulate-subsample", "replace-growing"])
def test_pools_that_hold_more_than_is_kept_can_be_selected_from(protocol: str, selection: SelectionSpec) -> None:
    plan.validate(small_spec(arms=(arm(protocol, selection=selection),)))


def test_rules_that_leave_out_by_themselves_need_no_larger_pool() -> None:
    for rule in (SelectionRule.NEAR_DUPLICATES, SelectionRule.DETECTOR, SelectionRule.VERIFIER):
        plan.validate(small_spec(arms=(arm("replace", selection=SelectionSpec(rule=rule)),)))


def test_parts_of_different_numbers_overlap_and_are_refused() -> None:
    thirds, halves = arm("replace", "a", part=2, parts=3), arm("replace", "b", part=1, parts=2)
    assert "with 2 and 3 the parts overlap" in refused((thirds, halves))["arms"]
    plan.validate(small_spec(arms=(HUMAN, thirds)))


def test_prompts_that_stay_cannot_grow() -> None:
    problems = refused((arm("replace-growing"),), prompt_selection=PromptSelection.FIXED)
    assert "set prompt_selection: FRESH" in problems["arms[0].protocol"]


def test_a_chain_of_controls_is_none_that_ends_in_itself() -> None:
    plan.validate(small_spec(arms=(HUMAN, arm("replace", "a", control="human"), arm("replace", "b", control="a"))))


def test_generations_that_there_are_not_cannot_be_examined_across_domains() -> None:
    problems = refused(evaluation=replace(SPEC.evaluation, across_generations=(0, 4)))
    assert problems == {"evaluation.across_generations": "must be at most 3, the last generation"}


def test_every_domain_needs_a_source() -> None:
    dataset = DatasetSpec(domains=(DomainSpec(name="a"), DomainSpec(name="b", source=" ")))
    assert list(refused(dataset=dataset)) == ["dataset.domains[1].source"]


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
OWN = BackendInfo(name="transformers", kind="transformers", capabilities=tuple(Capability))
ADAPTERS = Recipe(method=Method.LORA, lora=LoraSpec(keep_adapter=True))


def pool(**changes: object) -> BackendInfo:
    return replace(BackendInfo(name="pool", kind="vllm", capabilities=tuple(Capability), weights="adapters"), **changes)


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


MENDED = {
    Capability.LEAST_LENGTH: ("sampling.min_new_tokens", {"sampling": SamplingSpec(min_new_tokens=0)}),
    Capability.TOP_K: ("sampling.top_k", {"sampling": SamplingSpec(top_k=0)}),
    Capability.CHAT: ("sampling.chat", {"sampling": SamplingSpec()}),
    Capability.EXACT_TOKENS: (
        "evaluation.prompt_unit",
        {"evaluation": replace(small_spec().evaluation, prompt_unit=PromptUnit.WORDS)},
    ),
}


@pytest.mark.parametrize("missing", MENDED)
@pytest.mark.parametrize("kind", ["vllm", "a kind of tomorrow"])
def test_what_a_backend_does_not_declare_is_refused_by_field_whatever_its_kind(missing: Capability, kind: str) -> None:
    able = tuple(each for each in Capability if each is not missing)
    backend = pool(kind=kind, weights="reload", capabilities=able)
    field, mended = MENDED[missing]
    wanted = small_spec(backend="pool", sampling=SamplingSpec(chat=ChatFormat()))
    with pytest.raises(InvalidRequest) as refused:
        plan.check_backend(wanted, (OWN, backend))
    assert [problem.field for problem in refused.value.problems] == [field]
    plan.check_backend(replace(wanted, **mended), (OWN, backend))


def test_all_that_a_backend_does_not_declare_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest, match=r"sampling\.min_new_tokens: set 0.*sampling\.top_k: set 0") as refused:
        plan.check_backend(small_spec(backend="pool"), (OWN, pool(weights="reload", capabilities=BOTH)))
    assert len(refused.value.problems) == 3


def test_a_backend_that_takes_adapters_needs_a_recipe_that_keeps_them() -> None:
    for recipe in (Recipe(), Recipe(method=Method.LORA)):
        with pytest.raises(PreconditionFailed, match="keep_adapter: true"):
            plan.check_backend(small_spec(backend="pool", recipe=recipe), (OWN, pool()))
