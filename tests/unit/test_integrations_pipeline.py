"""One call per generation: what pipelines have becomes documents, and the monitor is asked over a real port."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest, NotFound, Unavailable
from ouroscope.integrations.documents import answer, documents_of
from ouroscope.integrations.pipeline import monitor_name, record_generation
from ouroscope.records.analysis import Verdict
from ouroscope.records.documents import Document, Origin, View
from ouroscope.records.monitors import Monitor
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from tests.toy_monitors import ToyMonitors, toy_monitors

EXPECTED = NextToken(prompt_id="p", cluster="p", top_probabilities=(0.5,), entropy=1.0)
SCORED = ScoredText(
    document_id="d",
    cluster="d",
    role=TextRole.HELDOUT,
    tokens=3,
    text_bytes=9,
    log_probability=-2.0,
    greedy_tokens=1,
    last_tokens=1,
    last_greedy_tokens=0,
)


@pytest.fixture
def toy() -> Iterator[ToyMonitors]:
    with toy_monitors() as toy:
        yield toy


@given(prompt=st.text(min_size=1), completion=st.text())
def test_an_answer_is_seen_without_its_prompt(prompt: str, completion: str):
    document = answer(prompt, completion, id="1")
    assert document.visible(View.CONTINUATION) == completion
    assert document.visible(View.WHOLE) == prompt + completion
    assert document.origin is Origin.SYNTHETIC
    assert document.prompt_id == answer(prompt, "other", id="2").prompt_id != answer(prompt + "x", "", id="3").prompt_id


def test_strings_rows_and_documents_become_documents():
    given = Document(id="mine", text="as it is", origin=Origin.HUMAN)
    row = {"id": 7, "text": "a row", "origin": "human", "group": "g", "language": "en"}
    pair = {"prompt": "P", "completion": "C", "domain": "news"}
    plain, from_row, paired, same = documents_of(["a text", {**row, "id": "7"}, pair, given])
    assert plain == Document(id="text-0", text="a text")
    assert from_row == Document(id="7", text="a row", origin=Origin.HUMAN, group="g")
    assert paired == answer("P", "C", id="text-2", domain="news")
    assert same is given


def test_prompts_and_groups_stand_beside_the_texts():
    first, second = documents_of(["A", "B"], prompts=["P", "Q"], groups=["g", "h"])
    assert first == answer("P", "A", id="text-0", group="g")
    assert second == answer("Q", "B", id="text-1", group="h")
    (grouped,) = documents_of([Document(id="d", text="t")], groups=["g"])
    assert grouped.group == "g"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"texts": "one text"}, "expected many"),
        ({"texts": {"text": "one row"}}, "expected many"),
        ({"texts": ["a"], "prompts": "P"}, "expected a list of str"),
        ({"texts": ["a", "b"], "prompts": ["P"]}, "prompts: there are fewer"),
        ({"texts": ["a"], "groups": ["g", "h"]}, "groups: there are more"),
        ({"texts": [Document(id="d", text="t")], "prompts": ["P"]}, "says its own prompt"),
        ({"texts": ["a", {"completion": "C"}]}, r"texts\[1\]: a row with a completion needs its prompt"),
        ({"texts": [{"id": "1"}]}, r"texts\[0\].*text: is required"),
        ({"texts": [{"text": "t", "prefix_length": 5}]}, r"texts\[0\].*prefix_length"),
    ],
)
def test_what_fits_nowhere_is_refused_with_its_place(arguments: dict[str, Any], told: str):
    with pytest.raises(InvalidRequest, match=told):
        list(documents_of(**arguments))


def test_a_generation_arrives_whole_and_its_verdict_comes_back(toy: ToyMonitors):
    toy.monitors["monitors/news"] = Monitor(name="monitors/news")
    toy.verdicts = [Verdict.WARNING]
    generation = record_generation(
        "news",
        4,
        (f"text {n}" for n in range(3)),
        prompts=["P", "Q", "R"],
        predictions=[SCORED, EXPECTED],
        coordinator=toy.address,
        description="v4",
        synthetic_share=0.25,
    )
    assert (generation.name, generation.verdict) == ("monitors/news/generations/4", Verdict.WARNING)
    (told,) = toy.told
    assert (told.parent, told.number, told.description, told.synthetic_share) == ("monitors/news", 4, "v4", 0.25)
    assert [one.visible(View.CONTINUATION) for one in told.documents] == ["text 0", "text 1", "text 2"]
    assert (told.next_tokens, told.texts) == ((EXPECTED,), (SCORED,))


def test_a_monitor_is_made_only_if_that_is_asked_for(toy: ToyMonitors):
    with pytest.raises(NotFound):
        record_generation("news", 0, ["a"], coordinator=toy.address)
    assert toy.monitors == {}
    for number in range(2):
        record_generation("monitors/news", number, ["a"], coordinator=toy.address, ensure=True)
    assert list(toy.monitors) == ["monitors/news"]


def test_nobody_who_answers_is_told_as_such():
    with pytest.raises(Unavailable):
        record_generation("news", 0, ["a"], coordinator="127.0.0.1:1")


@pytest.mark.parametrize("name", ["", "monitors/", "a/b", "monitors/a/generations/1"])
def test_a_name_that_cannot_be_is_refused(name: str):
    with pytest.raises(InvalidRequest, match="monitors/news"):
        monitor_name(name)


def test_importing_the_adapters_for_python_needs_no_library_of_others():
    program = """
import sys
import ouroscope.integrations, ouroscope.integrations.pipeline, ouroscope.integrations.gateway_logs
print([name for name in ("torch", "transformers", "mlflow", "pyarrow", "numpy", "fsspec") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
