"""Settings are read once, strictly, and every problem is told at once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest

from ouroscope.errors import InvalidRequest
from ouroscope.settings import (
    Secret,
    boolean,
    describe,
    directory,
    load,
    one_of,
    positive,
    seconds,
    variable,
    whole_number,
)

PREFIX = "OURO_TOY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySettings:
    store: Path = variable(directory, "directory of the artefact store")  # declares, as field() does
    address: str = variable(str, "host:port to listen on", "127.0.0.1:50051")
    batch_size: int = variable(positive, "documents sampled together", 8)
    token: Secret | None = variable(Secret, "token of the hub", None)  # declares, as field() does


def problems_of(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        load(ToySettings, environ, PREFIX)
    return {problem.field: problem.description for problem in caught.value.problems}


def test_what_the_environment_says_is_parsed_and_the_rest_has_its_default():
    settings = load(ToySettings, {"OURO_TOY_STORE": "/data", "OURO_TOY_BATCH_SIZE": "3", "HOME": "/root"}, PREFIX)
    assert settings == ToySettings(store=Path("/data"), address="127.0.0.1:50051", batch_size=3, token=None)


def test_settings_cannot_be_changed():
    settings = load(ToySettings, {"OURO_TOY_STORE": "/data"}, PREFIX)
    with pytest.raises(FrozenInstanceError):
        settings.batch_size = 4  # type: ignore[misc]


def test_all_problems_are_told_at_once():
    found = problems_of({"OURO_TOY_BATCH_SIZE": "many", "OURO_TOY_ADRESS": "x", "OURO_TOY_NOISE": "1"})
    assert set(found) == {"OURO_TOY_STORE", "OURO_TOY_BATCH_SIZE", "OURO_TOY_ADRESS", "OURO_TOY_NOISE"}


def test_a_required_variable_says_what_it_is_for():
    assert problems_of({})["OURO_TOY_STORE"] == "is required: directory of the artefact store"


def test_a_misspelt_name_is_an_error_that_names_the_right_one():
    assert "did you mean OURO_TOY_ADDRESS?" in problems_of({"OURO_TOY_ADRESS": "x"})["OURO_TOY_ADRESS"]


def test_variables_of_other_services_and_of_kubernetes_are_left_alone():
    environ = {
        "OURO_TOY_STORE": "/data",
        "OURO_OTHER_X": "1",
        "OUROSCOPE_TOY_PORT": "tcp://10.0.0.1:1",
        "OURO_TOYS": "1",
    }
    assert load(ToySettings, environ, PREFIX).store == Path("/data")


def test_the_text_of_the_error_names_every_variable():
    with pytest.raises(InvalidRequest, match="OURO_TOY_STORE is required") as caught:
        load(ToySettings, {"OURO_TOY_BATCH_SIZE": "-1"}, PREFIX)
    assert "OURO_TOY_BATCH_SIZE must be a whole number, 1 or more" in str(caught.value)


def test_a_secret_is_never_shown():
    settings = load(ToySettings, {"OURO_TOY_STORE": "/data", "OURO_TOY_TOKEN": "hunter2"}, PREFIX)
    assert "hunter2" not in repr(settings)
    assert f"{settings.token}" == "<SECRET>"
    assert settings.token is not None
    assert settings.token.reveal() == "hunter2"


def test_every_variable_is_described():
    described = describe(ToySettings, PREFIX)
    assert [(d.name, d.default) for d in described] == [
        ("OURO_TOY_STORE", None),
        ("OURO_TOY_ADDRESS", "127.0.0.1:50051"),
        ("OURO_TOY_BATCH_SIZE", "8"),
        ("OURO_TOY_TOKEN", ""),
    ]
    assert described[0].help == "directory of the artefact store"


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (positive, "1", 1),
        (whole_number, "0", 0),
        (seconds, "0.5", 0.5),
        (boolean, "TRUE", True),
        (boolean, "off", False),
        (one_of("json", "console"), "json", "json"),
        (directory, "a/b", Path("a/b")),
    ],
)
def test_parsers_read_what_they_promise(parser, text, value):
    assert parser(text) == value


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (positive, "0"),
        (positive, "1.5"),
        (positive, ""),
        (positive, "²"),
        (whole_number, "-1"),
        (seconds, "nan"),
        (seconds, "inf"),
        (seconds, "-1"),
        (seconds, "soon"),
        (boolean, "maybe"),
        (one_of("json", "console"), "xml"),
        (directory, ""),
    ],
)
def test_parsers_refuse_the_rest_and_say_what_would_be_right(parser, text):
    with pytest.raises(ValueError, match="must be"):
        parser(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    loud: bool = variable(boolean, "whether it is loud", False, formerly="NOISY")


@pytest.mark.parametrize(
    ("environ", "loud"),
    [
        ({}, False),
        ({"OURO_TOY_NOISY": "true"}, True),
        ({"OURO_TOY_LOUD": "true"}, True),
        ({"OURO_TOY_LOUD": "false", "OURO_TOY_NOISY": "true"}, False),
    ],
)
def test_a_former_name_works_where_the_new_one_is_not_set(environ: dict[str, str], loud: bool) -> None:
    assert load(Renamed, environ, PREFIX) == Renamed(loud=loud)
    assert [one.name for one in describe(Renamed, PREFIX)] == ["OURO_TOY_LOUD"]
