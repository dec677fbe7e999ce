"""The loops of the detection benchmark: what is kept of them, what they read, when they end. No model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.detection.arms import (
    ARMS,
    GENERATIONS,
    PERPLEXITY_RISE,
    RECIPES,
    Arm,
    alarm,
    has_ended,
    loops,
    perplexity_alarm,
    prompts_of,
)
from benchmarks.detection.record import Facts, Recorded, Value, load, load_all, load_sequence, save, sequence_of
from ouroscope.canonical import canonical_json
from ouroscope.records.analysis import Verdict
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.runs import StageTime
from services.analyzer.analysis import analyze
from services.analyzer.fingerprint import to_bytes
from services.analyzer.side import side_of
from services.coordinator.protocols import Pools

FACTS = Facts(
    recipe="slow",
    arm="replace-50",
    seed=3,
    generation=0,
    heldout_perplexity=80.0,
    documents=2,
    tokens=64,
    words=6,
    characters=30,
    values=(Value(id="distinct_1", value=0.5), Value(id="self_bleu_4")),
    times=(StageTime(stage="write", seconds=1.5),),
)
DOCUMENTS = [Document(id=f"{i}", text="one two three four five six") for i in range(3)]
WINDOWS = [Document(id=f"w{i}", text="a b", prompt_id=f"w{i}") for i in range(10)]
REPLACE, FRESH = (next(arm for arm in ARMS if arm.name == name) for name in ("replace-50", "human-fresh"))


def recorded(facts: Facts = FACTS) -> Recorded:
    return Recorded(facts=facts, side=side_of(*analyze(DOCUMENTS, metrics=["types", "cooccurrence_nodes"])))


def path(perplexities: Sequence[float], collapse_at: int | None) -> list[Facts]:
    """Return the facts of a loop with these perplexities that is called COLLAPSE from one generation on."""
    return [
        replace(
            FACTS,
            generation=number,
            heldout_perplexity=perplexity,
            verdict=Verdict.COLLAPSE if collapse_at is not None and number >= collapse_at else Verdict.STABLE,
        )
        for number, perplexity in enumerate(perplexities)
    ]


def test_a_generation_is_read_as_it_was_kept(tmp_path: Path) -> None:
    kept = recorded()
    again = load(save(tmp_path, kept))
    assert again.facts == kept.facts
    assert canonical_json(again.side.report) == canonical_json(kept.side.report)
    assert to_bytes(again.side.fingerprints.values()) == to_bytes(kept.side.fingerprints.values())


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    save(tmp_path, recorded())
    folder = save(tmp_path, recorded(replace(FACTS, heldout_perplexity=1.0)))
    assert load(folder).facts.heldout_perplexity == FACTS.heldout_perplexity


def test_a_sequence_rises_and_does_not_see_a_generation_that_was_being_written(tmp_path: Path) -> None:
    for generation in (10, 2, 0):
        save(tmp_path, recorded(replace(FACTS, generation=generation)))
    folder = sequence_of(tmp_path, "slow", "replace-50", 3)
    (folder / ".3.draft").mkdir()
    assert [one.generation for one in load_sequence(folder)] == [0, 2, 10]
    assert list(load_all(tmp_path)) == [("slow", "replace-50", 3)]


def test_of_a_loop_that_was_not_begun_there_is_nothing(tmp_path: Path) -> None:
    assert load_sequence(tmp_path / "nowhere") == []
    assert load_all(tmp_path) == {}


def test_an_undefined_value_is_none_and_so_is_one_that_was_not_measured() -> None:
    assert FACTS.value("distinct_1") == 0.5
    assert FACTS.value("self_bleu_4") is None
    assert FACTS.value("types") is None


def test_the_perplexity_rule_speaks_above_its_bound_and_not_on_it() -> None:
    on_it = FACTS.heldout_perplexity * (1 + PERPLEXITY_RISE)
    assert perplexity_alarm(path([80.0, on_it, on_it + 0.1], None)) == 2
    assert perplexity_alarm(path([80.0, on_it], None)) is None
    assert perplexity_alarm([]) is None


def test_the_first_collapse_is_the_alarm() -> None:
    assert alarm(path([80.0] * 5, 3)) == 3
    assert alarm(path([80.0] * 5, None)) is None


@pytest.mark.parametrize("collapse_at", [1, 2, 3])
def test_a_loop_ends_with_the_later_of_both_alarms(collapse_at: int) -> None:
    rising = [80.0, 80.0, 90.0, 95.0, 99.0]
    lengths = [n for n in range(1, 6) if has_ended(REPLACE, path(rising[:n], collapse_at))]
    assert lengths[0] == max(collapse_at, 2) + 1


def test_one_alarm_ends_no_loop() -> None:
    assert not has_ended(REPLACE, path([80.0, 99.0, 99.0], None))
    assert not has_ended(REPLACE, path([80.0, 80.0, 80.0], 1))


def test_controls_go_to_the_end_whatever_is_said_of_them() -> None:
    assert not has_ended(FRESH, path([80.0] + [99.0] * (GENERATIONS - 1), 1))
    assert has_ended(FRESH, path([80.0] * (GENERATIONS + 1), None))


def test_no_prompt_comes_back_before_all_were_used() -> None:
    arm = replace(REPLACE, documents=3)
    ids = [one.id for generation in range(3) for one in prompts_of(arm, WINDOWS, generation)]
    assert len(set(ids)) == 9
    assert [one.id for one in prompts_of(arm, WINDOWS, 3)] == ["w9", "w0", "w1"]


def test_narrow_prompts_are_the_same_few_under_many_names_from_generation_1_on() -> None:
    arm = replace(REPLACE, documents=7, prompts=2)
    asked = prompts_of(arm, WINDOWS, 1)
    assert len({one.id for one in asked}) == 7
    assert {one.cluster for one in asked} == {"w0", "w1"}
    assert prompts_of(arm, WINDOWS, 5) == asked
    assert len({one.cluster for one in prompts_of(arm, WINDOWS, 0)}) == 7


def test_narrow_prompts_are_of_one_library_that_has_enough() -> None:
    libraries = ["small", "large", "other", "large", "other", "large"]
    windows = [replace(window, domain=name) for window, name in zip(WINDOWS, libraries, strict=False)]
    asked = prompts_of(replace(REPLACE, documents=4, prompts=2), windows, 1)
    assert {one.cluster for one in asked} == {"w1", "w3"}


def test_equal_loops_of_one_seed_differ_in_nothing_but_what_their_arm_says() -> None:
    slow, fast = (loop for recipe in ("slow", "default") for loop in loops([recipe], [REPLACE.name], [4]))
    (cold,) = loops(["slow"], ["low-temperature"], [4])
    assert slow.sampling(2) == fast.sampling(2)
    assert slow.sampling(0) == cold.sampling(0)
    assert replace(slow.sampling(2), temperature=0.7) == cold.sampling(2)
    assert slow.training(1).seed == fast.training(1).seed != slow.training(2).seed


def test_what_there_is_of_loops_is_balanced_at_any_time() -> None:
    order = loops(list(RECIPES), [arm.name for arm in ARMS], range(3))
    assert len(order) == 3 * len(ARMS) * len(RECIPES)
    assert [one.seed for one in order] == sorted(one.seed for one in order)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_named_by_a_share_trains_on_that_share_of_synthetic_tokens(arm: Arm) -> None:
    human, synthetic = (tuple(ArtifactRef(ArtifactKind.CORPUS, f"{side}{j:063x}") for j in range(3)) for side in (0, 1))
    chosen = arm.protocol(Pools(human=human, synthetic=synthetic))
    share = arm.written * sum(one in synthetic for one in chosen) / len(chosen)
    named = {"replace-25": 0.25, "replace-50": 0.5, "replace-75": 0.75, "human-fresh": 0.0, "accumulate-fresh": 0.25}
    assert share == named.get(arm.name, 0.5)
