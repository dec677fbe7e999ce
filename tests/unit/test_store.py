"""What every artifact store promises, on a directory, on fsspec's memory and on S3; then what only a directory can
suffer. What only S3 can suffer is in tests/contract/test_s3.py.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ouroscope.errors import (
    AlreadyExists,
    CapabilityMissing,
    CorruptArtifact,
    InvalidRequest,
    NotFound,
    OuroscopeError,
    PreconditionFailed,
    StorageFull,
    Unavailable,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Generated
from ouroscope.records.training import FineTuned, LossPoint
from ouroscope.store import ArtifactStore, FileEntry, files_digest
from ouroscope.store import local as local_module

DIGEST = "ab" * 32
OTHER = "cd" * 32
FILES = {"config.json": b"{}", "data/part-0.bin": b"\x00" * 3000}
BAD_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "/etc/passwd",
    "a//b",
    "a/",
    "a\\b",
    ".hidden",
    "a\0b",
    "~/x",
    "-x",
    "x" * 300,
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "s3":
        return ArtifactStore(request.getfixturevalue("s3"))
    return ArtifactStore(tmp_path / "store" if request.param == "file" else f"memory://{uuid.uuid4().hex}/store")


@pytest.fixture
def directory(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def publish(store: ArtifactStore, digest: str = DIGEST, **files: bytes) -> ArtifactRef:
    return store.publish(ArtifactKind.MODEL, digest, files or FILES, {"documents": 3})


def opened(store: ArtifactStore, ref: ArtifactRef, name: str) -> bytes:
    with store.open(ref, name) as file:
        return file.read()


def damage(store: ArtifactStore, change: Callable[[bytes], bytes | None], name: str = "part-0.bin") -> None:
    """Change a stored file behind the back of the store; None removes it."""
    system, root = fsspec.core.url_to_fs(store.url, use_listings_cache=False)
    (path,) = (p for p in system.find(root) if p.endswith(name))
    data = change(system.cat_file(path))
    system.rm_file(path)
    if data is not None:
        system.pipe_file(path, data)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


# What is published can be read.


def test_what_was_published_is_read_back(store: ArtifactStore) -> None:
    ref = publish(store)
    assert {name: store.read(ref, name) for name in FILES} == FILES
    assert {name: opened(store, ref, name) for name in FILES} == FILES
    assert {name: (store.directory(ref) / name).read_bytes() for name in FILES} == FILES


def test_the_manifest_tells_the_digest_and_size_of_every_file(store: ArtifactStore) -> None:
    manifest = store.manifest(publish(store))
    assert manifest.files == {name: FileEntry(hashlib.sha256(d).hexdigest(), len(d)) for name, d in FILES.items()}
    assert (manifest.kind, manifest.digest, manifest.summary) == (ArtifactKind.MODEL, DIGEST, {"documents": 3})


def test_another_store_object_on_the_same_url_sees_it(store: ArtifactStore) -> None:
    ref = publish(store)
    assert ArtifactStore(store.url).read(ref, "config.json") == b"{}"


def test_an_artifact_that_was_never_published_is_not_found(store: ArtifactStore) -> None:
    ref = ArtifactRef(ArtifactKind.MODEL, DIGEST)
    assert not store.exists(ref)
    for ask in (store.manifest, store.directory, lambda r: store.read(r, "a"), lambda r: store.open(r, "a")):
        with pytest.raises(NotFound, match="not in the artifact store"):
            ask(ref)


def test_the_kind_is_part_of_the_name(store: ArtifactStore) -> None:
    publish(store)
    assert not store.exists(ArtifactRef(ArtifactKind.CORPUS, DIGEST))


def test_a_file_that_the_manifest_does_not_know_is_refused(store: ArtifactStore) -> None:
    ref = publish(store)
    with pytest.raises(CorruptArtifact, match="has no file"):
        store.read(ref, "other.bin")


def test_publishing_again_changes_nothing(store: ArtifactStore) -> None:
    ref = publish(store)
    again = store.publish(ArtifactKind.MODEL, DIGEST, {"other": b"x"}, {"documents": 4})
    assert again == ref
    assert store.manifest(ref).summary == {"documents": 3}
    assert set(store.manifest(ref).files) == set(FILES)


def test_files_may_be_bytes_or_paths(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"w" * 5_000_000)
    link = tmp_path / "link"
    link.symlink_to(source)
    ref = store.publish(ArtifactKind.MODEL, DIGEST, {"a": source, "b": link, "empty": b""})
    assert store.read(ref, "a") == store.read(ref, "b") == source.read_bytes()
    assert store.manifest(ref).files["a"] == FileEntry(hashlib.sha256(source.read_bytes()).hexdigest(), 5_000_000)
    source.write_bytes(b"changed later")
    assert store.read(ref, "a")[:1] == b"w"


def test_files_of_a_scratch_directory_can_be_published(store: ArtifactStore) -> None:
    with store.scratch() as folder:
        (folder / "weights").write_bytes(b"w" * 1000)
        ref = store.publish(ArtifactKind.MODEL, None, {"weights": folder / "weights"})
    assert store.read(ref, "weights") == b"w" * 1000
    assert not folder.exists()


def test_without_a_digest_the_bytes_give_the_name(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"{}")
    ref = store.publish(ArtifactKind.MODEL, None, {"config.json": b"{}"})
    assert ref == store.publish(ArtifactKind.MODEL, None, {"config.json": tmp_path / "copy"})
    assert ref.digest == files_digest({"config.json": b"{}"})
    assert (
        len({files_digest({"config.json": b"{}"}), files_digest({"config.json": b"[]"}), files_digest({"c": b"{}"})})
        == 3
    )


def test_an_artifact_needs_a_file_and_leaves_the_manifest_to_the_store(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="at least one file"):
        store.publish(ArtifactKind.MODEL, DIGEST, {})
    with pytest.raises(InvalidRequest, match=r"manifest\.json"):
        store.publish(ArtifactKind.MODEL, DIGEST, {"manifest.json": b"{}"})


@pytest.mark.parametrize("address", ["s3://key:hush@bucket/prefix", "s3://hush@bucket", "memory://me:hush@name"])
def test_an_address_that_holds_a_secret_is_refused_and_not_quoted(address: str) -> None:
    with pytest.raises(InvalidRequest, match="AWS_SECRET_ACCESS_KEY") as caught:
        ArtifactStore(address)
    assert "hush" not in repr(caught.value)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leaves_its_folder(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidRequest):
        store.publish(ArtifactKind.MODEL, DIGEST, {name: b"x"})
    with pytest.raises(InvalidRequest):
        store.draft("key").write(name, b"x")
    for use in (store.draft, lambda key: store.put_name(key, "a", publish(store)), lambda key: store.list_names(key)):
        with pytest.raises(InvalidRequest):
            use(name)


def test_a_list_has_all_artifacts_of_a_kind(store: ArtifactStore) -> None:
    assert list(store.list(ArtifactKind.MODEL)) == []
    refs = [publish(store), publish(store, OTHER)]
    store.publish(ArtifactKind.CORPUS, DIGEST, {"a": b"b"})
    assert list(store.list(ArtifactKind.MODEL)) == refs


def test_a_deleted_artifact_is_gone_and_can_be_published_again(store: ArtifactStore) -> None:
    ref = publish(store)
    store.delete(ref)
    store.delete(ref)
    assert not store.exists(ref)
    assert list(store.list(ArtifactKind.MODEL)) == []
    assert store.read(publish(store), "config.json") == b"{}"


# What is damaged is not believed.


@pytest.mark.parametrize(
    "change",
    [lambda d: d[:7] + b"\x01" + d[8:], lambda d: d[:-1], lambda d: d + b"\x00", lambda d: b"", lambda d: None],
    ids=["flipped", "cut", "longer", "empty", "removed"],
)
@pytest.mark.parametrize("how", ["read", "open", "directory"])
def test_a_changed_file_is_a_corrupt_artifact(store: ArtifactStore, change: Any, how: str) -> None:
    ref = publish(store)
    damage(store, change)
    ask = {"read": lambda: store.read(ref, "data/part-0.bin"), "open": lambda: store.open(ref, "data/part-0.bin")}
    with pytest.raises(CorruptArtifact):
        ask.get(how, lambda: store.directory(ref))()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d[:-2],
        lambda d: b"",
        lambda d: b"[]",
        lambda d: d.replace(DIGEST.encode(), OTHER.encode()),
        lambda d: d.replace(b"config.json", b"../../../x"),
        lambda d: d.replace(b'"version": 1', b'"version": 2'),
    ],
    ids=["cut", "empty", "list", "of another", "traversal", "version"],
)
def test_a_changed_manifest_is_a_corrupt_artifact(store: ArtifactStore, change: Any) -> None:
    ref = publish(store)
    damage(store, change, "manifest.json")
    with pytest.raises(CorruptArtifact, match="manifest"):
        store.manifest(ref)


# Many at once.


def test_threads_that_publish_the_same_artifact_are_all_right(store: ArtifactStore) -> None:
    # The name is a digest of the meaning, so equal names may come with different bytes: one of them must win whole.
    start = threading.Barrier(8)

    def one(i: int) -> ArtifactRef:
        start.wait()
        mine = ArtifactStore(store.url) if i % 2 else store
        return mine.publish(ArtifactKind.CORPUS, DIGEST, {name: bytes([i]) * 50_000 for name in ("a", "b", "c")})

    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(one, range(8)))
    (ref,) = refs
    assert len({store.read(ref, name) for name in ("a", "b", "c")}) == 1
    assert {path.name for path in store.directory(ref).iterdir()} >= {"a", "b", "c"}


def test_threads_can_read_the_same_file_at_once(store: ArtifactStore) -> None:
    ref = publish(store, big=os.urandom(300_000))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: (store.read(ref, "big"), opened(store, ref, "big")), range(24)))
    assert len({data for pair in read for data in pair}) == 1


# Drafts.


def test_a_draft_keeps_what_was_written_for_the_next_process(store: ArtifactStore) -> None:
    store.draft(DIGEST).write("shard-0", b"abc")
    store.draft(DIGEST).write("sub/shard-1", b"def")
    draft = ArtifactStore(store.url).draft(DIGEST)
    assert draft.names() == ("shard-0", "sub/shard-1")
    assert draft.has("shard-0")
    assert not draft.has("shard-2")
    assert draft.read("sub/shard-1") == b"def"


def test_a_draft_can_be_written_over_and_discarded(store: ArtifactStore) -> None:
    draft = store.draft("key")
    draft.discard()
    draft.write("a", b"1")
    draft.write("a", b"2")
    assert draft.read("a") == b"2"
    draft.discard()
    assert draft.names() == ()
    with pytest.raises(NotFound, match="no file"):
        draft.read("a")


def test_drafts_of_different_keys_do_not_meet(store: ArtifactStore) -> None:
    store.draft("a").write("x", b"1")
    store.draft("ab").write("x", b"2")
    store.draft("a").discard()
    assert store.draft("ab").read("x") == b"2"


def test_only_a_local_draft_has_a_path(tmp_path: Path) -> None:
    assert ArtifactStore("memory://drafts").draft("a").path is None
    path = ArtifactStore(tmp_path).draft("a").path
    assert path is not None
    assert path.is_dir()


# Remembered answers.


def test_an_answer_is_remembered(store: ArtifactStore) -> None:
    answer = Generated(corpus=publish(store), documents=5, tokens=7)
    assert store.get_result(OTHER, Generated) is None
    store.put_result(OTHER, answer)
    store.put_result(OTHER, answer)
    assert store.get_result(OTHER, Generated) == answer


def test_an_answer_about_an_artifact_that_is_gone_is_forgotten(store: ArtifactStore) -> None:
    ref = publish(store)
    store.put_result(OTHER, FineTuned(model=ref, steps=1, tokens=2, losses=(LossPoint(step=1, loss=2.0),)))
    store.delete(ref)
    assert store.get_result(OTHER, FineTuned) is None


def test_an_answer_of_another_class_is_not_taken_for_this_one(store: ArtifactStore) -> None:
    store.put_result(OTHER, LossPoint(step=1, loss=2.0))
    assert store.get_result(OTHER, Generated) is None


@pytest.mark.parametrize(
    "change", [lambda d: d[:-3], lambda d: b"", lambda d: d.replace(b"2.0", b"3.0"), lambda d: b"[1]"]
)
def test_a_damaged_answer_is_forgotten(store: ArtifactStore, change: Any) -> None:
    store.put_result(OTHER, LossPoint(step=1, loss=2.0))
    damage(store, change, f"{OTHER}.json")
    assert store.get_result(OTHER, LossPoint) is None


def test_answers_are_asked_for_by_digest_only(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="64 hexadecimal"):
        store.get_result("../../etc/passwd", LossPoint)


# Names.


def test_a_name_stands_for_an_artifact(store: ArtifactStore) -> None:
    ref = publish(store)
    named = store.put_name("baselines", "human-1", ref, {"documents": 3})
    assert store.get_name("baselines", "human-1") == named
    assert (named.ref, named.summary) == (ref, {"documents": 3})


def test_names_are_listed_in_order_and_apart_from_other_spaces(store: ArtifactStore) -> None:
    ref = publish(store)
    for name in ("b", "a", "c.d"):
        store.put_name("baselines", name, ref)
    store.put_name("other", "z", ref)
    assert [named.name for named in store.list_names("baselines")] == ["a", "b", "c.d"]
    assert store.list_names("nothing") == ()


def test_a_name_is_given_once(store: ArtifactStore) -> None:
    first = store.put_name("baselines", "a", publish(store), {"documents": 1})
    assert store.put_name("baselines", "a", first.ref, {"documents": 2}) == first
    with pytest.raises(AlreadyExists, match="choose another"):
        store.put_name("baselines", "a", publish(store, OTHER))


def test_a_deleted_name_is_free_again(store: ArtifactStore) -> None:
    store.put_name("baselines", "a", publish(store))
    store.delete_name("baselines", "a")
    for ask in (store.get_name, store.delete_name):
        with pytest.raises(NotFound, match="nothing is called 'a'"):
            ask("baselines", "a")
    store.put_name("baselines", "a", publish(store, OTHER))


def test_nothing_that_does_not_exist_gets_a_name(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        store.put_name("baselines", "a", ArtifactRef(ArtifactKind.REPORT, DIGEST))


def test_of_many_who_want_a_name_one_gets_it(store: ArtifactStore) -> None:
    refs = [publish(store, f"{i:064x}") for i in range(8)]

    def take(ref: ArtifactRef) -> bool:
        try:
            return store.put_name("baselines", "a", ref).ref == ref
        except AlreadyExists:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, refs)) == 1


# URLs.


def test_a_store_is_opened_by_path_or_url(tmp_path: Path) -> None:
    ref = publish(ArtifactStore(str(tmp_path / "s")))
    assert ArtifactStore(f"file://{tmp_path}/s").exists(ref)
    assert ArtifactStore(tmp_path / "s").exists(ref)


def test_an_unknown_kind_of_store_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest, match="not a kind of store"):
        ArtifactStore("nonsense://x")


def test_a_driver_that_is_not_installed_is_a_missing_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", no_driver)
    with pytest.raises(CapabilityMissing, match="Install s3fs"):
        ArtifactStore("s3://bucket/prefix")


def test_opening_and_reading_write_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    list(store.list(ArtifactKind.MODEL))
    store.get_result(DIGEST, LossPoint)
    store.list_names("baselines")
    store.draft("a").names()
    assert not (tmp_path / "store").exists()


# A directory: who may look, and what it holds.


def test_drafts_are_private(directory: ArtifactStore, tmp_path: Path) -> None:
    directory.draft("a").write("checkpoint", b"1")
    assert (tmp_path / "store/drafts/a").stat().st_mode & 0o777 == 0o700


def test_the_directory_of_a_local_artifact_is_its_own(directory: ArtifactStore, tmp_path: Path) -> None:
    ref = publish(directory)
    assert directory.directory(ref) == tmp_path / "store" / "model" / "ab" / DIGEST
    assert (directory.directory(ref) / "config.json").stat().st_mode & 0o222 == 0


def test_a_file_that_nobody_published_makes_a_directory_corrupt(directory: ArtifactStore) -> None:
    # A model directory is handed to a library that would load it.
    ref = publish(directory)
    (directory.directory(ref) / "modeling_evil.py").write_text("")
    with pytest.raises(CorruptArtifact, match="nobody published"):
        directory.directory(ref)


def test_a_directory_is_hashed_once_and_again_when_it_changes(
    directory: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, hashed = publish(directory), []
    original = local_module._hashed
    monkeypatch.setattr(local_module, "_hashed", lambda path: (hashed.append(path.name), original(path))[1])
    path = directory.directory(ref)
    directory.directory(ref)
    assert sorted(hashed) == ["config.json", "part-0.bin"]
    os.utime(path / "config.json", ns=(1, 1))
    directory.directory(ref)
    assert sorted(hashed) == ["config.json", "config.json", "part-0.bin"]


def test_debris_without_a_manifest_gives_way(directory: ArtifactStore, tmp_path: Path) -> None:
    place = tmp_path / "store" / "model" / "ab" / DIGEST
    place.mkdir(parents=True)
    (place / "config.json").write_bytes(b"half of")
    assert not directory.exists(ArtifactRef(ArtifactKind.MODEL, DIGEST))
    assert directory.read(publish(directory), "config.json") == b"{}"


def test_nothing_is_left_in_the_staging_area(directory: ArtifactStore, tmp_path: Path) -> None:
    publish(directory)
    with directory.scratch() as folder:
        (folder / "x").write_bytes(b"1")
    assert list((tmp_path / "store/staging").iterdir()) == []


def test_a_living_scratch_directory_is_not_swept_away(directory: ArtifactStore) -> None:
    with directory.scratch() as mine:
        (mine / "x").write_bytes(b"1")
        publish(directory)
        with ArtifactStore(directory.url).scratch():
            assert (mine / "x").exists()


# A directory: killed, full, forbidden.


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


PUBLISH_FOR_EVER = """
    import sys
    from ouroscope.records.artifacts import ArtifactKind
    from ouroscope.store import ArtifactStore
    store = ArtifactStore(sys.argv[1])
    while True:
        store.delete(store.publish(ArtifactKind.MODEL, "ab" * 32, {f"f{i}": b"x" * 200_000 for i in range(20)}))
