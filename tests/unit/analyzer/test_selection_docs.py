"""What docs/mitigations.md says is what can be written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ouroscope.canonical import from_plain
from ouroscope.records.runs import RunSpec
from ouroscope.records.selection import SelectionRule
from services.analyzer.selection.copies import MOST_WORDS
from services.analyzer.selection.known import MOST_DOCUMENTS, MOST_REFERENCE_WORDS
from services.analyzer.selection.verifier import verifier_threshold
from services.coordinator.protocols import problem_with


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/mitigations.md").read_text()


@pytest.fixture
def specs(page: str) -> list[RunSpec]:
    return [from_plain(RunSpec, yaml.safe_load(block)) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]


def test_every_example_is_a_specification_whose_protocols_are_known(specs: list[RunSpec]) -> None:
    assert len(specs) == 9
    assert [arm.name for spec in specs for arm in spec.arms if problem_with(arm.protocol)] == []


def test_every_rule_and_every_other_mitigation_has_an_example(specs: list[RunSpec]) -> None:
    arms = [arm for spec in specs for arm in spec.arms]
    # RANDOM is what a draw is without a selection.
    assert {arm.selection.rule for arm in arms if arm.selection} == {*SelectionRule} - {SelectionRule.RANDOM}
    assert any(arm.edit for arm in arms)
    assert any(arm.protocol == "weighted" for arm in arms)
    assert any(spec.recipe.truncation for spec in specs)


def test_every_mitigation_is_compared_with_fresh_human_text(specs: list[RunSpec]) -> None:
    assert [spec.name for spec in specs if not any(arm.protocol == "human" and not arm.edit for arm in spec.arms)] == []


def test_the_contents_lead_to_the_sections(page: str) -> None:
    anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in re.findall(r"^## (.+)$", page, re.M)}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) == 9
    assert set(links) <= anchors


def test_the_numbers_that_are_told_are_those_of_the_code(page: str) -> None:
    assert "a million documents" in page
    assert "10 million words" in page
    assert "50 million words" in page
    assert (MOST_DOCUMENTS, MOST_WORDS, MOST_REFERENCE_WORDS) == (1_000_000, 10_000_000, 50_000_000)
    told = re.search(r"(\.\d+) for phi (\.\d+) and psi (\.\d+), (\.\d+) for (\.\d+) and (\.\d+)", page)
    assert told
    first, phi, psi, second, phi_2, psi_2 = map(float, told.groups())
    assert (first, second) == (round(verifier_threshold(phi, psi), 3), round(verifier_threshold(phi_2, psi_2), 3))
