"""A sweep is a list of plain changes, each with a name that a person can read."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest
from ouroscope.placed import place, plain_of
from ouroscope.records.runs import is_name
from ouroscope_app.experiments.cells import Cell, cells_of

SPEC = {"name": "mine", "arms": [{"name": "human"}, {"name": "own"}], "sampling": {"temperature": 1.0}}


def cells(sweep: Any, name: str = "mine") -> tuple[Cell, ...]:
    return cells_of(place(SPEC, "f:1"), None if sweep is None else place(sweep, "f:9"), name)


def test_no_sweep_is_one_cell_under_the_name_of_the_run() -> None:
    (cell,) = cells(None)
    assert (cell.name, cell.changes, plain_of(cell.document)) == ("mine", {}, SPEC)


def test_a_grid_has_all_combinations_in_order_and_names_that_say_them() -> None:
    found = cells({"grid": {"sampling.temperature": [0.7, 1], "arms.own.real_share": [0.25, 0.5]}})
    assert [cell.name for cell in found] == [
        "mine-temperature-0-7-real-share-0-25",
        "mine-temperature-0-7-real-share-0-5",
        "mine-temperature-1-real-share-0-25",
        "mine-temperature-1-real-share-0-5",
    ]
    last = plain_of(found[-1].document)
    assert (last["sampling"], last["arms"][1], last["arms"][0]) == (
        {"temperature": 1},
        {"name": "own", "real_share": 0.5},
        {"name": "human"},
    )


def test_a_list_has_one_cell_for_each_entry_with_its_own_axes() -> None:
    found = cells({"list": [{"start": "BASE"}, {"start": "SEQUENTIAL", "model": "meta-llama/Llama-2"}]})
    assert [cell.name for cell in found] == ["mine-start-base", "mine-start-sequential-model-meta-llama-llama-2"]


def test_axes_of_one_last_name_are_told_apart_and_groups_of_values_are_numbered() -> None:
    found = cells({"list": [{"arms.own.real_share": 0.5, "arms.human.real_share": 0.25}]})
    assert found[0].name == "mine-own-real-share-0-5-human-real-share-0-25"
    groups = cells({"grid": {"dataset": [{"source": "a"}, {"source": "b"}]}})
    assert [cell.name for cell in groups] == ["mine-dataset-1", "mine-dataset-2"]


AXES = st.dictionaries(
    st.sampled_from(["model", "sampling.temperature", "arms.*.real_share", "documents"]),
    st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    min_size=1,
    max_size=3,
)


@settings(max_examples=50, deadline=None)
@given(AXES)
def test_cells_are_as_many_as_combinations_and_all_names_can_name_a_run(axes: dict[str, list[int]]) -> None:
    found = cells({"grid": axes}, "a")
    assert len({cell.name for cell in found}) == len(found) == prod(map(len, axes.values()))
    assert all(is_name(cell.name) for cell in found)
    assert len({str(plain_of(cell.document)) for cell in found}) == len(found)


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        ({}, "a sweep is `grid"),
        ({"grid": {}, "list": []}, "a sweep is `grid"),
        ({"gird": {}}, "a sweep is `grid"),
        ({"grid": {"start": "BASE"}}, "a list of values"),
        ({"list": {"start": "BASE"}}, "a list holds mappings"),
        ({"list": []}, "1 to 1000 runs, this one 0"),
        ({"grid": {"start": []}}, "1 to 1000 runs, this one 0"),
        ({"grid": {f"a{n}": list(range(10)) for n in range(9)}}, "1 to 1000 runs"),
        ({"grid": {"name": ["x"]}}, "leave name out"),
        ({"grid": {"start": ["BASE", "base"]}}, "two runs would be called mine-start-base"),
        ({"grid": {"model": ["x" * 80]}}, "63 fit"),
        ({"grid": {"arms.third.real_share": [0.5]}}, "there is no 'third'"),
        ({"grid": {"name.first": [1]}}, "is a value"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused_with_its_line(sweep: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as raised:
        cells(sweep)
    assert raised.value.message.startswith("f:9: ")
