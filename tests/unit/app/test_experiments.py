"""What ships can be run: every file at every scale is read, checked, and asks what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ouroscope.embedded import experiment_names
from ouroscope.errors import InvalidRequest
from ouroscope.records.runs import RunSpec
from ouroscope_app.experiments.reading import find_file, read_experiment, scales_of, title_of

SHIPPED = [(name, scale) for name in experiment_names() for scale in scales_of(find_file(name)) or ("",)]


def specs_of(name: str, scale: str) -> tuple[RunSpec, ...]:
    return read_experiment(name, scale).specs


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_every_experiment_is_valid_at_every_scale(name: str, scale: str) -> None:
    for spec in specs_of(name, scale):
        arms = [arm for arm in spec.arms if arm.protocol != "human"]
        assert arms
        assert all(spec.control_of(arm) is not None for arm in arms), "every arm has a human control"


@pytest.mark.parametrize("name", ["paper-v2", "paper-v3"])
def test_a_data_set_without_a_commit_is_told_with_the_line_to_fill_in(name: str, tmp_path: Path) -> None:
    emptied = tmp_path / f"{name}.yaml"
    emptied.write_text(re.sub(r"revision: [0-9a-f]{40}", 'revision: ""', find_file(name).read_text()))
    lines = emptied.read_text().splitlines()
    with pytest.raises(InvalidRequest) as raised:
        read_experiment(str(emptied), "paper")
    places = [int(line) for line in re.findall(r"\.yaml:(\d+): dataset", raised.value.message)]
    assert len(places) == 3
    assert all('revision: ""' in lines[place - 1] for place in places)


@pytest.mark.parametrize("name", experiment_names())
def test_every_file_says_what_it_asks(name: str) -> None:
    assert title_of(find_file(name)).endswith("?")


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_the_number_of_generations_in_the_comment_is_the_one_that_is_run(name: str, scale: str) -> None:
    counted = sum(len(spec.arms) * spec.seeds * (spec.generations + 1) for spec in specs_of(name, scale))
    text = find_file(name).read_text()
    at_scale = text.split(f"  {scale}:\n")[0].rsplit("\n\n", 1)[-1] if scale else text
    said = re.findall(r"(\d+) generations", at_scale)
    assert not said or int(said[0]) == counted


def test_the_tiny_scale_needs_nothing_but_what_is_installed() -> None:
    for name, scale in SHIPPED:
        if scale == "tiny":
            for spec in specs_of(name, scale):
                assert spec.model == "ouro-tiny"
                assert {domain.source for domain in spec.dataset.sources()} == {"embedded"}


def test_the_paper_is_followed_where_it_says_what_it_did() -> None:
    specs = specs_of("paper-v2", "paper")
    assert [spec.arms[0].real_share * spec.document_tokens for spec in specs] == [32, 64, 96]
    (spec,) = {(spec.generations, spec.seeds, spec.documents, spec.recipe.lora.rank) for spec in specs}
    assert spec == (10, 3, 1000, 16)
    first = specs[0].recipe
    assert first.batch_size * first.gradient_accumulation == 16
    assert first.steps * 16 == pytest.approx(5 * 1000, rel=0.01), "five epochs of one generation"
