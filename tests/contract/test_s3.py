"""A store on S3 whose server answers late, wrongly, half, or not at all, over real HTTP.

What every store promises is in tests/unit/test_store.py; it runs on the same server.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from botocore.retries.standard import ExponentialBackoff

from ouroscope.errors import OuroscopeError, PreconditionFailed, StorageFull, Unavailable
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store import ArtifactStore, FileEntry
from ouroscope.store import s3 as module
from tests.object_store import Fault, FaultProxy, ObjectStore

DIGEST = "ab" * 32
REF = ArtifactRef(ArtifactKind.MODEL, DIGEST)
MIB = 1 << 20


@pytest.fixture
def proxy(object_store: ObjectStore, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(object_store.endpoint) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.endpoint)
        yield found


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once: how long the driver waits in between is not ours."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda backoff, context: 0.01)


@pytest.fixture
def store(request: pytest.FixtureRequest, proxy: FaultProxy, s3: str, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """A store behind the proxy, that is as patient as in production; not where the fault is that an answer is slow."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    patience = 1 if params.get("fault") is SLOW else 60
    quick = {"retries": {"mode": "standard", "max_attempts": 4}, "connect_timeout": 20, "read_timeout": patience}
    monkeypatch.setattr(module, "OPTIONS", {"config_kwargs": quick, "default_block_size": 5 * MIB})
    return ArtifactStore(s3)


