"""Stored models in the directory that a server reads from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ouroscope.errors import Cancelled, PreconditionFailed, UntrustedArtifact
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store.artifacts import ArtifactStore
from services.generator.handover.export import Exports, name_of
from tests.unit.generator.handover_setup import publish_adapter, write_adapter

# peft asks transformers in a way that will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def exports(store: ArtifactStore, shared: Path) -> Exports:
    return Exports(store, shared, server_directory="/models", kept=2)


@pytest.fixture(scope="module")
def adapter_directory(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(model_directory, tmp_path_factory.mktemp("adapter"), 1)


@pytest.fixture(scope="module")
def adapter_ref(store: ArtifactStore, model_ref: ArtifactRef, adapter_directory: Path) -> ArtifactRef:
    return publish_adapter(store, model_ref, adapter_directory)


def other_models(store: ArtifactStore, model_directory: Path, count: int) -> list[ArtifactRef]:
    """Publish the same model with other notes beside it: other models, to a store."""
    files = {path.name: path for path in model_directory.iterdir()}
    notes = ({"ouroscope.json": json.dumps({"number": number}).encode()} for number in range(count))
    return [store.publish(ArtifactKind.MODEL, None, files | note, {}) for note in notes]


def names_in(shared: Path) -> set[str]:
    return {path.name for path in shared.glob("ouro-*")}


def test_a_whole_model_lies_there_byte_for_byte_under_its_digest(
    exports: Exports, shared: Path, model_ref: ArtifactRef, model_directory: Path
) -> None:
    export = exports.put(model_ref)
    assert export.name == f"ouro-{model_ref.digest[:16]}"
    assert export.directory == f"/models/{export.name}"
    for path in model_directory.iterdir():
        assert (shared / export.name / path.name).read_bytes() == path.read_bytes()


def test_a_server_may_open_it_as_a_model(exports: Exports, shared: Path, model_ref: ArtifactRef) -> None:
    assert AutoModelForCausalLM.from_pretrained(shared / exports.put(model_ref).name).config.vocab_size


def test_whoever_the_server_is_may_read_it_and_nobody_may_change_it(
    exports: Exports, shared: Path, model_ref: ArtifactRef
) -> None:
    before = os.umask(0o077)
    try:
        folder = shared / exports.put(model_ref).name
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != "manifest.json"} == {0o444}


def test_putting_it_again_changes_nothing(exports: Exports, shared: Path, model_ref: ArtifactRef) -> None:
    first = exports.put(model_ref)
    before = {path.name: path.stat().st_ino for path in (shared / first.name).iterdir()}
    assert exports.put(model_ref) == first
    assert before == {path.name: path.stat().st_ino for path in (shared / first.name).iterdir()}


def test_an_adapter_is_what_peft_expects_and_names_the_base_as_the_server_does(
    exports: Exports, shared: Path, adapter_ref: ArtifactRef, adapter_directory: Path, model_directory: Path
) -> None:
    folder = shared / exports.put(adapter_ref, base_name="/models/llama").name
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "/models/llama"
    ids = torch.tensor([[5, 6, 7]])
    there, here = (
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_directory), str(each))(ids).logits
        for each in (folder, adapter_directory)
    )
    assert torch.equal(there, here)
    plain = AutoModelForCausalLM.from_pretrained(model_directory)(ids).logits
    assert not torch.equal(there, plain), "the adapter should do something"


def test_a_base_that_is_called_otherwise_now_is_written_anew(
    exports: Exports, shared: Path, adapter_ref: ArtifactRef
) -> None:
    for name in ("first", "second"):
        folder = shared / exports.put(adapter_ref, base_name=name).name
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == name


def test_a_file_that_somebody_changed_there_is_brought_again(
    store: ArtifactStore, shared: Path, model_ref: ArtifactRef, model_directory: Path
) -> None:
    folder = shared / Exports(store, shared).put(model_ref).name
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    Exports(store, shared).put(model_ref)
    assert weights.read_bytes() == (model_directory / "model.safetensors").read_bytes()


def test_a_file_that_somebody_put_there_does_not_stay(
    store: ArtifactStore, shared: Path, model_ref: ArtifactRef
) -> None:
    folder = shared / Exports(store, shared).put(model_ref).name
    (folder / "modeling_evil.py").write_text("import os")
    Exports(store, shared).put(model_ref)
    assert not (folder / "modeling_evil.py").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py"])
def test_a_model_with_anything_but_data_is_not_given_to_a_server(
    store: ArtifactStore, exports: Exports, shared: Path, model_directory: Path, name: str
) -> None:
    files = {path.name: path for path in model_directory.iterdir()} | {name: b"x"}
    ref = store.publish(ArtifactKind.MODEL, None, files, {})
    with pytest.raises(UntrustedArtifact, match=name):
        exports.put(ref)
    assert names_in(shared) == set()


def test_an_adapter_that_is_no_plain_one_is_not_given_to_a_server(
    store: ArtifactStore,
    exports: Exports,
    shared: Path,
    model_ref: ArtifactRef,
    adapter_directory: Path,
    tmp_path: Path,
) -> None:
    config = json.loads((adapter_directory / "adapter_config.json").read_text())
    copied = Path(shutil.copytree(adapter_directory, tmp_path / "adapter"))
    (copied / "adapter_config.json").write_text(json.dumps(config | {"auto_mapping": {"parent_library": "evil"}}))
    with pytest.raises(UntrustedArtifact, match="auto_mapping"):
        exports.put(publish_adapter(store, model_ref, copied))
    assert names_in(shared) == set()


def test_files_that_are_no_part_of_a_model_stay_in_the_store(
    store: ArtifactStore, exports: Exports, shared: Path, model_directory: Path
) -> None:
    files = {path.name: path for path in model_directory.iterdir()} | {"notes/log.txt": b"x"}
    folder = shared / exports.put(store.publish(ArtifactKind.MODEL, None, files, {})).name
    assert not (folder / "notes").exists()


def test_stopping_leaves_nothing(exports: Exports, shared: Path, model_ref: ArtifactRef) -> None:
    checks = iter(range(2))

    def check() -> None:
        if next(checks, None) is None:
            raise Cancelled("the test asked for it")

    with pytest.raises(Cancelled):
        exports.put(model_ref, check=check)
    assert [path for path in shared.rglob("*") if path.is_file()] == []


def test_a_full_disk_leaves_nothing_and_says_where(
    store: ArtifactStore, shared: Path, model_ref: ArtifactRef, root: Path
) -> None:
    # The kernel refuses to let a file grow beyond the limit, which to a program is a disk that is full.
    code = """
        import resource, sys
        from pathlib import Path
        from ouroscope.errors import StorageFull
        from ouroscope.records.artifacts import ArtifactRef
        from ouroscope.store import ArtifactStore
        from services.generator.handover.export import Exports
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            Exports(ArtifactStore(sys.argv[1]), Path(sys.argv[2])).put(ArtifactRef.parse(sys.argv[3]))
        except StorageFull as error:
            print(error.message)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), store.url, str(shared), str(model_ref)]
    told = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    assert "shared with the server has no room" in told
    assert str(shared) not in told
    assert [path for path in shared.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_said(store: ArtifactStore, shared: Path, model_ref: ArtifactRef) -> None:
    shared.mkdir(mode=0o500)
    with pytest.raises(PreconditionFailed):
        Exports(store, shared).put(model_ref)


def test_old_models_are_removed_and_held_ones_never(
    store: ArtifactStore, exports: Exports, shared: Path, model_directory: Path
) -> None:
    first, *others = other_models(store, model_directory, 4)
    held = Exports(store, shared).put(first)  # another generator, say
    for ref in others:
        exports.put(ref)
    assert exports.remove_old() == []
    for ref in others:
        exports.release(name_of(ref))
    gone = exports.remove_old()
    assert len(gone) == 1
    assert held.name in names_in(shared)
    assert names_in(shared) == {name_of(ref) for ref in (first, *others)} - set(gone)


def test_what_was_used_last_stays_longest(
    store: ArtifactStore, exports: Exports, shared: Path, model_directory: Path
) -> None:
    first, second, third = other_models(store, model_directory, 3)
    for ref in (first, second, third, first):
        exports.put(ref)
        exports.release(name_of(ref))
    assert exports.remove_old() == [name_of(second)]


def test_generators_that_put_the_same_model_at_once_all_find_it_whole(
    store: ArtifactStore, shared: Path, model_ref: ArtifactRef, root: Path, model_directory: Path
) -> None:
    code = """
        import sys
        from pathlib import Path
        from ouroscope.records.artifacts import ArtifactRef
        from ouroscope.store import ArtifactStore
        from services.generator.handover.export import Exports
        print(Exports(ArtifactStore(sys.argv[1]), Path(sys.argv[2])).put(ArtifactRef.parse(sys.argv[3])).name)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), store.url, str(shared), str(model_ref)]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate()[0].split()[-1] for process in started} == {name_of(model_ref)}
    found = {path.name for path in (shared / name_of(model_ref)).iterdir()}
    assert found == {path.name for path in model_directory.iterdir()} | {"manifest.json"}
