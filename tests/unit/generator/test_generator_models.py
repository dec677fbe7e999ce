"""Where models come from, what is refused, and what is known of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from ouroscope import embedded
from ouroscope.errors import (
    CapabilityMissing,
    CorruptArtifact,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    OuroscopeError,
    PreconditionFailed,
    UntrustedArtifact,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Capability, ModelInfo
from ouroscope.store.artifacts import ArtifactStore
from services.generator import hub
from services.generator.in_process.backend import HfBackend
from services.generator.models import find, import_model, stored_model, stored_shape

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOM = 10**9


@pytest.fixture
def copied(model_directory: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model_directory, tmp_path / "model")


@pytest.fixture
def fresh(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def imported(fresh: ArtifactStore, noting_task: Callable[..., Any]) -> Callable[..., ModelInfo]:
    def run(source: str | Path, max_bytes: int = ROOM) -> ModelInfo:
        return import_model(fresh, find(str(source)), [Capability.GENERATE], noting_task(), max_bytes=max_bytes)

    return run


def test_an_imported_model_is_described_by_its_files(
    copied: Path, imported: Callable[..., ModelInfo], fresh: ArtifactStore
) -> None:
    info = imported(copied)
    assert info.source == str(copied)
    assert (info.context_tokens, info.vocabulary) == (96, 320)
    assert info.parameters == sum(tensor.numel() for tensor in load_file(copied / "model.safetensors").values())
    assert stored_model(fresh, info.model, [Capability.GENERATE]) == info


def test_the_name_of_a_model_is_its_content_and_neither_place_nor_time(
    copied: Path, imported: Callable[..., ModelInfo], tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(copied, tmp_path / "elsewhere")
    os.utime(elsewhere / "config.json", (1, 1))
    (elsewhere / "README.md").write_text("not part of the model")
    assert imported(elsewhere).model == imported(copied).model
    config = json.loads((elsewhere / "config.json").read_text())
    (elsewhere / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    assert imported(elsewhere).model != imported(copied).model


def test_a_directory_that_changes_is_another_source(copied: Path) -> None:
    before = find(str(copied)).state
    assert find(str(copied)).state == before
    (copied / "config.json").write_text((copied / "config.json").read_text() + " ")
    assert find(str(copied)).state != before


def test_embedded_models_are_found_by_name() -> None:
    assert "ouro-tiny" in embedded.names()
    assert find("ouro-tiny").directory == embedded.model_directory("ouro-tiny")
    with pytest.raises(NotFound, match=r"embedded models: .*ouro-tiny"):
        embedded.model_directory("ouro-huge")


def poison_with_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def poison_with_remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))


def poison_with_link(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder.parent / "outside.json")
    (folder / "tokenizer.json").symlink_to(folder.parent / "outside.json")


def poison_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


def poison_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "Nonsense"}}')


def poison_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": -1}))


@pytest.mark.parametrize(
    "poison",
    [
        poison_with_pickle,
        poison_with_remote_code,
        poison_with_link,
        poison_weights,
        poison_tokenizer,
        poison_sizes,
    ],
)
def test_a_poisoned_directory_is_refused_and_leaves_nothing(
    copied: Path, imported: Callable[..., ModelInfo], fresh: ArtifactStore, poison: Callable[[Path], None]
) -> None:
    poison(copied)
    with pytest.raises(UntrustedArtifact, match="refused"):
        imported(copied)
    assert list(fresh.list(ArtifactKind.MODEL)) == []


def test_a_model_over_the_limit_is_refused(copied: Path, imported: Callable[..., ModelInfo]) -> None:
    with pytest.raises(LimitExceeded, match="MAX_MODEL_BYTES"):
        imported(copied, max_bytes=1000)


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        ("", InvalidRequest, "names no model"),
        ("a b", InvalidRequest, "ouro-tiny"),
        ("http://example.com/x", InvalidRequest, "owner/name"),
        ("/nowhere/at/all", NotFound, "no directory"),
        ("./nowhere", NotFound, "no directory"),
        ("ouro-tinny", NotFound, r"cannot be reached .*ouro-tiny"),
        ("nobody/nothing", NotFound, "cannot be reached"),
    ],
)
def test_a_source_that_is_nothing_says_what_would_be(source: str, kind: type[OuroscopeError], told: str) -> None:
    """No test reaches the Hub: tests/conftest.py switches it off."""
    with pytest.raises(kind, match=told):
        find(source)


@pytest.fixture
def hub_holds(monkeypatch: pytest.MonkeyPatch, model_directory: Path, tmp_path: Path) -> Path:
    """Let the Hub hold the tiny model and let its cache look as it does: links into a folder of blobs."""
    blobs = shutil.copytree(model_directory, tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    (snapshot / "training_args.bin").write_bytes(b"\x80\x04.")

    class Api:
        def model_info(self, repository: str, **_: Any) -> Any:
            assert repository == "owner/name"
            return type("Info", (), {"sha": COMMIT})

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(snapshot))
    return snapshot


@pytest.mark.usefixtures("hub_holds")
def test_a_model_of_the_hub_is_the_same_model_without_what_else_is_there(
    imported: Callable[..., ModelInfo], copied: Path, fresh: ArtifactStore
) -> None:
    assert find("owner/name@main").state == COMMIT
    info = imported("owner/name")
    assert info.model == imported(copied).model
    assert info.source == "owner/name"
    assert "training_args.bin" not in fresh.manifest(info.model).files


@pytest.mark.usefixtures("hub_holds")
def test_without_a_network_what_was_downloaded_earlier_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        def model_info(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError

    monkeypatch.setattr(hub, "HfApi", Offline)
    assert find("owner/name").state == COMMIT


@pytest.mark.parametrize(("error", "kind"), [(RepositoryNotFoundError, NotFound), (GatedRepoError, PreconditionFailed)])
def test_answers_of_the_hub_become_errors_of_ours(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], kind: type[OuroscopeError]
) -> None:
    class Refusing:
        def model_info(self, *_: Any, **__: Any) -> Any:
            raise error.__new__(error)

    monkeypatch.setattr(hub, "HfApi", Refusing)
    with pytest.raises(kind):
        find("owner/name")


def test_weights_that_are_missing_are_never_made_up(
    copied: Path, imported: Callable[..., ModelInfo], fresh: ArtifactStore
) -> None:
    weights = load_file(copied / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    ref = imported(copied).model
    with pytest.raises(CorruptArtifact, match="up_proj"):
        HfBackend(fresh, device="cpu", threads=1).open(ref)


def test_a_model_whose_tokenizer_knows_more_tokens_is_refused(
    copied: Path, imported: Callable[..., ModelInfo], fresh: ArtifactStore
) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
    ref = imported(copied).model
    with pytest.raises(UntrustedArtifact, match="more tokens"):
        HfBackend(fresh, device="cpu", threads=1).open(ref)


def test_an_architecture_nobody_knows_is_told(
    copied: Path, imported: Callable[..., ModelInfo], fresh: ArtifactStore
) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    ref = imported(copied).model
    with pytest.raises(InvalidRequest, match="cannot be opened"):
        HfBackend(fresh, device="cpu", threads=1).open(ref)


def test_only_the_last_models_stay_in_memory(
    store: ArtifactStore, model_ref: ArtifactRef, copied: Path, noting_task: Callable[..., Any]
) -> None:
    refs = [model_ref]
    for number in (1, 2):
        config = json.loads((copied / "config.json").read_text())
        (copied / "config.json").write_text(json.dumps({**config, "rms_norm_eps": number * 1e-5}))
        refs.append(import_model(store, find(str(copied)), [], noting_task(), max_bytes=ROOM).model)
    backend = HfBackend(store, device="cpu", threads=1, kept_models=2)
    first = backend.open(refs[0]).loaded
    assert backend.open(refs[1]).loaded is backend.open(refs[1]).loaded
    assert backend.open(refs[0]).loaded is first
    backend.open(refs[2])
    assert backend.open(refs[0]).loaded is first
    assert len(backend._loaded) == 2


def test_the_fingerprint_names_what_changes_a_result(store: ArtifactStore) -> None:
    one, two = (HfBackend(store, device="cpu", threads=threads).fingerprint() for threads in (1, 2))
    assert {"torch", "transformers", "dtype", "device", "threads", "backend"} <= set(one)
    assert {key for key in one if one[key] != two[key]} == {"threads"}
    half = HfBackend(store, device="cpu", dtype="bfloat16", threads=1).fingerprint()
    assert half["dtype"] == "bfloat16"


def test_a_device_or_type_that_is_not_there_is_told(store: ArtifactStore) -> None:
    with pytest.raises(CapabilityMissing, match="no device 'abacus'"):
        HfBackend(store, device="abacus")
    with pytest.raises(InvalidRequest, match="no number type"):
        HfBackend(store, device="cpu", dtype="int8")


def test_a_model_without_a_count_of_its_weights_gets_one_from_its_size(
    fresh: ArtifactStore, model_directory: Path
) -> None:
    files = {path.name: path for path in model_directory.iterdir()}
    ref = fresh.publish(ArtifactKind.MODEL, None, files, {"parent": "model/" + "0" * 64})
    assert stored_shape(fresh, ref).parameters == pytest.approx(
        (model_directory / "model.safetensors").stat().st_size / 2, rel=0.01
    )
    assert stored_model(fresh, ref, []).source == "fine-tuned from model/" + "0" * 64
