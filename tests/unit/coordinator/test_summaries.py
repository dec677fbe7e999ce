"""Summaries in a run: what a specification must say of them, and how they come from a source to its corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import InvalidRequest
from ouroscope.records.generation import ChatFormat, SamplingSpec
from ouroscope.records.runs import DatasetSpec, DomainSpec
from ouroscope.records.training import Recipe
from ouroscope.store import ArtifactStore
from ouroscope_app.experiments.reading import read_experiment
from services.coordinator import plan
from services.coordinator.dataset.dealing import parts_of

from .domains import quiet, texts_of
from .fakes import small_spec

TELLING = ChatFormat(instruction="Write of {summary}.")
SILENT = ChatFormat(instruction="Write of {this}.")
TOLD = DomainSpec(name="told", source="/texts", summary_field="gist")
UNTOLD = DomainSpec(name="untold", source="/other")


def problems_of(dataset: DatasetSpec, sampling: ChatFormat | None, recipe: ChatFormat | None = None) -> dict[str, str]:
    """Return what is wrong, by field; nothing where the specification is valid."""
    changes: dict[str, Any] = {"sampling": SamplingSpec(chat=sampling), "recipe": Recipe(chat=recipe)}
    try:
        plan.validate(small_spec(dataset=dataset, **changes))
    except InvalidRequest as error:
        return {problem.field: problem.description for problem in error.problems}
    return {}


def one(**changes: Any) -> DatasetSpec:
    return DatasetSpec(source="/texts", **changes)


@pytest.mark.parametrize(
    ("dataset", "sampling", "recipe", "field", "told"),
    [
        (one(), TELLING, None, "sampling.chat.instruction", "the data set has no summary_field"),
        (one(), SILENT, TELLING, "recipe.chat.instruction", "has no summary_field"),
        (one(summary_field="gist"), None, None, "dataset.summary_field", "nothing reads it"),
        (one(summary_field="gist"), SILENT, SILENT, "dataset.summary_field", "nothing reads it"),
        (one(summary_field="text"), TELLING, None, "dataset.summary_field", "the field of the text itself"),
        (DatasetSpec(summary_field="gist"), TELLING, None, "dataset.summary_field", "'embedded' has no summaries"),
        (DatasetSpec(domains=(TOLD, UNTOLD)), TELLING, None, "sampling.chat.instruction", "the domain 'untold' has no"),
        (DatasetSpec(domains=(UNTOLD, TOLD)), None, None, "dataset.domains[1].summary_field", "nothing reads it"),
    ],
)
def test_a_summary_that_is_wanted_and_not_there_or_there_and_not_wanted_is_told(
    dataset: DatasetSpec, sampling: ChatFormat | None, recipe: ChatFormat | None, field: str, told: str
) -> None:
    assert told in problems_of(dataset, sampling, recipe)[field]


@pytest.mark.parametrize(("sampling", "recipe"), [(TELLING, TELLING), (TELLING, None), (None, TELLING)])
def test_a_summary_that_somebody_reads_is_valid(sampling: ChatFormat | None, recipe: ChatFormat | None) -> None:
    assert not problems_of(one(summary_field="gist"), sampling, recipe)
    assert not problems_of(DatasetSpec(domains=(TOLD,)), sampling, recipe)


def test_the_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "told.yaml"
    path.write_text(
        "name: told\narms: [{name: a, protocol: replace}]\nsampling:\n  chat:\n    instruction: 'Of {summary}'\n"
    )
    with pytest.raises(InvalidRequest, match=r"told\.yaml:5: sampling\.chat\.instruction: tells the \{summary\}"):
        read_experiment(str(path), "")


def test_summaries_go_along_into_both_parts_of_a_source(tmp_path: Path) -> None:
    texts = texts_of(1, 120)
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "gist": f"of {text[:6]}"}) for text in texts))
    store = ArtifactStore(tmp_path / "store")
    dealt = [
        parts_of(store, DomainSpec(name="told", source=str(path), summary_field=field), quiet) for field in ("gist", "")
    ]
    for told, untold in ((dealt[0].prompts, dealt[1].prompts), (dealt[0].heldout, dealt[1].heldout)):
        documents = list(read_corpus(store, told))
        assert all(document.summary == f"of {document.text[:6]}" for document in documents)
        # What is said of a text does not decide where it goes.
        assert [document.text for document in documents] == [document.text for document in read_corpus(store, untold)]


def test_the_first_version_of_the_paper_asks_by_summaries() -> None:
    (spec,) = read_experiment("paper-v1", "paper").specs
    assert spec.dataset.summary_field
    assert spec.sampling.chat == spec.recipe.chat
    assert spec.sampling.chat is not None
    assert spec.sampling.chat.tells_summaries
    assert spec.documents == 2050
    assert spec.prefix_tokens(spec.arms[0]) == 1
