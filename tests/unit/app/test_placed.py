"""Every value of a file knows its line, also behind aliases, merges and changes."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest
from ouroscope.placed import Placed, parse_yaml, place, plain_of, where_is
from ouroscope_app.experiments.changes import assigned, merged, overridden

TEXT = """\
name: mine
arms:
  - {name: human,
     protocol: human}
  - name: own
    real_share: 0.5
recipe:
  steps: 7
"""

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab:-#\n é", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=12,
)


def parsed(text: str) -> Placed:
    return parse_yaml(text, lambda line: f"f:{line}")


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_values_are_those_that_a_yaml_reader_sees(plain: object) -> None:
    text = yaml.safe_dump(plain)
    assert plain_of(parsed(text)) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("name", 1),
        ("arms", 2),
        ("arms[0].protocol", 4),
        ("arms[1].real_share", 6),
        ("arms.own.real_share", 6),
        ("arms.1.real_share", 6),
        ("recipe.steps", 8),
        ("recipe.batch_size", 7),  # not there: the group it belongs to
        ("arms.human.control", 3),
        ("documents", 1),
    ],
)
def test_a_field_is_where_it_is_written_or_where_its_group_is(path: str, line: int) -> None:
    assert where_is(parsed(TEXT), path) == f"f:{line}"


def test_an_alias_stands_where_it_is_used_and_a_merged_key_where_it_is_written() -> None:
    document = parsed("a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: 2\n")
    assert plain_of(document) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    assert (where_is(document, "b"), where_is(document, "c.x"), where_is(document, "c.y")) == ("f:2", "f:1", "f:5")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3: a is given twice, first in line 1"),
        ("a:\n  1: x\n", "f:2: a key must be text"),
        ("a: [\n  {b: }}\n", "f:2"),
        ("a: 1\n---\nb: 2\n", "f:2"),
        ("a: !!python/object/apply:os.getcwd []\n", "f:1"),
        ("a: 2026-13-45\n", "f:1"),
        ("[" * 5000, "f:1: too deep"),
        ("a: &a [*a]\n", "f:1"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parsed(text)
    assert raised.value.message.startswith(says)


def test_a_few_lines_cannot_stand_for_more_than_memory_holds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(InvalidRequest, match="more than 100,000 values"):
        parsed("\n".join(lines))


def test_a_layer_changes_mappings_key_by_key_and_items_by_name_number_or_all() -> None:
    document = parsed(TEXT)
    layer = place({"recipe": {"batch_size": 2}, "arms": {"own": {"control": "human"}, "0": {"part": 1}}}, "layer")
    both = merged(document, layer)
    assert plain_of(both)["recipe"] == {"steps": 7, "batch_size": 2}
    assert [plain_of(arm) for arm in both.value["arms"].value] == [
        {"name": "human", "protocol": "human", "part": 1},
        {"name": "own", "real_share": 0.5, "control": "human"},
    ]
    assert (where_is(both, "arms[1].control"), where_is(both, "recipe.steps")) == ("layer", "f:8")
    every = merged(document, place({"arms": {"*": {"real_share": 0.1}}}, "layer"))
    assert {plain_of(arm)["real_share"] for arm in every.value["arms"].value} == {0.1}


def test_a_list_in_a_layer_replaces_what_was_there() -> None:
    assert plain_of(merged(parsed(TEXT), place({"arms": []}, "layer")))["arms"] == []


def test_a_change_leaves_the_document_as_it_was() -> None:
    document = parsed(TEXT)
    changed = assigned(document, "arms.*.real_share", place(0.25, "here"), "here")
    assert plain_of(document) == yaml.safe_load(TEXT)
    assert where_is(changed, "arms[0].real_share") == "here"


def test_an_override_is_told_as_the_option_that_set_it() -> None:
    changed = overridden(parsed(TEXT), ["sampling.chat.system=You are", "recipe.steps=5"])
    assert plain_of(changed)["sampling"] == {"chat": {"system": "You are"}}
    assert where_is(changed, "recipe.steps") == "--set recipe.steps"
