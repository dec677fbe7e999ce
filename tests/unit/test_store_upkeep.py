"""What nobody needs goes, what somebody needs stays, and what is damaged is found; on every kind of store."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from ouroscope.errors import NotFound
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Generated
from ouroscope.records.runs import RunState, StageTime
from ouroscope.store import ArtifactStore
from ouroscope.store.garbage import Collector, Garbage, Policy
from ouroscope.store.verification import Verifier
from ouroscope.stored_models import BASE
from ouroscope_app.main import app
from services.coordinator.database import open_history
from services.coordinator.lock import HomeLock
from services.coordinator.references import read_needed
from tests.places import Place, make_place
from tests.unit.coordinator.conftest import a_run
from tests.unit.coordinator.fakes import small_spec

LATER = datetime.now(UTC) + timedelta(days=365)
POLICY = Policy()


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "s3":
        return ArtifactStore(request.getfixturevalue("s3"))
    return ArtifactStore(tmp_path / "store" if request.param == "file" else f"memory://{uuid.uuid4().hex}/store")


def put(store: ArtifactStore, kind: ArtifactKind, content: bytes = b"", **summary: str) -> ArtifactRef:
    return store.publish(kind, None, {"data.json": content or uuid.uuid4().hex.encode()}, summary)


def find(store: ArtifactStore, *roots: ArtifactRef, now: datetime = LATER, since: datetime | None = None) -> Garbage:
    return Collector(store, now, POLICY).find(roots, since, lambda done, total: None)


def answer(store: ArtifactStore, digit: str, ref: ArtifactRef) -> None:
    store.put_result(digit * 64, Generated(corpus=ref, documents=1, tokens=1))


def test_what_nobody_names_is_garbage_and_the_rest_stays(store: ArtifactStore) -> None:
    root, named, alone = (put(store, ArtifactKind.CORPUS) for _ in range(3))
    store.put_name("baselines", "human", named)
    garbage = find(store, root)
    assert garbage.artifacts == (alone,)
    assert garbage.bytes == 32
    Collector(store, LATER, POLICY).remove(garbage)
    assert set(store.list(ArtifactKind.CORPUS)) == {root, named}
    assert find(store, root) == Garbage()


def test_an_adapter_keeps_its_base_and_a_report_keeps_its_corpus(store: ArtifactStore) -> None:
    base, corpus = put(store, ArtifactKind.MODEL), put(store, ArtifactKind.CORPUS)
    adapter = put(store, ArtifactKind.MODEL, **{BASE: str(base)})
    report = put(store, ArtifactKind.REPORT, json.dumps({"corpus": str(corpus), "model": str(adapter)}).encode())
    assert find(store, report).artifacts == ()
    assert set(find(store, adapter).artifacts) == {corpus, report}
    assert set(find(store).artifacts) == {base, corpus, adapter, report}


def test_what_is_young_stays_whoever_names_it(store: ArtifactStore) -> None:
    put(store, ArtifactKind.CORPUS)
    store.draft("a").write("x", b"1")
    now = datetime.now(UTC)
    assert find(store, now=now + POLICY.artifacts - timedelta(hours=1)) == Garbage()
    old = find(store, now=now + POLICY.artifacts + timedelta(hours=1))
    assert len(old.artifacts) == 1
    assert old.drafts == ("a",)


def test_an_answer_keeps_what_it_names_for_its_time_and_then_goes_with_it(store: ArtifactStore) -> None:
    kept, gone = put(store, ArtifactKind.CORPUS), put(store, ArtifactKind.CORPUS)
    answer(store, "1", kept)
    answer(store, "2", gone)
    now = datetime.now(UTC)
    assert find(store, now=now + POLICY.answers - timedelta(hours=1)) == Garbage()
    garbage = find(store, kept)
    assert garbage.artifacts == (gone,)
    assert garbage.answers == ("2" * 64,), "an answer about something that is needed may be asked for again"


def test_what_was_written_since_a_run_at_work_began_stays_however_old(store: ArtifactStore) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    answer(store, "1", put(store, ArtifactKind.CORPUS))
    put(store, ArtifactKind.MODEL)
    store.draft("a").write("checkpoint", b"1")
    assert find(store, since=began) == Garbage()
    assert find(store, since=datetime.now(UTC) + timedelta(minutes=1)) != Garbage()


@pytest.mark.parametrize("store", ["memory", "s3"], indirect=True)
def test_attempts_that_never_came_to_their_manifest_are_left_over(store: ArtifactStore) -> None:
    ref = put(store, ArtifactKind.MODEL)
    system, root = fsspec.core.url_to_fs(store.url, use_listings_cache=False)
    folder = f"model/{ref.digest[:2]}/{ref.digest}"
    system.pipe_file(f"{root}/{folder}/{'e' * 32}/data.json", b"half")
    garbage = find(store, ref)
    assert garbage.leftovers == (f"{folder}/{'e' * 32}",)
    assert garbage.artifacts == ()
    Collector(store, LATER, POLICY).remove(garbage)
    assert store.read(ref, "data.json")
    assert find(store, ref) == Garbage()


def test_a_store_that_is_whole_has_no_problems(store: ArtifactStore) -> None:
    ref = put(store, ArtifactKind.MODEL)
    assert Verifier(store).check(ref).problems == ()


@pytest.mark.parametrize(("change", "told"), [(b"other", "not what was published"), (None, "gone")])
def test_a_damaged_file_is_found_also_where_it_was_read_before(
    store: ArtifactStore, change: bytes | None, told: str
) -> None:
    ref = put(store, ArtifactKind.MODEL)
    store.directory(ref)
    system, root = fsspec.core.url_to_fs(store.url, use_listings_cache=False)
    (path,) = (path for path in system.find(root) if path.endswith("data.json"))
    system.rm_file(path)
    if change is not None:
        system.pipe_file(path, change)
    (problem,) = Verifier(store).check(ref).problems
    assert told in problem


# What runs need.


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = make_place(request, tmp_path)
    monkeypatch.setenv("OUROSCOPE_HOME", str(tmp_path))
    if found.url is not None:
        monkeypatch.setenv("OURO_COORDINATOR_DATABASE", found.url)
    return found


async def test_everything_that_a_run_names_is_needed_and_so_is_what_came_since_it_began(place: Place) -> None:
    history, refs = await open_history(place.home, place.url), [ArtifactRef(ArtifactKind.MODEL, c * 64) for c in "12"]
    run = a_run(small_spec(), "r")
    await history.create_run("r", run, None)
    await history.keep_setup("r", "model", str(refs[0]), StageTime(stage="model", seconds=1))
    await history.keep_setup("r", "dataset", {"prompts": str(refs[1])}, StageTime(stage="dataset", seconds=1))
    needed = read_needed(place.home, place.url)
    assert needed.artifacts == set(refs)
    assert needed.since == run.create_time
    await history.move("r", state=RunState.SUCCEEDED)
    assert read_needed(place.home, place.url).since is None
    await history.close()


def test_a_place_without_runs_is_told_so_and_nothing_is_made_there(place: Place) -> None:
    with pytest.raises(NotFound, match="no database of runs"):
        read_needed(place.home, place.url)
    assert not (place.home / "state").exists()


def old(store: ArtifactStore) -> ArtifactRef:
    """Publish something and make it look old."""
    ref = put(store, ArtifactKind.CORPUS)
    path = Path(store.url) / "corpus" / ref.digest[:2] / ref.digest / "manifest.json"
    os.utime(path, (1, 1))
    return ref


async def history_with(place: Place, ref: ArtifactRef) -> None:
    history = await open_history(place.home, place.url)
    await history.create_run("r", a_run(small_spec(), "r", state=RunState.FAILED), None)
    await history.keep_setup("r", "model", str(ref), StageTime(stage="model", seconds=1))
    await history.close()


def test_the_command_tells_first_and_removes_only_when_told_so(place: Place, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    needed, alone = old(store), old(store)
    asyncio.run(history_with(place, needed))
    told = CliRunner().invoke(app, ["store", "gc", "--json"])
    assert json.loads(told.stdout)["artifacts"] == [str(alone)]
    assert store.exists(alone)
    assert json.loads(CliRunner().invoke(app, ["store", "gc", "--json", "--delete"]).stdout)["deleted"] is True
    assert [store.exists(ref) for ref in (needed, alone)] == [True, False]


def test_nothing_is_removed_while_a_coordinator_is_at_work_or_where_nobody_knows_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUROSCOPE_HOME", str(tmp_path))
    alone = old(store := ArtifactStore(tmp_path / "store"))
    refused = CliRunner().invoke(app, ["store", "gc", "--delete"])
    assert (refused.exit_code, store.exists(alone)) == (1, True)
    lock = HomeLock(tmp_path)
    assert CliRunner().invoke(app, ["store", "gc", "--delete", "--without-runs"]).exit_code == 1
    asyncio.run(lock.release())
    assert store.exists(alone)
    assert CliRunner().invoke(app, ["store", "gc", "--delete", "--without-runs"]).exit_code == 0
    assert not store.exists(alone)


def test_the_command_verifies_and_says_by_its_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUROSCOPE_HOME", str(tmp_path))
    store = ArtifactStore(tmp_path / "store")
    good, bad = put(store, ArtifactKind.CORPUS), put(store, ArtifactKind.MODEL)
    assert CliRunner().invoke(app, ["store", "verify"]).exit_code == 0
    path = store.directory(bad) / "data.json"
    path.chmod(0o600)
    path.write_bytes(b"other")
    found = CliRunner().invoke(app, ["store", "verify", "--json"])
    assert found.exit_code == 1
    told = json.loads(found.stdout)
    assert [one["artifact"] for one in told["damaged"]] == [str(bad)]
    assert told["artifacts"] == 2
    assert str(good) not in found.stdout
