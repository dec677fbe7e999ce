"""The page on data sets: its examples are specifications, and its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ouroscope.canonical import from_plain
from ouroscope.corpora.docstrings import SOURCES
from ouroscope.corpora.hub import FORMATS, MOST_BYTES, MOST_DOCUMENTS, SCHEME, check_hub
from ouroscope.corpora.parts import SHARES, Part
from ouroscope.records.runs import EvaluationSpec, RunSpec
from services.coordinator import plan
from services.coordinator.dataset.sources import hub_text

ARMS = [{"name": "human", "protocol": "human"}]


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/datasets.md").read_text("utf-8")


@pytest.fixture
def examples(page: str) -> list[RunSpec]:
    """Return the examples as specifications."""
    found: list[dict[str, Any]] = [
        yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    ]
    return [from_plain(RunSpec, {"name": "example", "arms": ARMS, **given}) for given in found]


def test_every_example_is_a_specification_that_can_be_run(examples: list[RunSpec]) -> None:
    assert len(examples) == 5
    for spec in examples:
        plan.validate(spec)
    assert any(plan.across_wanted(spec, 0) for spec in examples)


def test_examples_of_the_hub_are_pinned_and_those_of_the_embedded_corpus_name_libraries_of_it(
    examples: list[RunSpec],
) -> None:
    sources = [source for spec in examples for source in spec.dataset.sources()]
    pinned = [source for source in sources if source.source.startswith(SCHEME)]
    for source in pinned:
        check_hub(hub_text(source))
    known = {source.name for source in SOURCES}
    named = [set(source.libraries) for source in sources if source.libraries]
    assert pinned
    assert named
    assert set().union(*named) <= known
    assert sum(map(len, named)) == len(set().union(*named))


def test_an_arm_of_the_example_is_compared_with_the_human_arm_of_its_domains(examples: list[RunSpec]) -> None:
    spec = examples[-1]
    controls = {arm.name: control.name for arm in spec.arms if (control := spec.control_of(arm))}
    assert controls == {"replace-news": "human-news", "replace-all": "human-all"}


def test_the_numbers_that_are_told_are_those_of_the_code(page: str) -> None:
    assert f"at most {MOST_DOCUMENTS:,} documents" in page
    assert f"more than {MOST_BYTES >> 30} GiB of text" in page
    heldout = dict(SHARES)[Part.HELD_OUT]
    assert f"{heldout} % are held out" in page
    assert f"for the default of {EvaluationSpec().prompts} a domain needs about 4,000" in page
    assert EvaluationSpec().prompts * 100 / heldout == pytest.approx(4000, rel=0.1)
    assert all(name in page.lower() for name in FORMATS)
