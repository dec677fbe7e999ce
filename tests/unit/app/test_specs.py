"""Specifications: YAML plus overrides, read strictly, everything wrong told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.mappings import MAX_BYTES
from ouroscope_app.experiments.reading import read_experiment, title_of
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
        ("arms.third.real_share=0.5", "use 0 to 1, a name"),
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
    with pytest.raises(InvalidRequest, match=r"broken\.yaml:3: "):
        load_spec(str(path))


@pytest.mark.parametrize("content", [b"- just\n- a list\n", b"\xff\xfe\x00", b"x" * (MAX_BYTES + 1)])
def test_what_is_no_specification_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest):
        load_spec(str(path))


def test_a_specification_that_is_nowhere_names_those_that_ship() -> None:
    with pytest.raises(NotFound, match=r"paper-v2, .*quickstart"):
        load_spec("no-such-experiment")
    with pytest.raises(NotFound, match="did you mean quickstart"):
        load_spec("quikstart")


WRONG = """\
name: wrong
arms:
  - {name: human, protocol: human}
  - name: own
    protocol: repalce
    human_fraction: 1.2
    real_share: 0.001
documets: 3
recipe:
  steps: 0
evaluation: {prompt_length: 400}
dataset: {domains: [{name: a, libraries: [numpi]}, {name: b, source: nowhere.jsonl}]}
"""


def test_every_problem_is_told_at_once_with_the_line_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)
    with pytest.raises(InvalidRequest) as raised:
        load_spec(str(path), ["seeds=0", "sampling.temperature=11"])
    first, *told = raised.value.message.splitlines()
    assert first == f"{path} is not valid, {len(told)} problems:"
    begin = {
        f"{path}:8: documets: is not known; did you mean documents?",
        f"{path}:6: arms[1].human_fraction: must be in [0, 1], got 1.2",
        f"{path}:10: recipe.steps: must be at least 1",
        "--set seeds: seeds: must be in [1, 100]",
        "--set sampling.temperature: sampling.temperature: must be in [0, 10], got 11.0",
        f"{path}:7: arms.own.real_share: leaves no prefix or no continuation of document_tokens",
    }
    assert begin <= set(told)


def test_what_the_plan_and_the_data_set_find_has_its_line_too(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG.replace("documets: 3\n", "").replace("    real_share: 0.001\n", "").replace("1.2", "0.5"))
    with pytest.raises(InvalidRequest) as raised:
        load_spec(str(path), ["recipe.steps=2"])
    told = raised.value.message
    assert f"{path}:5: arms[1].protocol: unknown protocol 'repalce'; did you mean replace?" in told
    assert f"{path}:9: evaluation.max_tokens: must be at least prompt_length + 1 = 401" in told
    assert f"{path}:10: dataset.domains[0]: the embedded corpus has no library 'numpi'" in told
    assert f"{path}:10: dataset.domains[1]: there is no file or folder 'nowhere.jsonl'" in told


def test_one_problem_is_one_line(minimal: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        load_spec(minimal, ["arms.*.real_share=2"])
    assert len(raised.value.message.splitlines()) == 3, "one for each arm, and how many there are"
    with pytest.raises(InvalidRequest) as raised:
        load_spec(minimal, ["arms.human.real_share=2"])
    assert raised.value.message == "--set arms.human.real_share: arms[0].real_share: must be in (0, 1), got 2.0"


SCALED = MINIMAL + (
    "seeds: 3\nrecipe: {steps: 9}\nscales:\n  tiny:\n    recipe: {batch_size: 2}\n  paper: {model: owner/large}\n"
)


def test_a_scale_lies_over_the_rest_and_the_first_is_taken_if_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scaled.yaml"
    path.write_text(SCALED)
    tiny, paper = read_experiment(str(path)), read_experiment(str(path), "paper")
    assert (tiny.name, tiny.scale, tiny.specs[0].name) == ("mine-tiny", "tiny", "mine-tiny")
    assert (tiny.specs[0].recipe.steps, tiny.specs[0].recipe.batch_size, tiny.specs[0].model) == (9, 2, "ouro-tiny")
    assert (paper.specs[0].recipe.batch_size, paper.specs[0].model) == (16, "owner/large")
    assert load_spec(str(path), ["recipe.batch_size=4"]).recipe.batch_size == 4, "what is asked for last counts"
    with pytest.raises(InvalidRequest, match="--scale large: there is tiny and paper"):
        read_experiment(str(path), "large")


def test_a_file_without_scales_has_none_to_choose(minimal: str) -> None:
    with pytest.raises(InvalidRequest, match="this file has no scales"):
        read_experiment(minimal, "tiny")


def test_a_sweep_is_no_single_run_and_its_runs_share_their_seeds(tmp_path: Path) -> None:
    path = tmp_path / "swept.yaml"
    path.write_text(MINIMAL + "sweep:\n  grid:\n    sampling.temperature: [0.5, 1.0]\n")
    found = read_experiment(str(path), name="other")
    assert [spec.name for spec in found.specs] == ["other-temperature-0-5", "other-temperature-1-0"]
    assert len({spec.seed for spec in found.specs}) == 1
    with pytest.raises(InvalidRequest, match="sweep of 2 runs; start them by `ouroscope sweep`"):
        load_spec(str(path))
    path.write_text(path.read_text().replace("1.0", "11"))
    with pytest.raises(InvalidRequest, match=rf"{path}:7: sampling\.temperature: must be in"):
        read_experiment(str(path))


def test_a_file_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "arms": [{"name": "human", "protocol": "human"}], "seeds": 0}')
    with pytest.raises(InvalidRequest, match=r"mine\.json: seeds: must be in"):
        load_spec(str(path))
    path.write_text('{"name": \n}')
    with pytest.raises(InvalidRequest, match=r"mine\.json:2: "):
        load_spec(str(path))


def test_the_title_of_a_file_is_the_first_sentence_of_its_comment(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# Does it hold\n# in tests? Nobody knows.\n#\n# More.\nname: mine\n")
    assert title_of(path) == "Does it hold in tests?"
