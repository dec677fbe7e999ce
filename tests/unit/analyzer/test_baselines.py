"""Reports and baselines in the store: the same content has one name, and names belong to those who gave them.

`version_1` holds a baseline as version 1 of the analyzer stored it, before values told their definition.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ouroscope.errors import AlreadyExists, CorruptArtifact, InvalidRequest, NotFound
from ouroscope.records.analysis import Comparison, MetricValue, Policy, Verdict
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.store import ArtifactStore
from services.analyzer import baselines, reports
from services.analyzer.analysis import analyze
from services.analyzer.answers import Answer
from services.analyzer.catalogue import METRICS
from services.analyzer.comparison import compare
from services.analyzer.side import Side, side_of
from services.analyzer.spread import FEWEST_SOURCES, HumanSpread, RungSpread, Spread
from tests.unit.analyzer.corpora import prose

ANSWERS = (
    Answer(key="0000000000000001", entropy=2.5, top1=0.25, prompt_id="wiki/1"),
    Answer(key="0000000000000002", entropy=0.1, top1=0.9),
)


@cache
def side(seed: int = 0) -> Side:
    texts = prose(240, 45, seed)
    documents = [Document(id=str(n), text=f"{text} may a quokka smile again") for n, text in enumerate(texts)]
    report, prints = analyze(documents, metrics=["types", "cooccurrence_nodes"], drawn_concepts=3, repeated_texts=3)
    return side_of(report, prints, ANSWERS)


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
    assert found.answers == ANSWERS
    there, here = found.fingerprints[10_000], side().fingerprints[10_000]
    for name in ("types_V", "counts_VK"):
        assert np.array_equal(getattr(there, name), getattr(here, name))
    assert there.networks.keys() == here.networks.keys() == {"cooccurrence"}
    for name in ("nodes_n", "node_mask_n", "edges_E", "edge_mask_E", "central_C", "strength_n"):
        assert np.array_equal(
            getattr(there.networks["cooccurrence"], name), getattr(here.networks["cooccurrence"], name)
        )


def test_a_report_is_named_by_its_content_and_not_by_its_name(store: ArtifactStore) -> None:
    first = reports.publish(store, side())
    assert reports.publish(store, first) == first
    assert published(store, seed=1) != first.report.report


def test_reports_of_other_vocabularies_have_other_names(store: ArtifactStore) -> None:
    moved = {budget: replace(one, types_V=one.types_V ^ 1) for budget, one in side().fingerprints.items()}
    other = reports.publish(store, replace(side(), fingerprints=moved))
    assert other.report.report != published(store)


def test_reports_with_other_answers_have_other_names(store: ArtifactStore) -> None:
    known = {reports.publish(store, replace(side(), answers=ANSWERS[:count])).report.report for count in range(3)}
    assert len(known) == 3


def test_a_report_without_prompts_has_no_file_of_answers(store: ArtifactStore) -> None:
    ref = reports.publish(store, replace(side(), answers=())).report.report
    assert ref is not None
    assert reports.ANSWERS_FILE not in store.manifest(ref).files
    assert reports.read(store, ref).answers == ()


@pytest.mark.parametrize("content", [b"{", b"5", b"[5]", b'[{"speed": 1}]'])
def test_answers_in_a_form_that_is_not_known_say_what_to_do(store: ArtifactStore, content: bytes) -> None:
    plain = published(store)
    files = {name: store.read(plain, name) for name in (reports.REPORT_FILE, reports.FINGERPRINTS_FILE)}
    ref = store.publish(ArtifactKind.REPORT, "0" * 64, {**files, reports.ANSWERS_FILE: content})
    with pytest.raises(CorruptArtifact, match="measure the predictions again"):
        reports.read(store, ref)


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
    assert side().report.repeated_texts
    assert found.report.repeated_texts == ()
    assert [one.prompt_id for one in found.answers] == ["", ""]
    assert [one.entropy for one in found.answers] == [one.entropy for one in ANSWERS]
    kept = b"".join(store.read(frozen.baseline, name) for name in store.manifest(frozen.baseline).files)
    assert not [word for word in (b"wiki", b"quokka") if word in kept]
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


OLD = "version-one"
OLD_DIGEST = "0a2e641df9475097104f5018a9b8394474c42054ac6dac908f3b18ee58a5a024"


@pytest.fixture
def old_store(store: ArtifactStore) -> ArtifactStore:
    """A store in which version 1 of the analyzer froze a baseline of `same_text`."""
    here = Path(__file__).with_name("version_1")
    files = {name: (here / name).read_bytes() for name in (reports.REPORT_FILE, reports.FINGERPRINTS_FILE)}
    summary: dict[str, str | int] = {"analyzer_version": "1", "documents": 240, "tokens": 12_000, "clusters": 240}
    ref = store.publish(ArtifactKind.BASELINE, OLD_DIGEST, files, {**summary, "prompts": 0})
    store.put_name(baselines.SPACE, OLD, ref)
    return store


@cache
def same_text() -> Side:
    """What version 1 had measured, measured today."""
    texts = map(sentences, prose(240, 50, 7, vocabulary=30))
    documents = [Document(id=str(n), text=text) for n, text in enumerate(texts)]
    return side_of(*analyze(documents, metrics=[metric.id for metric in METRICS if not metric.needs]))


def sentences(text: str) -> str:
    words = text.split()
    parts = [words[start : start + 10] for start in range(0, len(words), 10)]
    for part in parts:
        part[3] += "\u2019s"
    return " ".join(" ".join(part).capitalize() + "." for part in parts)


def old_side(store: ArtifactStore) -> Side:
    return reports.read(store, store.get_name(baselines.SPACE, OLD).ref)


def judged(baseline: Side, candidate: Side) -> Comparison:
    spreads = tuple(
        Spread(id=value.id, mean=1.0, deviation=1.0, sources=FEWEST_SOURCES, definition=value.definition)
        for value in candidate.text_values(10_000).values()
    )
    rungs = (RungSpread(budget=10_000, metrics=spreads),)
    table = HumanSpread(analyzer_version="", date="", command="", sources=(), rungs=rungs)
    return compare(baseline, candidate, spread=table, policy=Policy())


def test_a_baseline_of_version_1_is_listed_and_read(old_store: ArtifactStore) -> None:
    frozen = baselines.get(old_store, f"baselines/{OLD}")
    assert (frozen.analyzer_version, frozen.documents, frozen.tokens) == ("1", 240, 12_000)
    assert baselines.page(old_store, "", 10) == ((frozen,), "")
    side = old_side(old_store)
    assert side.budgets == {10_000}
    assert {value.definition for value in side.report.metrics} == {1}
    assert (side.report.parser, side.report.encoder) == ("", "")
    assert set(side.fingerprints[10_000].networks) == {"cooccurrence"}
    assert side.fingerprints[10_000].networks["cooccurrence"].strength_n is None
    assert side.answers == ()


def test_the_text_that_version_1_measured_is_today_as_it_was(old_store: ArtifactStore) -> None:
    # A metric that moves here got another definition, and its number in the catalogue must say so.
    ours, theirs = (side.text_values(10_000) for side in (old_side(old_store), same_text()))
    kept = [id for id in ours if id in theirs and theirs[id].definition == 1]
    assert {id: ours[id].value for id in kept} == pytest.approx({id: theirs[id].value for id in kept}, rel=1e-12)
    told = judged(old_side(old_store), same_text())
    assert told.verdict is Verdict.STABLE, told.sentence
    assert told.novel_token_share == 0.0
    assert [one.effect for one in told.families] == pytest.approx([0.0, 0.0], abs=1e-9)
    values = {one.id: one.candidate for one in told.metrics}
    for metric in ("vocabulary_coverage", "cooccurrence_edge_overlap", "cooccurrence_central_overlap"):
        assert values[metric] == pytest.approx(1.0)


def test_one_metric_of_an_old_baseline_with_another_definition_says_so_and_the_others_compare(
    old_store: ArtifactStore,
) -> None:
    def changed(value: MetricValue) -> MetricValue:
        return replace(value, definition=value.definition + 1) if value.id == "mattr" else value

    rungs = tuple(replace(rung, metrics=tuple(map(changed, rung.metrics))) for rung in same_text().report.rungs)
    told = judged(old_side(old_store), replace(same_text(), report=replace(same_text().report, rungs=rungs)))
    reasons = {one.id: one.undefined_because for one in told.metrics}
    assert reasons["mattr"] == "its definition changed from 1 to 2; measure the baseline again"
    assert reasons["types"] is None
    assert told.verdict is Verdict.STABLE
    assert all("mattr" not in family.metrics for family in told.families)


def test_an_old_baseline_can_be_deleted(old_store: ArtifactStore) -> None:
    baselines.delete(old_store, f"baselines/{OLD}")
    assert baselines.page(old_store, "", 10) == ((), "")
