"""Names of baselines on the command line."""

from __future__ import annotations

import pytest

from ouroscope.errors import AlreadyExists, InvalidRequest, NotFound
from ouroscope.records.analysis import Report
from ouroscope.store import ArtifactStore
from ouroscope_app.kept import check_free, find, full_name
from services.analyzer import baselines, reports
from services.analyzer.side import Side


@pytest.fixture
def store() -> ArtifactStore:
    store = ArtifactStore("memory://kept")
    published = reports.publish(store, Side(report=Report(analyzer_version="2")))
    assert published.report.report is not None
    baselines.create(store, "mine", published.report.report)
    return store


def test_a_short_name_and_a_full_one_mean_the_same() -> None:
    assert full_name("mine") == full_name("baselines/mine")


def test_a_baseline_is_found(store: ArtifactStore) -> None:
    assert find(store, "baselines/mine").name == "baselines/mine"


def test_a_missing_one_is_told_in_words_of_the_command_line(store: ArtifactStore) -> None:
    with pytest.raises(NotFound, match="ouroscope baselines list"):
        find(store, "baselines/nope")


def test_a_free_name_passes_and_a_taken_or_impossible_one_does_not(store: ArtifactStore) -> None:
    check_free(store, "baselines/other")
    with pytest.raises(AlreadyExists, match="ouroscope baselines delete mine"):
        check_free(store, "baselines/mine")
    with pytest.raises(InvalidRequest):
        check_free(store, "baselines/Not a name")
