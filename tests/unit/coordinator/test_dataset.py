"""Human text, dealt into prompts and held-out text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ouroscope.corpora.docstrings import Part, part_of
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import InvalidRequest, NotFound, PreconditionFailed
from ouroscope.records.documents import Document, Origin
from ouroscope.records.runs import DatasetSpec, RunSpec
from ouroscope.store import ArtifactStore
from services.coordinator.dataset.preparing import prepare
from services.coordinator.dataset.sources import check_source
from services.coordinator.dataset.texts import Dataset

from .fakes import small_spec, write_dataset


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return small_spec(dataset=write_dataset(tmp_path))


def read(store: ArtifactStore, dataset: Dataset) -> dict[str, list[Document]]:
    """Return the documents of every corpus."""
    names = ("prompts", "heldout", "questions", "unigram")
    return {name: list(read_corpus(store, getattr(dataset, name))) for name in names}


def quiet(_: Any) -> None:
    """Report to nobody."""


def test_nothing_that_can_be_prompted_with_or_trained_on_is_held_out(store: ArtifactStore, spec: RunSpec) -> None:
    found = read(store, prepare(store, spec, quiet))
    texts = {name: {document.text for document in documents} for name, documents in found.items()}
    assert not texts["prompts"] & (texts["heldout"] | texts["questions"])
    assert texts["unigram"] <= texts["prompts"]
    assert all(part_of(text) is Part.HELD_OUT for text in texts["heldout"] | texts["questions"])


def test_as_many_documents_are_held_out_as_asked_for_and_each_can_be_asked_about(
    store: ArtifactStore, spec: RunSpec
) -> None:
    found = read(store, prepare(store, spec, quiet))
    assert (len(found["heldout"]), len(found["questions"])) == (20, 20)
    assert all(len(document.text.split()) > spec.evaluation.prompt_length for document in found["questions"])


def test_the_same_text_and_specification_give_the_same_corpora_in_any_store(
    store: ArtifactStore, spec: RunSpec, tmp_path: Path
) -> None:
    other = ArtifactStore(str(tmp_path / "other"))
    assert prepare(store, spec, quiet) == prepare(other, spec, quiet)


def test_another_root_holds_out_other_documents_of_the_same_part(store: ArtifactStore, spec: RunSpec) -> None:
    one, other = prepare(store, spec, quiet), prepare(store, replace(spec, seed=1), quiet)
    assert one.prompts == other.prompts
    assert one.heldout != other.heldout


def test_human_text_is_marked_as_human(store: ArtifactStore, spec: RunSpec) -> None:
    found = read(store, prepare(store, spec, quiet))
    assert {document.origin for documents in found.values() for document in documents} == {Origin.HUMAN}


def test_text_that_says_it_is_synthetic_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    path.write_text(json.dumps({"text": "written by a machine", "origin": "SYNTHETIC"}))
    with pytest.raises(InvalidRequest, match="synthetic"):
        prepare(store, small_spec(dataset=DatasetSpec(source=str(path))), quiet)


def test_too_little_held_out_text_is_told_with_the_numbers(store: ArtifactStore, spec: RunSpec) -> None:
    greedy = replace(spec, evaluation=replace(spec.evaluation, heldout_documents=400))
    with pytest.raises(PreconditionFailed, match=r"heldout_documents asks for 400 .* the source has \d+"):
        prepare(store, greedy, quiet)


def test_a_source_of_one_document_is_told(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a single line\n")
    with pytest.raises(PreconditionFailed, match="none could be held out"):
        prepare(store, small_spec(dataset=DatasetSpec(source=str(tmp_path / "one.txt"))), quiet)


def test_a_source_that_is_not_there_is_told_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="give a path that exists"):
        check_source(DatasetSpec(source=str(tmp_path / "nothing.jsonl")))
    check_source(DatasetSpec())