@pytest.fixture
def impatient(proxy: FaultProxy, s3: str, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """A store that gives up soon, for trouble that lasts."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    quick = {"retries": {"mode": "standard", "max_attempts": 1}, "connect_timeout": 20, "read_timeout": 60}
    monkeypatch.setattr(module, "OPTIONS", {"config_kwargs": quick, "default_block_size": 5 * MIB})
    return ArtifactStore(s3)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that goes up in three parts."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(12 * MIB))
    return path


def entry_of(path: Path) -> FileEntry:
    return FileEntry(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def publish(store: ArtifactStore, weights: Path) -> ArtifactRef:
    return store.publish(ArtifactKind.MODEL, DIGEST, {"config.json": b"{}", "weights": weights})


def left(s3: str) -> list[str]:
    """Return what lies in the store, past the proxy's faults."""
    import fsspec

    system, root = fsspec.core.url_to_fs(s3, use_listings_cache=False)
    return [str(path) for path in system.find(root)]


def uploads(s3: str) -> int:
    """Return how many uploads in parts were begun and neither completed nor given up."""
    import fsspec

    system, root = fsspec.core.url_to_fs(s3, use_listings_cache=False)
    return len(system.list_multipart_uploads(root.split("/")[0]))


INTERNAL, BUSY, GONE = (
    Fault("500", 2, code="InternalError"),
    Fault("503", 2),
    Fault("503", 2, code="ServiceUnavailable"),
)
CUT, SLOW, TORN = Fault("cut", 2), Fault("slow", 1), Fault("torn", 2)


@pytest.mark.parametrize(
    ("fault", "method"),
    [(INTERNAL, "PUT"), (BUSY, "POST"), (GONE, "PUT"), (CUT, "PUT"), (CUT, "POST"), (SLOW, "PUT")],
    ids=lambda found: found if isinstance(found, str) else f"{found.kind} {found.code}",
)
def test_trouble_that_passes_is_not_noticed_when_publishing(
    store: ArtifactStore, proxy: FaultProxy, weights: Path, s3: str, fault: Fault, method: str
) -> None:
    proxy.faults = [Fault(fault.kind, fault.times, method, "", fault.code)]
    publish(store, weights)
    assert proxy.faults[0].times == 0, "there was trouble"
    proxy.faults.clear()
    assert store.manifest(REF).files["weights"] == entry_of(weights)
    assert (store.directory(REF) / "weights").read_bytes() == weights.read_bytes()
    assert uploads(s3) == 0


@pytest.mark.parametrize("fault", [INTERNAL, BUSY, CUT, SLOW, TORN], ids=lambda fault: f"{fault.kind} {fault.code}")
def test_trouble_that_passes_is_not_noticed_when_reading(
    store: ArtifactStore, proxy: FaultProxy, weights: Path, fault: Fault
) -> None:
    publish(store, weights)
    proxy.faults = [Fault(fault.kind, fault.times, "GET", "", fault.code)]
    assert (store.directory(REF) / "weights").read_bytes() == weights.read_bytes()
    assert proxy.faults[0].times == 0
    assert store.read(REF, "config.json") == b"{}"


@pytest.mark.parametrize(
    ("kind", "where"),
    [("503", "partNumber=2"), ("cut", "partNumber=2"), ("503", "manifest.json"), ("cut", "config.json")],
)
def test_trouble_that_lasts_is_told_and_nothing_is_half_published(
    impatient: ArtifactStore, proxy: FaultProxy, weights: Path, s3: str, kind: str, where: str
) -> None:
    proxy.faults = [Fault(kind, 10_000, "PUT", where)]
    with pytest.raises(Unavailable, match="cannot be reached"):
        publish(impatient, weights)
    proxy.faults.clear()
    assert not impatient.exists(REF)
    assert list(impatient.list(ArtifactKind.MODEL)) == []
    assert uploads(s3) == 0
    # A manifest whose writing failed may yet have been written: the files stay, for garbage collection to judge.
    assert left(s3) == [] or where == "manifest.json"
    assert publish(impatient, weights) == REF
    assert (impatient.directory(REF) / "weights").read_bytes() == weights.read_bytes()


def test_a_server_that_is_not_there_is_unavailable(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    quick = {"retries": {"mode": "standard", "max_attempts": 1}, "connect_timeout": 1}
    monkeypatch.setattr(module, "OPTIONS", {"config_kwargs": quick})
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    store = ArtifactStore(s3)
    for ask in (lambda: store.exists(REF), lambda: store.manifest(REF), lambda: store.draft("a").write("b", b"c")):
        with pytest.raises(Unavailable, match="cannot be reached"):
            ask()


ANSWERS: list[tuple[str, str, type[OuroscopeError], str]] = [
    ("403", "AccessDenied", PreconditionFailed, "credentials"),
    ("403", "InvalidAccessKeyId", PreconditionFailed, "credentials"),
    ("507", "XMinioStorageFull", StorageFull, "no room left"),
    ("403", "QuotaExceeded", StorageFull, "no room left"),
    ("404", "NoSuchBucket", PreconditionFailed, "does not exist"),
    ("403", "RequestTimeTooSkewed", PreconditionFailed, "set both by NTP"),
]


@pytest.mark.parametrize(("status", "code", "kind", "told"), ANSWERS)
def test_what_waiting_cannot_help_is_told_in_words_that_do(
    impatient: ArtifactStore, proxy: FaultProxy, status: str, code: str, kind: type[OuroscopeError], told: str
) -> None:
    proxy.faults = [Fault(status, 10_000, "PUT", "", code)]
    with pytest.raises(kind, match=told):
        impatient.publish(ArtifactKind.MODEL, DIGEST, {"a": b"b"})
    proxy.faults.clear()
    assert not impatient.exists(REF)


def test_without_credentials_a_person_is_told_so(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(PreconditionFailed, match="no credentials for S3"):
        ArtifactStore(s3).draft("a").write("b", b"c")


def test_every_upload_carries_a_checksum_that_the_server_can_check(
    store: ArtifactStore, proxy: FaultProxy, weights: Path
) -> None:
    publish(store, weights)
    sent = [headers for method, headers in proxy.headers if method == "PUT"]
    assert len(sent) >= 4, "three parts, and more"
    assert all(any("x-amz-checksum" in f"{name}: {value}".lower() for name, value in one.items()) for one in sent)


def test_a_large_file_goes_up_in_parts(store: ArtifactStore, proxy: FaultProxy, weights: Path) -> None:
    publish(store, weights)
    assert proxy.parts == 3


def test_a_name_whose_answer_was_lost_is_given_all_the_same(store: ArtifactStore, proxy: FaultProxy) -> None:
    ref = store.publish(ArtifactKind.MODEL, DIGEST, {"a": b"b"})
    proxy.faults = [Fault("lost", 1, "PUT", "names/")]
    assert store.put_name("baselines", "human", ref).ref == ref
    assert store.get_name("baselines", "human").ref == ref


def test_a_full_disk_for_downloads_is_told_and_leaves_no_half_file(
    store: ArtifactStore, weights: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, weights)
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with pytest.raises(StorageFull):
        store.directory(REF)
    monkeypatch.undo()
    assert not list(small_disk.rglob("*weights*"))


def test_a_directory_on_a_full_disk_publishes_nothing(small_disk: Path, weights: Path) -> None:
    store = ArtifactStore(small_disk / "store")
    with pytest.raises(StorageFull, match="nothing was published"):
        publish(store, weights)
    assert not store.exists(REF)
    small = store.publish(ArtifactKind.MODEL, DIGEST, {"a": b"b"})
    assert store.read(small, "a") == b"b", "there is room again: nothing was left behind"
