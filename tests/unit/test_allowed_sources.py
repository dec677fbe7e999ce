"""What callers may name: nothing that the operator has not listed, however it is spelt and whatever links lead to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ouroscope.corpora.readers import read_documents
from ouroscope.errors import InvalidRequest, NotFound, NotPermitted, OuroscopeError
from ouroscope.records.runs import DatasetSpec, DomainSpec, RunSpec
from ouroscope.security.allowed import (
    EVERYTHING,
    AllowedSources,
    _opened_below,
    read_sources,
    sources_for,
)
from ouroscope.settings import load
from ouroscope.store import ArtifactStore
from services.coordinator.dataset.preparing import prepare
from services.coordinator.dataset.sources import check_source, documents_of
from services.coordinator.settings import CoordinatorSettings
from services.generator import models

from .coordinator.fakes import small_spec, write_dataset

NOTHING = AllowedSources()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"text": "allowed"}))
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.jsonl").write_text(json.dumps({"text": "a secret of the machine"}))
    return folder


@pytest.fixture
def allowed(inside: Path) -> AllowedSources:
    return AllowedSources(folders=(inside,))


def domain(source: object) -> DomainSpec:
    return DomainSpec(name="d", source=str(source))


def texts(source: object, allowed: AllowedSources) -> list[str]:
    return [document.text for document in documents_of(domain(source), allowed)]


def told(source: object, allowed: AllowedSources) -> str:
    with pytest.raises(NotPermitted) as caught:
        check_source(DatasetSpec(source=str(source)), allowed)
    assert caught.value.metadata["cause"] == "SOURCE_NOT_ALLOWED"
    return caught.value.message


# Paths


def test_what_is_below_an_allowed_folder_is_read(inside: Path, allowed: AllowedSources) -> None:
    check_source(DatasetSpec(source=str(inside)), allowed)
    assert texts(inside, allowed) == texts(inside / "a.jsonl", allowed) == ["allowed"]


def test_a_single_file_may_be_allowed(inside: Path) -> None:
    only = AllowedSources(folders=(inside / "a.jsonl",))
    assert texts(inside / "a.jsonl", only) == ["allowed"]
    told(inside, only)


@pytest.mark.parametrize(
    "spelt",
    ["{outside}/secret.jsonl", "{inside}/../outside/secret.jsonl", "{inside}", "../../../../etc/passwd", "~/x", "\0/x"],
)
def test_no_spelling_leads_out_of_the_allowed_folders(inside: Path, outside: Path, spelt: str) -> None:
    sibling = AllowedSources(folders=(inside / "deeper", Path(f"{inside}-not")))
    source = spelt.format(inside=inside, outside=outside)
    told(source, sibling)
    with pytest.raises(NotPermitted):
        texts(source, sibling)


def test_a_refusal_does_not_tell_whether_anything_is_there(outside: Path, allowed: AllowedSources) -> None:
    there, gone = outside / "secret.jsonl", outside / "hidden.jsonl"
    assert told(there, allowed).replace(there.name, "") == told(gone, allowed).replace(gone.name, "")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_counts_as_what_it_leads_to(inside: Path, outside: Path, allowed: AllowedSources, kind: str) -> None:
    (inside / "link.jsonl").symlink_to(outside if kind == "folder" else outside / "secret.jsonl")
    told(inside / "link.jsonl", allowed)
    with pytest.raises(NotPermitted):
        texts(inside / "link.jsonl", allowed)


def test_a_link_among_the_files_of_an_allowed_folder_is_not_followed_out(
    inside: Path, outside: Path, allowed: AllowedSources
) -> None:
    (inside / "b.jsonl").symlink_to(outside / "secret.jsonl")
    (inside / "c").symlink_to(outside)
    found = []
    with pytest.raises(NotPermitted) as caught:
        found += list(read_documents(inside, opens=allowed.open))
    assert not found
    assert str(outside) not in caught.value.message


def test_links_that_stay_inside_are_followed(inside: Path, allowed: AllowedSources) -> None:
    (inside / "b.jsonl").symlink_to("a.jsonl")
    assert texts(inside / "b.jsonl", allowed) == ["allowed"]


def test_an_allowed_folder_may_be_a_link_itself(tmp_path: Path, inside: Path) -> None:
    (tmp_path / "mounted").symlink_to(inside)
    assert texts(tmp_path / "mounted" / "a.jsonl", AllowedSources(folders=(tmp_path / "mounted",))) == ["allowed"]


@pytest.mark.parametrize("parts", [("link.jsonl",), ("away", "secret.jsonl")])
def test_a_link_that_is_put_in_the_way_after_the_look_leads_nowhere(
    inside: Path, outside: Path, parts: tuple[str, ...]
) -> None:
    (inside / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (inside / "away").symlink_to(outside)
    with pytest.raises(OSError, match=r"symbolic|Not a directory"):
        _opened_below(inside, parts)


def test_a_pipe_is_refused_and_holds_nobody(inside: Path, allowed: AllowedSources) -> None:
    os.mkfifo(inside / "pipe.jsonl")
    with pytest.raises(NotPermitted):
        allowed.open(inside / "pipe.jsonl")


def test_a_file_that_is_not_there_is_told_where_one_might_be(inside: Path, allowed: AllowedSources) -> None:
    with pytest.raises(NotFound):
        check_source(DatasetSpec(source=str(inside / "none.jsonl")), allowed)


def test_a_run_that_was_made_when_more_was_allowed_reads_no_more_than_is_allowed_now(tmp_path: Path) -> None:
    spec: RunSpec = small_spec(dataset=write_dataset(tmp_path))
    with pytest.raises(NotPermitted):
        prepare(ArtifactStore(str(tmp_path / "store")), spec, lambda _: None, NOTHING)


# The Hub


@pytest.mark.parametrize(
    ("pattern", "repository", "good"),
    [
        ("allenai/*", "allenai/c4", True),
        ("allenai/*", "allenai-x/c4", False),
        ("allenai/c4", "allenai/c4", True),
        ("allenai/c4", "allenai/c4-other", False),
        ("*", "anybody/anything", True),
        ("gpt2", "gpt2", True),
        ("gpt2", "gpt2/other", False),
    ],
)
def test_repositories_are_allowed_by_pattern(pattern: str, repository: str, good: bool) -> None:
    try:
        AllowedSources(hub=(pattern,)).check_hub(repository)
    except NotPermitted:
        assert not good
    else:
        assert good


def test_a_data_set_that_is_not_allowed_is_refused_before_anything_is_asked() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(NotPermitted):
        check_source(DatasetSpec(source="hf://some/where", revision="0" * 40), AllowedSources(hub=("other/*",)))


# Models


def test_embedded_models_are_always_allowed() -> None:
    assert models.find("ouro-tiny", NOTHING).directory is not None


@pytest.mark.parametrize("source", ["/etc", "~", "./models", "owner/name", "gpt2", "owner/name@main"])
def test_a_model_that_is_not_allowed_is_refused_before_anything_is_asked(source: str) -> None:
    with pytest.raises(NotPermitted):
        models.find(source, NOTHING)


@pytest.mark.parametrize("name", ["a" * 5000, "/" + "a" * 5000, "a/" * 3000, "~nobody-of-this-name/x", "/a\0b"])
def test_what_cannot_be_a_path_is_not_there(name: str) -> None:
    with pytest.raises((InvalidRequest, NotFound)):
        models.find(name)
    with pytest.raises(NotFound):
        check_source(DatasetSpec(source=name), EVERYTHING)


def test_a_folder_that_is_named_like_a_repository_is_no_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert models.find("owner/name").directory is not None
    with pytest.raises(NotPermitted):
        models.find("owner/name", NOTHING)
    assert models.find("owner/name", AllowedSources(folders=(tmp_path,))).directory is not None


@pytest.mark.parametrize("source", ["", "http://169.254.169.254/latest", "s3://bucket/model", "file:///etc", "a b"])
def test_an_address_is_no_source(source: str) -> None:
    """Nothing that a caller writes is ever fetched as an address."""
    with pytest.raises((InvalidRequest, NotPermitted)):
        models.find(source, NOTHING)
    with pytest.raises(InvalidRequest):
        models.find(source)
    with pytest.raises(OuroscopeError):
        check_source(DatasetSpec(source=source), NOTHING)


# What the operator says


def test_a_list_is_read() -> None:
    found = read_sources(" /data/corpora, hf://allenai/* ,embedded")
    assert found == AllowedSources(folders=(Path("/data/corpora"),), hub=("allenai/*",))
    assert read_sources("any") == EVERYTHING
    assert read_sources("embedded") == NOTHING
    assert read_sources("") is None


@pytest.mark.parametrize("text", ["data", "../x", "https://x/y", "hf://", "hf://a/b/c", "hf://[a-z]/x", "all"])
def test_what_is_no_list_is_told(text: str) -> None:
    with pytest.raises(InvalidRequest, match="absolute folders"):
        load(CoordinatorSettings, {"OURO_COORDINATOR_SOURCES": text}, "OURO_COORDINATOR")


@pytest.mark.parametrize(
    ("address", "asks", "found"),
    [
        ("127.0.0.1:1", False, EVERYTHING),
        ("127.0.0.1:1", True, NOTHING),
        ("0.0.0.0:1", True, NOTHING),
        ("0.0.0.0:1", False, NOTHING),
    ],
)
def test_where_others_may_call_nothing_but_the_embedded_is_allowed_unless_said(
    address: str, asks: bool, found: AllowedSources
) -> None:
    assert sources_for(None, address, asks=asks) == found
    assert sources_for(EVERYTHING, address, asks=asks) == EVERYTHING
    assert sources_for(NOTHING, address, asks=asks) == NOTHING
