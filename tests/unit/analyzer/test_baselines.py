"""Reports and baselines in the store: the same content has one name, and names belong to those who gave them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ouroscope.errors import AlreadyExists, CorruptArtifact, InvalidRequest, NotFound
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.store import ArtifactStore
from services.analyzer import baselines, reports
from services.analyzer.analysis import analyze
from services.analyzer.side import Side, side_of
from tests.unit.analyzer.corpora import prose


@cache
def side(seed: int = 0) -> Side:
    texts = prose(240, 50, seed)
    documents = [Document(id=str(n), text=text) for n, text in enumerate(texts)]
    return side_of(*analyze(documents, metrics=["types", "cooccurrence_nodes"], drawn_concepts=3))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def published(store: ArtifactStore, seed: int = 0) -> ArtifactRef:
    ref = reports.publish(store, side(seed)).report.report
    assert ref is not None
    return ref


def test_what_is_read_is_what_was_published(store: ArtifactStore) -> None:
    ref = published(store)
    found = reports.read(store, ref)
    assert replace(found.report, report=None) == side().report
    assert found.report.report == ref
    assert found.budgets == side().budgets == {10_000}
    for name in ("types_V", "counts_VK", "nodes_n", "node_mask_n", "edges_E", "edge_mask_E", "central_C"):
        assert np.array_equal(getattr(found.fingerprints[10_000], name), getattr(side().fingerprints[10_000], name))


def test_a_report_is_named_by_its_content_and_not_by_its_name(store: ArtifactStore) -> None:
    first = reports.publish(store, side())
    assert reports.publish(store, first) == first
    assert published(store, seed=1) != first.report.report


def test_reports_of_other_vocabularies_have_other_names(store: ArtifactStore) -> None:
    moved = {budget: replace(one, types_V=one.types_V ^ 1) for budget, one in side().fingerprints.items()}
    other = reports.publish(store, replace(side(), fingerprints=moved))
    assert other.report.report != published(store)


def test_a_damaged_report_is_not_believed(store: ArtifactStore, tmp_path: Path) -> None:
    ref = published(store)
    (file,) = tmp_path.rglob("report.json")
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact):
        reports.read(store, ref)


def test_a_report_in_a_form_that_is_not_known_says_what_to_do(store: ArtifactStore) -> None:
    files = {"report.json": b'{"speed": 1}', "fingerprints.safetensors": b""}
    ref = store.publish(ArtifactKind.REPORT, "0" * 64, files)
    with pytest.raises(CorruptArtifact, match="measure the corpus again"):
        reports.read(store, ref)


def test_only_reports_and_baselines_can_be_compared(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="analyse the corpus"):
        reports.read(store, ArtifactRef(ArtifactKind.CORPUS, "0" * 64))


def test_a_baseline_keeps_the_numbers_and_no_word(store: ArtifactStore) -> None:
    frozen = baselines.create(store, "human", published(store))
    found = reports.read(store, frozen.baseline)
    assert side().report.drawing is not None
    assert found.report.drawing is None
    assert found.report.rungs == side().report.rungs
    assert (frozen.documents, frozen.tokens, frozen.clusters) == (240, 12_000, 240)


def test_freezing_twice_is_fine_and_taking_a_name_is_not(store: ArtifactStore) -> None:
    frozen = baselines.create(store, "human", published(store))
    assert baselines.create(store, "human", published(store)) == frozen
    with pytest.raises(AlreadyExists):
        baselines.create(store, "human", published(store, seed=1))
    assert baselines.get(store, "baselines/human") == frozen


def test_a_deleted_baseline_frees_its_name(store: ArtifactStore) -> None:
    baselines.create(store, "human", published(store))
    baselines.delete(store, "baselines/human")
    with pytest.raises(NotFound, match="ListBaselines"):
        baselines.get(store, "baselines/human")
    with pytest.raises(NotFound):
        baselines.delete(store, "baselines/human")
    baselines.create(store, "human", published(store, seed=1))


def test_pages_follow_one_another_also_when_their_border_is_deleted(store: ArtifactStore) -> None:
    ref = published(store)
    for name in ("d", "b", "a", "c"):
        baselines.create(store, name, ref)
    first, after = baselines.page(store, "", 2)
    baselines.delete(store, "baselines/b")
    second, end = baselines.page(store, after, 2)
    assert [one.name for one in (*first, *second)] == [f"baselines/{name}" for name in "abcd"]
    assert (after, end) == ("b", "")
    assert baselines.page(store, "z", 2) == ((), "")


@pytest.mark.parametrize("name", ["human", "runs/human", "baselines/", "baselines/Human", "baselines/a/b"])
def test_what_is_no_name_is_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        baselines.get(store, name)
    assert refused.value.problems[0].field == "name"


def test_only_a_report_can_be_frozen(store: ArtifactStore) -> None:
    frozen = baselines.create(store, "human", published(store))
    with pytest.raises(InvalidRequest, match="report must refer to a report"):
        baselines.create(store, "again", frozen.baseline)
