"""What the next model is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ouroscope.errors import InvalidRequest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.runs import HumanText
from services.coordinator.protocols import PROTOCOLS, Pools, Terms, TrainingSet, training_set
from services.coordinator.protocols.mixing import optimal_real_weight

from .fakes import made

unhurried = settings(max_examples=40, deadline=None)
"""A busy machine is no failure."""

N = 20
OF_THEIR_OWN_SIZE = {"accumulate", "accumulate-fresh", "cycle-expanding", "replace-growing", "untouched"}
FIXED_SIZE = [name for name in PROTOCOLS if name not in OF_THEIR_OWN_SIZE]
"""Protocols whose sets have n documents in every round, if the arm says nothing else."""


def corpus(letter: str, generation: int) -> ArtifactRef:
    return made(ArtifactKind.CORPUS, letter, generation)


def pools(rounds: int, others: tuple[str, ...] = ()) -> Pools:
    """Return pools after `rounds` generations: H are human, D written, and what `others` wrote."""
    made_up = Pools()
    for j in range(rounds):
        fed = tuple(corpus(letter, j) for letter in others)
        made_up = made_up.with_round(corpus("H", j), corpus("D", j), fed)
    return made_up


def terms(protocol: str, documents: int = N, **given: object) -> Terms:
    """Return what an arm that says only `given` tells its protocol."""
    own = PROTOCOLS[protocol]
    shares = {"human_fraction": own.human_fraction, "synthetic_fraction": own.synthetic_fraction}
    return Terms(documents=documents, **{**shares, **given})


def told(found: TrainingSet) -> str:
    """Write a training set down: `all H0, 10 D0+D1`."""
    names = {corpus(letter, j): f"{letter}{j}" for letter, j in product("HDXY", range(30))}
    amounts = ["all" if portion.documents is None else str(portion.documents) for portion in found]
    pooled = ["+".join(names[one] for one in portion.pool) for portion in found]
    return ", ".join(f"{amount} {pool}" for amount, pool in zip(amounts, pooled, strict=True))


def size(found: TrainingSet, documents: int = N) -> int:
    return sum(len(p.pool) * documents if p.documents is None else p.documents for p in found)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("replace", ["all D0", "all D1", "all D2"]),
        ("replace-growing", ["all D0", "all D1", "all D2"]),
        ("accumulate", ["all H0+D0", "all H0+D0+D1", "all H0+D0+D1+D2"]),
        ("accumulate-fresh", ["all H0+D0", "all H0+H1+D0+D1", "all H0+H1+H2+D0+D1+D2"]),
        ("accumulate-subsample", ["20 H0+D0", "20 H0+D0+D1", "20 H0+D0+D1+D2"]),
        ("accumulate-synthetic", ["all D0", "20 D0+D1", "20 D0+D1+D2"]),
        ("half-history", ["10 D0, 10 H0", "10 D1, 10 H0+D0", "10 D2, 10 H0+D0+D1"]),
        ("mixed", ["10 H0, 10 D0", "10 H1, 10 D1", "10 H2, 10 D2"]),
        ("weighted", ["10 H0, 10 D0", "10 H1, 10 D1", "10 H2, 10 D2"]),
        ("cycle-full", ["all D0", "all D1", "all D2"]),
        ("cycle-balanced", ["10 H0, 10 D0", "7 H0, 6 D0, 7 D1", "5 H0, 5 D0, 5 D1, 5 D2"]),
        ("cycle-incremental", ["10 H0, 10 D0", "5 H0, 5 D0, 10 D1", "2 H0, 3 D0, 5 D1, 10 D2"]),
        ("cycle-expanding", ["all H0, 10 D0", "all H0, 10 D0, 10 D1", "all H0, 10 D0, 10 D1, 10 D2"]),
        ("human", ["all H0", "all H1", "all H2"]),
        ("human-replayed", ["all H0", "all H0", "all H0"]),
        ("untouched", ["", "", ""]),
    ],
)
def test_what_is_in_the_set_after_generations_0_1_and_2(protocol: str, expected: list[str]) -> None:
    assert [told(training_set(protocol, pools(j), terms(protocol))) for j in (1, 2, 3)] == expected


def test_every_protocol_has_its_sets_written_down() -> None:
    (written,) = (mark.args[1] for mark in test_what_is_in_the_set_after_generations_0_1_and_2.pytestmark)
    assert [protocol for protocol, _ in written] == list(PROTOCOLS)


@pytest.mark.parametrize(
    ("protocol", "given", "expected"),
    [
        ("mixed", {"human_fraction": 0.1, "synthetic_fraction": 1.0}, "2 H2, all D2"),
        ("mixed", {"human_fraction": 0.1, "human_text": HumanText.REPLAYED}, "2 H0, 10 D2"),
        ("mixed", {"human_fraction": 1.0, "synthetic_fraction": 0.0}, "all H2"),
        ("mixed", {"human_fraction": 0.001}, "1 H2, 10 D2"),
        ("cycle-full", {"human_fraction": 0.25}, "15 D2, 5 H2"),
        ("cycle-balanced", {"human_fraction": 0.2}, "4 H0, 4 D0, 4 D1, 4 D2, 4 H2"),
        # H0: 0.5^3 + 0.25 * 0.5^2 = 3.75 documents, D0 1.25, D1 2.5 (the sum is rounded: 7.5 to 8), H1 2.5.
        (
            "cycle-incremental",
            {"human_fraction": 0.25, "synthetic_fraction": 0.25},
            "4 H0, 1 D0, 3 D1, 2 H1, 5 D2, 5 H2",
        ),
        ("cycle-expanding", {"human_fraction": 0.25}, "all H0, 10 D0, 10 D1, 5 H1, 10 D2, 5 H2"),
    ],
)
def test_what_an_arm_says_of_fractions_is_what_it_gets(
    protocol: str, given: Mapping[str, object], expected: str
) -> None:
    assert told(training_set(protocol, pools(3), terms(protocol, **given))) == expected


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("replace", "20 D1+X1+Y1"),
        ("replace-growing", "40 D1+X1+Y1"),
        ("accumulate", "all H0+D0+X0+Y0+D1+X1+Y1"),
        ("half-history", "10 D1+X1+Y1, 10 H0+D0+X0+Y0"),
        ("mixed", "10 H1, 10 D1+X1+Y1"),
        ("cycle-incremental", "5 H0, 5 D0+X0+Y0, 10 D1+X1+Y1"),
        ("human", "all H1"),
    ],
)
def test_models_that_share_a_pool_draw_from_what_all_of_them_wrote(protocol: str, expected: str) -> None:
    assert told(training_set(protocol, pools(2, others=("X", "Y")), terms(protocol))) == expected


@pytest.mark.parametrize("protocol", FIXED_SIZE)
@unhurried
@given(rounds=st.integers(1, 30), documents=st.integers(20, 2000))
def test_sets_are_as_large_as_those_of_replace_however_long_the_loop(
    protocol: str, rounds: int, documents: int
) -> None:
    found = training_set(protocol, pools(rounds), terms(protocol, documents))
    spare = 1 if protocol in {"mixed", "weighted"} else 0
    assert abs(size(found, documents) - documents) <= spare, "two halves of an odd number are rounded"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@unhurried
@given(rounds=st.integers(1, 12), others=st.sampled_from([(), ("X",)]))
def test_no_portion_is_empty_larger_than_its_pool_or_takes_a_corpus_twice(
    protocol: str, rounds: int, others: tuple[str, ...]
) -> None:
    found = training_set(protocol, pools(rounds, others), terms(protocol))
    pooled = [one for portion in found for one in portion.pool]
    assert len(set(pooled)) == len(pooled)
    for portion in found:
        assert portion.weight > 0
        assert portion.documents is None or 0 < portion.documents <= rounds * N * len(portion.pool)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_trained_on_before_it_was_written_and_the_past_is_not_rewritten(protocol: str) -> None:
    """A set is a function of the rounds so far: a run that is longer begins like a shorter one."""
    for rounds in range(1, 6):
        known = {*pools(rounds).human, *pools(rounds).synthetic}
        for portion in training_set(protocol, pools(rounds), terms(protocol)):
            assert set(portion.pool) <= known


@unhurried
@given(rounds=st.integers(1, 12))
def test_accumulate_keeps_everything_it_ever_trained_on(rounds: int) -> None:
    before, after = (training_set("accumulate", pools(j), terms("accumulate"))[0].pool for j in (rounds, rounds + 1))
    assert before == after[:-1]


@unhurried
@given(
    rounds=st.integers(1, 12),
    synthetic=st.floats(0.05, 0.6),
    human=st.floats(0, 0.4),
    protocol=st.sampled_from(["cycle-incremental", "cycle-expanding"]),
)
def test_cycles_are_what_their_recursion_gives(rounds: int, synthetic: float, human: float, protocol: str) -> None:
    """Oracle: the recursion T_j = keep T_(j-1) + lambda D_j + f H_j, step by step."""
    keep = 1.0 if protocol == "cycle-expanding" else 1 - synthetic - human
    expected = {corpus("H", 0): 1.0}
    for j in range(rounds):
        expected = {one: keep * share for one, share in expected.items()}
        for new, share in ((corpus("D", j), synthetic), (corpus("H", j), human)):
            expected[new] = expected.get(new, 0.0) + share
    given = {"human_fraction": human, "synthetic_fraction": synthetic}
    found = training_set(protocol, pools(rounds), terms(protocol, 1000, **given))
    counts = {p.pool[0]: 1000 if p.documents is None else p.documents for p in found}
    for one, share in expected.items():
        assert counts.get(one, 0) == pytest.approx(1000 * min(1.0, share), abs=1.01)


@pytest.mark.parametrize(("ratio", "weight"), [(1, 0.618), (2, 0.732), (4, 0.828)])
def test_the_best_weight_of_real_data_is_the_published_one(ratio: float, weight: float) -> None:
    assert optimal_real_weight(ratio) == pytest.approx(weight, abs=5e-4)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 3.0, 20.0])
def test_the_best_weight_has_the_least_error_after_many_rounds(ratio: float) -> None:
    """Oracle: the mean of a Gaussian, V = w^2 / k + (1 - w)^2 (V + 1) in units of the variance of a synthetic mean."""

    def error(weight: float) -> float:
        return (weight**2 / ratio + (1 - weight) ** 2) / (1 - (1 - weight) ** 2)

    least = minimize_scalar(error, bounds=(1e-6, 1 - 1e-6), method="bounded", options={"xatol": 1e-10})
    assert optimal_real_weight(ratio) == pytest.approx(least.x, abs=1e-6)


@unhurried
@given(
    human=st.integers(1, N).map(lambda count: count / N),
    synthetic=st.integers(1, N).map(lambda count: count / N),
    weight=st.none() | st.floats(0.05, 0.95),
)
def test_weights_give_human_text_its_share_of_the_loss_and_leave_the_mean_weight_at_one(
    human: float, synthetic: float, weight: float | None
) -> None:
    given = {"human_fraction": human, "synthetic_fraction": synthetic, "real_weight": weight}
    real, written = training_set("weighted", pools(2), terms("weighted", **given))
    expected = weight or optimal_real_weight(round(human * N) / round(synthetic * N))
    of_real, of_written = (portion.weight * size((portion,)) for portion in (real, written))
    assert of_real / (of_real + of_written) == pytest.approx(expected)
    assert (of_real + of_written) / size((real, written)) == pytest.approx(1.0)


def test_weights_of_one_kind_of_text_are_none() -> None:
    only_human = terms("weighted", human_fraction=1.0, synthetic_fraction=0.0)
    assert [portion.weight for portion in training_set("weighted", pools(1), only_human)] == [1.0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_that_does_not_read_a_field_answers_alike_whatever_it_says(protocol: str) -> None:
    changed: dict[str, object] = {
        "human_fraction": 0.9,
        "synthetic_fraction": 0.1,
        "human_text": HumanText.REPLAYED,
        "real_weight": 0.9,
    }
    plain = training_set(protocol, pools(3), terms(protocol))
    moved = [
        name for name in changed if training_set(protocol, pools(3), terms(protocol, **{name: changed[name]})) != plain
    ]
    assert moved == [name for name in changed if name in PROTOCOLS[protocol].reads]


def test_every_sheet_says_rule_reason_and_source() -> None:
    for protocol in PROTOCOLS.values():
        sheet = protocol.choose.__doc__ or ""
        assert sheet.startswith("T_j "), "the rule comes first"
        assert "Reason:" in sheet
        assert "Source:" in sheet


def test_only_a_growing_protocol_writes_more_and_none_ever_writes_less() -> None:
    written = {name: [protocol.written(j) for j in range(5)] for name, protocol in PROTOCOLS.items()}
    assert written.pop("replace-growing") == [1, 2, 3, 4, 5]
    assert set(map(tuple, written.values())) == {(1, 1, 1, 1, 1)}


def test_an_unknown_protocol_is_answered_with_the_nearest_known_one_and_the_list() -> None:
    with pytest.raises(InvalidRequest, match=r"did you mean replace\?.*known are replace, .*human, .*untouched"):
        training_set("replase", pools(1), terms("replace"))
