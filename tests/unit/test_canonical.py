"""The plain form of records. That every record survives it is shown, with the wire, in test_wire.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.canonical import canonical_json, digest_of, from_plain, to_plain
from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import Histogram, MetricValue, Report
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Generated, SamplingSpec
from ouroscope.records.runs import ArmSpec, PromptSelection, RunEvent, RunSpec, RunState

CORPUS = ArtifactRef(ArtifactKind.CORPUS, "ab" * 32)

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def problems_of(kind: type[Any], plain: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        from_plain(kind, plain)
    assert all(problem.description in caught.value.message for problem in caught.value.problems)
    return {problem.field: problem.description for problem in caught.value.problems}


@given(mapping=st.dictionaries(st.text(), plain_values, max_size=5))
def test_the_order_of_keys_changes_no_digest(mapping: dict[str, object]) -> None:
    assert digest_of(mapping) == digest_of(dict(reversed(mapping.items())))


@given(value=plain_values)
def test_tuples_and_lists_are_the_same_to_a_digest(value: object) -> None:
    assert digest_of([value, [value]]) == digest_of((value, (value,)))


def test_the_digest_is_that_of_the_json_written_by_hand() -> None:
    # printf '["a",1,{"documents":2.5,"name":null}]' | sha256sum
    assert digest_of("a", 1, {"name": None, "documents": 2.5}) == (
        "9e037b937d89724c09ad124e0272a66b8abb0b7705bb7ac7bc0d6540ccc51ed3"
    )


def test_parts_do_not_run_into_each_other() -> None:
    assert len({digest_of("ab", "c"), digest_of("a", "bc"), digest_of("abc"), digest_of(["ab", "c"])}) == 4


def test_one_and_true_and_one_as_text_are_different() -> None:
    assert len({digest_of(1), digest_of(True), digest_of("1"), digest_of(1.0)}) == 4


def test_a_whole_number_in_a_float_field_is_a_float() -> None:
    assert digest_of(SamplingSpec(temperature=1)) == digest_of(SamplingSpec(temperature=1.0))
    assert canonical_json(Histogram(edges=(0, 1), counts=(3,))) == '{"counts":[3],"edges":[0.0,1.0]}'


def test_any_change_of_a_field_changes_the_digest() -> None:
    document = Document(id="a", text="abc")
    changed = [
        replace(document, id="b"),
        replace(document, text="abd"),
        replace(document, origin=Origin.HUMAN),
        replace(document, generation=0),
        replace(document, prefix_length=1),
        replace(document, group=""),
    ]
    assert len({digest_of(d) for d in [document, *changed]}) == 7


def test_text_that_is_no_valid_unicode_still_has_a_digest() -> None:
    assert digest_of("\ud800") != digest_of("?")


def test_the_same_moment_in_two_zones_is_the_same() -> None:
    utc = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert digest_of(utc) == digest_of(utc.astimezone(timezone(timedelta(hours=5))))
    assert to_plain(utc) == "2026-01-02T12:00:00+00:00"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_has_no_plain_form(value: float) -> None:
    with pytest.raises(InvalidRequest, match="not a finite number"):
        to_plain(MetricValue(id="mattr", value=value))


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, Path("a"), {1: 2}, object(), Document])
def test_what_has_no_plain_form_is_a_fault_of_the_program(value: object) -> None:
    with pytest.raises(TypeError):
        to_plain(value)


def test_a_reference_is_written_as_people_write_it() -> None:
    generated = Generated(corpus=CORPUS, documents=1, tokens=2)
    assert to_plain(generated)["corpus"] == f"corpus/{'ab' * 32}"
    assert from_plain(Generated, to_plain(generated)) == generated


def test_enums_are_recognised_in_any_case() -> None:
    spec = from_plain(RunSpec, {"name": "a", "arms": [{"name": "a", "protocol": "human"}], "prompt_selection": "fixed"})
    assert spec.prompt_selection is PromptSelection.FIXED


def test_a_whole_number_serves_as_a_float_but_not_the_reverse() -> None:
    assert from_plain(SamplingSpec, {"temperature": 1}).temperature == 1.0
    assert problems_of(SamplingSpec, {"top_k": 5.0}) == {"top_k": "must be a whole number, got 5.0"}


def test_an_exponent_without_a_dot_is_a_number() -> None:
    # PyYAML follows YAML 1.1 and reads `5e-4` as text.
    assert from_plain(SamplingSpec, {"temperature": "5e-4"}).temperature == 5e-4
    assert "temperature" in problems_of(SamplingSpec, {"temperature": "0.5"})


@pytest.mark.parametrize("value", ["3", True, None, [3], {"a": 3}])
def test_nothing_else_is_converted_to_a_whole_number(value: object) -> None:
    assert list(problems_of(SamplingSpec, {"top_k": value})) == ["top_k"]


@pytest.mark.parametrize("value", ["nan", "inf", float("nan"), float("inf"), 10**400, True])
def test_a_float_must_be_a_finite_number(value: object) -> None:
    assert list(problems_of(SamplingSpec, {"temperature": value})) == ["temperature"]


def test_a_misspelt_key_is_told_with_the_nearest_known_one() -> None:
    assert problems_of(SamplingSpec, {"temprature": 1.0}) == {"temprature": "is not known; did you mean temperature?"}


def test_a_key_like_no_other_is_told_with_all_known_ones() -> None:
    assert "known are source, text_field" in problems_of(RunSpec, {"dataset": {"zzz": 1}})["dataset.zzz"]


def test_all_problems_are_told_at_once_with_their_paths() -> None:
    told = problems_of(
        RunSpec,
        {
            "nam": "x",
            "arms": [{"name": "a", "protocol": "replace"}, {"name": "B", "real_shar": 2, "real_share": 3}],
            "sampling": {"temperature": "hot", "top_p": 0},
            "start": "sequental",
            "recipe": {"lora": {"rank": 0}, "targets": []},
            "generations": 0,
            "seeds": "many",
        },
    )
    assert told == {
        "nam": "is not known; did you mean name?",
        "name": "is required",
        "arms[1].real_shar": "is not known; did you mean real_share?",
        "arms[1].name": "use lower-case letters, digits and hyphens, at most 63",
        "arms[1].protocol": "is required",
        "arms[1].real_share": "must be in (0, 1), got 3.0",
        "sampling.temperature": "must be a number, got 'hot'",
        "sampling.top_p": "must be in (0, 1], got 0.0",
        "start": "'sequental' is not a start; did you mean SEQUENTIAL?",
        "recipe.lora.rank": "must be at least 1",
        "recipe.targets": told["recipe.targets"],
        "generations": "must be at least 1",
        "seeds": "must be a whole number, got 'many'",
    }


def test_what_a_record_says_of_itself_as_a_whole_gets_its_path() -> None:
    told = problems_of(
        Report, {"analyzer_version": "1", "rungs": [{"budget": 1, "clusters": 1, "metrics": [{"id": "a"}]}]}
    )
    assert told == {"rungs[0].metrics[0].value": "needs a value or a reason"}
    assert "prefix_length must be in [0, 1]" in problems_of(Document, {"id": "a", "text": "b", "prefix_length": 2})[""]


@pytest.mark.parametrize("plain", [None, [], "arms", 3])
def test_a_record_is_read_from_a_mapping_only(plain: object) -> None:
    assert "must be a mapping of the fields of arm spec" in problems_of(ArmSpec, plain)[""]


def test_a_list_is_not_read_from_a_text() -> None:
    assert problems_of(RunSpec, {"name": "a", "arms": "human"}) == {"arms": "must be a list, got 'human'"}


def test_a_bad_reference_says_how_to_write_one() -> None:
    told = problems_of(Generated, {"corpus": "c", "documents": 1, "tokens": 1})
    assert "write it as corpus/<digest>" in told["corpus"]
    assert "corpus/<digest>" in problems_of(Generated, {"corpus": 7, "documents": 1, "tokens": 1})["corpus"]


@pytest.mark.parametrize("time", ["yesterday", "2026-01-02T12:00:00", 5, "", None])
def test_a_time_needs_a_zone(time: object) -> None:
    assert list(problems_of(RunEvent, {"run": "runs/a", "time": time, "state": "RUNNING"})) == ["time"]


def test_a_time_in_any_zone_is_read_as_utc() -> None:
    event = from_plain(RunEvent, {"run": "runs/a", "time": "2026-01-02T17:00:00+05:00", "state": "running"})
    assert (event.time, event.state) == (datetime(2026, 1, 2, 12, tzinfo=UTC), RunState.RUNNING)


def test_long_values_are_cut_in_messages() -> None:
    assert len(problems_of(SamplingSpec, {"top_k": "x" * 10_000})["top_k"]) < 120


@given(plain=plain_values)
def test_garbage_is_always_an_invalid_request(plain: object) -> None:
    with pytest.raises(InvalidRequest):
        from_plain(ArmSpec, {"name": plain, "protocol": plain, "extra": plain})
