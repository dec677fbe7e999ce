"""Generations that a server writes with the weights it was handed: the whole way, against a stand-in of TGI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import PreconditionFailed
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Generate, Generated, SamplingSpec, Verification
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Backend
from services.generator.declared import DeclaredBackend, HttpReload, ReloadHook, ServerKind, Weights
from services.generator.generation import generate
from services.generator.handover.export import name_of
from services.generator.in_process.backend import HfBackend
from services.generator.opening import open_backend
from services.generator.plan import Plan
from services.generator.servers.backend import ServerBackend
from tests.servers.language import Language
from tests.servers.running import running
from tests.servers.tgi import TgiStandIn

GREEDY = SamplingSpec(temperature=0, max_new_tokens=6, min_new_tokens=0)
PLAN = Plan(batch_size=4, shard_documents=4)


@pytest.fixture(scope="module")
def next_ref(store: ArtifactStore, model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """Other weights of the same shape: the next generation."""
    weights = load_file(model_directory / "model.safetensors")
    changed = tmp_path_factory.mktemp("next") / "model.safetensors"
    save_file({name: tensor.flip(0).contiguous() for name, tensor in weights.items()}, changed, {"format": "pt"})
    files = {path.name: path for path in model_directory.iterdir()} | {"model.safetensors": changed}
    return store.publish(ArtifactKind.MODEL, None, files, {})


@pytest.fixture
def server(model_directory: Path, tmp_path: Path) -> Iterator[TgiStandIn]:
    made = TgiStandIn(Language(model_directory), model_id="gpt2", directory=tmp_path / "shared")
    yield made
    assert made.wrong == []


@pytest.fixture
def tgi(server: TgiStandIn, store: ArtifactStore, tmp_path: Path) -> Iterator[ServerBackend]:
    with running(server.app) as url:
        declared = DeclaredBackend(
            name="tgi",
            kind=ServerKind.TGI,
            urls=(url,),
            weights=Weights.RELOAD,
            directory=str(tmp_path / "shared"),
            server_directory="/models",
            reload=ReloadHook(http=HttpReload(url=f"{url}/serve", json={"model": "{directory}"})),
        )
        opened = open_backend(declared, store, {})
        yield opened
        opened.close()


@pytest.fixture
def write(
    store: ArtifactStore, prompts: ArtifactRef, noting_task: Callable[..., Any], tmp_path: Path
) -> Callable[[Backend, ArtifactRef], Generated]:
    """Write a corpus; the same again goes on where it was."""

    def run(backend: Backend, model: ArtifactRef) -> Generated:
        request = Generate(model=model, prompts=prompts, sampling=GREEDY)
        key = f"{backend.kind}-{model.digest[:8]}-{tmp_path.name}"
        with backend.hold(lambda: None):
            return generate(store, backend, request, PLAN, key, noting_task())

    return run


def texts(store: ArtifactStore, generated: Generated) -> list[str]:
    return [document.text for document in read_corpus(store, generated.corpus)]


def test_each_generation_is_written_by_its_own_weights_and_says_so(
    tgi: ServerBackend,
    store: ArtifactStore,
    write: Callable[[Backend, ArtifactRef], Generated],
    model_ref: ArtifactRef,
    next_ref: ArtifactRef,
) -> None:
    here = HfBackend(store, device="cpu", threads=1)
    found = []
    for ref in (model_ref, next_ref, model_ref):
        there = write(tgi, ref)
        assert there.served is not None
        assert (there.served.model, there.served.verification) == (name_of(ref), Verification.REPORTED)
        assert store.manifest(there.corpus).summary["served_model"] == name_of(ref)
        assert texts(store, there) == texts(store, write(here, ref))
        found.append(texts(store, there))
    assert found[0] != found[1]
    assert found[0] == found[2]


def test_weights_that_change_in_the_middle_cost_one_part_and_nothing_wrong_is_kept(
    tgi: ServerBackend,
    server: TgiStandIn,
    store: ArtifactStore,
    write: Callable[[Backend, ArtifactRef], Generated],
    model_ref: ArtifactRef,
    next_ref: ArtifactRef,
    model_directory: Path,
) -> None:
    other = Language(store.directory(next_ref))

    def restart(number: int) -> None:
        if number == 9:  # in the third part
            server.language, server.model_id = other, f"/models/{name_of(next_ref)}"

    server.before = restart
    with pytest.raises(PreconditionFailed) as caught:
        write(tgi, model_ref)
    assert name_of(model_ref) in caught.value.message
    assert name_of(next_ref) in caught.value.message
    asked = len(server.requests)
    assert asked < 20, "the work went on with the wrong weights"
    there = write(tgi, model_ref)
    # Two parts of four were good; the rest was written again, by the right weights.
    assert len(server.requests) == asked + 20 - 8
    assert texts(store, there) == texts(store, write(HfBackend(store, device="cpu", threads=1), model_ref))
