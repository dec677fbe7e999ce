"""Specifications: YAML plus overrides, read strictly, everything wrong told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.mappings import MAX_BYTES
from ouroscope_app.plan import amounts_of
from ouroscope_app.specs import load_spec

MINIMAL = "name: mine\narms:\n  - {name: human, protocol: human}\n  - {name: replace, protocol: replace}\n"


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    return str(path)


def test_the_shipped_quickstart_is_valid_and_controlled() -> None:
    spec = load_spec("quickstart")
    human, replace = spec.arms
    assert spec.control_of(replace) == human
    assert (human.real_share, human.protocol) == (replace.real_share, "human")


def test_what_is_left_out_takes_the_default_of_the_record(minimal: str) -> None:
    spec = load_spec(minimal)
    assert (spec.model, spec.dataset.source, spec.sampling.top_k) == ("ouro-tiny", "embedded", 50)


def test_an_override_reaches_nested_values_lists_and_arms_by_name(minimal: str) -> None:
    spec = load_spec(minimal, ["recipe.steps=7", "arms.1.real_share=0.5", "arms.human.real_share=0.5", "seeds=3"])
    assert (spec.recipe.steps, spec.seeds, {arm.real_share for arm in spec.arms}) == (7, 3, {0.5})


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("recipe.stps=7", "did you mean steps"),
        ("arms.third.real_share=0.5", "use 0 to 1 or a name"),
        ("name.first=x", "is a value"),
        ("=3", "key=value"),
        ("recipe.steps=several", "recipe.steps"),
    ],
)
def test_a_wrong_override_says_what_would_be_right(minimal: str, override: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        load_spec(minimal, [override])


def test_broken_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\narms: [\n  {name: }}\n")
    with pytest.raises(InvalidRequest, match="line 3"):
        load_spec(str(path))


@pytest.mark.parametrize("content", [b"- just\n- a list\n", b"\xff\xfe\x00", b"x" * (MAX_BYTES + 1)])
def test_what_is_no_specification_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest):
        load_spec(str(path))


def test_a_specification_that_is_nowhere_names_one_that_ships() -> None:
    with pytest.raises(NotFound, match="quickstart"):
        load_spec("no-such-experiment")


def test_the_plan_counts_by_hand(minimal: str) -> None:
    spec = load_spec(minimal, ["generations=2", "seeds=3", "documents=100", "document_tokens=64", "recipe.steps=5"])
    amounts = amounts_of(spec)
    assert amounts["generations_to_examine"] == 2 * 3 * 3
    assert amounts["tokens_to_generate"] == 2 * 3 * 3 * 100 * 48
    assert amounts["fine_tunings"] == 2 * 3 * 2
    assert amounts["tokens_to_train"] == 2 * 3 * 2 * 5 * 16 * 128