"""


def test_a_publisher_killed_at_any_moment_leaves_nothing_half_visible(directory: ArtifactStore, tmp_path: Path) -> None:
    ref = ArtifactRef(ArtifactKind.MODEL, DIGEST)
    staging = tmp_path / "store/staging"
    for wanted in range(1, 20, 6):
        process = run_python(PUBLISH_FOR_EVER, directory.url)
        wait_until(lambda n=wanted: len(list(staging.glob("*/new/*"))) >= n)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if directory.exists(ref):
            assert len([directory.read(ref, f"f{i}") for i in range(20)]) == 20
            directory.delete(ref)
        assert list(directory.list(ArtifactKind.MODEL)) == []
    assert directory.read(publish(directory), "config.json") == b"{}"
    assert list(staging.iterdir()) == []


def test_a_killed_draft_has_whole_files_only(directory: ArtifactStore) -> None:
    process = run_python(
        """
        import sys
        from ouroscope.store import ArtifactStore
        draft = ArtifactStore(sys.argv[1]).draft("a")
        for i in range(10**6):
            draft.write(f"shard-{i}", b"x" * 500_000)
        """,
        directory.url,
    )
    wait_until(lambda: len(directory.draft("a").names()) >= 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    draft = directory.draft("a")
    assert {len(draft.read(name)) for name in draft.names()} == {500_000}


def test_processes_that_publish_the_same_artifact_are_all_right(directory: ArtifactStore) -> None:
    code = """
        import sys
        from ouroscope.records.artifacts import ArtifactKind
        from ouroscope.store import ArtifactStore
        store, content = ArtifactStore(sys.argv[1]), sys.argv[2].encode() * 100_000
        for i in range(20):
            store.publish(ArtifactKind.CORPUS, f"{i:064x}", {"a": content, "b": content})
    """
    processes = [run_python(code, directory.url, i) for i in range(3)]
    assert [process.communicate()[0] for process in processes] == ["", "", ""]
    refs = list(directory.list(ArtifactKind.CORPUS))
    assert len(refs) == 20
    assert all(directory.read(ref, "a") == directory.read(ref, "b") for ref in refs)


def test_a_full_disk_publishes_nothing_and_says_so(directory: ArtifactStore, tmp_path: Path) -> None:
    # The kernel refuses to let a file grow beyond the limit, which to a program is a disk that is full.
    code = """
        import resource, sys
        from ouroscope.errors import StorageFull
        from ouroscope.records.artifacts import ArtifactKind
        from ouroscope.store import ArtifactStore
        store = ArtifactStore(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        for attempt in (
            lambda: store.publish(ArtifactKind.MODEL, "ab" * 32, {"small": b"x", "large": b"x" * 300_000}),
            lambda: store.draft("a").write("large", b"x" * 300_000),
        ):
            try:
                attempt()
            except StorageFull as error:
                print(error.reason)
    """
    process = run_python(code, directory.url)
    assert process.communicate()[0].split() == ["STORAGE_FULL", "STORAGE_FULL"]
    assert list(directory.list(ArtifactKind.MODEL)) == []
    assert directory.draft("a").names() == ()
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EACCES, PreconditionFailed),
        (errno.EROFS, PreconditionFailed),
        (errno.EIO, Unavailable),
    ],
)
def test_what_the_system_refuses_becomes_a_typed_error(
    directory: ArtifactStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[OuroscopeError],
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "secret"))

    monkeypatch.setattr(os, "fsync", refuse)
    attempts: list[Callable[[], object]] = [
        lambda: publish(directory),
        lambda: directory.draft("a").write("x", b"1"),
        lambda: directory.put_result(DIGEST, LossPoint(step=1, loss=2.0)),
    ]
    for attempt in attempts:
        with pytest.raises(expected) as caught:
            attempt()
        assert "secret" not in caught.value.message
    monkeypatch.undo()
    assert not directory.exists(ArtifactRef(ArtifactKind.MODEL, DIGEST))
    assert directory.draft("a").names() == ()
    assert directory.get_result(DIGEST, LossPoint) is None


def test_a_root_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        store = ArtifactStore(root)
        for attempt in (lambda: publish(store), lambda: store.draft("a").write("x", b"1")):  # noqa: B023  # called here
            with pytest.raises(PreconditionFailed, match="cannot be used"):
                attempt()


def test_a_root_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    code = """
        import os, sys
        from ouroscope.errors import PreconditionFailed
        from ouroscope.records.artifacts import ArtifactKind
        from ouroscope.store import ArtifactStore
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            ArtifactStore(sys.argv[1]).publish(ArtifactKind.MODEL, "ab" * 32, {"a": b"x"})
        except PreconditionFailed as error:
            print(error.message)
    """
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    told = run_python(code, home / "store").communicate()[0]
    assert told.count("\n") == 1
    assert "Permission denied" in told
    assert list(home.iterdir()) == []


# Memory.


def test_a_large_file_is_published_and_checked_without_loading_it(directory: ArtifactStore, tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from ouroscope.records.artifacts import ArtifactKind
        from ouroscope.store import ArtifactStore
        source = Path(sys.argv[2])
        with source.open("wb") as file:
            file.truncate(80 << 20)
        store = ArtifactStore(sys.argv[1])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        store.directory(store.publish(ArtifactKind.MODEL, None, {"weights": source}))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    grown = int(run_python(code, directory.url, tmp_path / "weights").communicate()[0])
    assert grown < 20 << 10  # KiB


def test_the_manifest_is_readable_json(directory: ArtifactStore, tmp_path: Path) -> None:
    publish(directory)
    plain = json.loads((tmp_path / "store/model/ab" / DIGEST / "manifest.json").read_text())
    assert plain["summary"] == {"documents": 3}
    assert plain["version"] == 1
