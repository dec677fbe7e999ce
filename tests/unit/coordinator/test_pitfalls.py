"""Mistakes that others made, where no other test looks for them; docs/pitfalls.md names all and their tests."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from ouroscope.records.analysis import Direction, MetricInfo
from ouroscope.records.generation import PromptUnit
from ouroscope.records.runs import ArmSpec, EditSpec, HumanText, PromptSelection
from ouroscope.records.selection import SelectionOrder, SelectionRule, SelectionSpec
from services.analyzer.catalogue import CATALOGUE
from services.coordinator.protocols import PROTOCOLS
from services.coordinator.report.arms import PROTOCOL_WORDS, protocol_of
from services.coordinator.report.sections import lines_note
from services.coordinator.report.view import RunView
from services.coordinator.report.words import facts, metric_name

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "report_example.py"))
PITFALLS = 17


@pytest.fixture(scope="module")
def view() -> RunView:
    found: RunView = EXAMPLE["example_view"]()
    return found


def told(view: RunView, **changes: object) -> str:
    """Return what the report says above its lines and of what was run, with these changes of its specification."""
    changed = replace(view, run=replace(view.run, spec=replace(view.run.spec, **changes)))
    return "\n".join((lines_note(changed), *(fact.text for fact in facts(changed))))


def metric(id: str) -> MetricInfo:
    return next(info for info in CATALOGUE if info.id == id)


def test_the_page_of_pitfalls_has_all_of_them_and_names_only_tests_that_are_there(root: Path) -> None:
    page = (root / "docs/pitfalls.md").read_text()
    rows = re.findall(r"^\| (\d+) \| .+ \| (.+) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, PITFALLS + 1))
    for number, handled in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", handled)
        assert named, f"pitfall {number} has no test"
        for file, test in named:
            assert re.search(rf"def {test}\(", (root / file).read_text()), f"{file} has no {test}"


def test_only_the_entropy_that_sees_loops_votes_and_both_say_what_divides_them() -> None:
    by_tokens, by_types = metric("normalized_entropy_by_tokens"), metric("normalized_entropy_by_types")
    assert by_tokens.headline
    assert not by_types.headline
    assert "by tokens" in metric_name(by_tokens.id)
    assert "by types" in metric_name(by_types.id)


def test_the_report_says_that_values_are_not_relative_to_generation_0_and_that_text_is_to_be_read_with_the_model(
    view: RunView,
) -> None:
    for seeds in (1, 3):
        text = told(view, seeds=seeds)
        assert "values are as measured, not relative to it" in text
        assert "Text can stay as varied as it was while the predictions of the model narrow" in text


def test_the_report_says_how_long_prompts_are_and_in_what_unit(view: RunView) -> None:
    asked = view.run.spec.evaluation
    assert f"prompts of {asked.prompt_length} tokens" in told(view)
    words = replace(asked, prompt_length=25, prompt_unit=PromptUnit.WORDS)
    assert "prompts of 25 words" in told(view, evaluation=words)


def test_every_bound_of_collapsed_predictions_is_told_in_its_name() -> None:
    names = {id: metric_name(id) for id in ("collapsed_90", "collapsed_99", "collapsed_999")}
    for (id, name), bound in zip(names.items(), ("90 %", "99 %", "99.9 %"), strict=True):
        assert bound in name.replace("\N{NO-BREAK SPACE}", " ")
        assert metric(id).headline == (id == "collapsed_99")


def test_the_report_says_whether_prompts_stay(view: RunView) -> None:
    assert "new ones in every generation" in told(view, prompt_selection=PromptSelection.FRESH)
    assert "the same ones in every generation" in told(view, prompt_selection=PromptSelection.FIXED)


def test_the_ratio_that_can_rise_in_a_collapse_has_no_vote() -> None:
    assert not metric("type_token_ratio").headline


def test_perplexity_of_human_text_rises_and_that_of_synthetic_text_falls() -> None:
    assert metric("heldout_perplexity").direction is Direction.RISING
    assert metric("base_perplexity_of_synthetic").direction is Direction.FALLING
    assert metric("surplexity").direction is Direction.FALLING
    names = [metric_name(id) for id in ("heldout_perplexity", "base_perplexity_of_synthetic", "surplexity")]
    assert len(set(names)) == 3
    assert [name.startswith("Perplexity") for name in names] == [True, False, False]


def test_the_report_tells_accumulating_from_replaying() -> None:
    replayed = ArmSpec(name="a", protocol="mixed", human_fraction=0.1, synthetic_fraction=1.0)
    replayed = replace(replayed, human_text=HumanText.REPLAYED)
    sentence = protocol_of(replayed).replace("\N{NO-BREAK SPACE}", " ")
    assert "10 % of a round's number of documents are human ones of the start" in sentence
    assert "so their share falls" in protocol_of(ArmSpec(name="a", protocol="accumulate"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_plain_words_that_are_filled_in(protocol: str) -> None:
    assert list(PROTOCOL_WORDS) == list(PROTOCOLS)
    sentence = protocol_of(ArmSpec(name="a", protocol=protocol))
    assert sentence.startswith("learns ")
    assert not set("{}") & set(sentence)


def test_the_words_of_an_arm_tell_what_changes_its_training_set() -> None:
    arm = ArmSpec(name="a", protocol="weighted", real_weight=0.75, feeds_on=("b", "c"), edit=EditSpec())
    sentence = protocol_of(arm).replace("\N{NO-BREAK SPACE}", " ")
    assert "weigh 75 % of the loss" in sentence
    assert "what “b” and “c” wrote counts as its own" in sentence
    assert "human text is edited" in sentence


@pytest.mark.parametrize("rule", SelectionRule)
def test_every_rule_of_selection_is_told_and_a_ranking_says_which_end(rule: SelectionRule) -> None:
    said = [
        protocol_of(ArmSpec(name="a", protocol="accumulate", selection=SelectionSpec(rule=rule, order=order)))
        for order in SelectionOrder
    ]
    assert all("of the pool it takes" in one for one in said)
    ranks = rule in {SelectionRule.SURPLEXITY, SelectionRule.TEXT_ENTROPY, SelectionRule.ENTROPY_RATE}
    assert len(set(said)) == (2 if ranks else 1)
