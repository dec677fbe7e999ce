"""Adapters over the base that vLLM runs, against a stand-in with vLLM's routes on real ports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ouroscope.errors import Cancelled, OuroscopeError, PreconditionFailed
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Verification
from ouroscope.store.artifacts import ArtifactStore
from services.generator.declared import DeclaredBackend, Load, ServerKind, Weights
from services.generator.handover.adapters import AdapterWeights
from services.generator.handover.export import Exports, name_of
from services.generator.servers.transport import Transport
from tests.servers.changing import AdapterServer
from tests.servers.running import running
from tests.unit.generator.handover_setup import publish_adapter, write_adapter


def quiet() -> None:
    """Nobody wants to stop."""


@pytest.fixture(scope="module")
def adapters(
    store: ArtifactStore, model_ref: ArtifactRef, model_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[ArtifactRef]:
    folders = (write_adapter(model_directory, tmp_path_factory.mktemp("adapter"), seed) for seed in range(4))
    return [publish_adapter(store, model_ref, folder) for folder in folders]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


class Pool:
    """Two replicas, and what brings adapters to them."""

    def __init__(self, store: ArtifactStore, base: ArtifactRef, shared: Path, cleanup: ExitStack) -> None:
        self.replicas = [AdapterServer(shared), AdapterServer(shared)]
        self._store, self._base, self._shared = store, base, shared
        self._urls = tuple(cleanup.enter_context(running(replica.app)) for replica in self.replicas)
        self.transport = Transport("pool", self._urls, attempts=3, first_wait=0.01)
        cleanup.callback(self.transport.close)

    def weights(self, load: Load = Load.REQUEST, kept: int = 2) -> AdapterWeights:
        declared = DeclaredBackend(
            name="pool",
            kind=ServerKind.VLLM,
            urls=self._urls,
            weights=Weights.ADAPTERS,
            base=self._base,
            served_name="llama",
            directory=str(self._shared),
            server_directory="/models",
            load=load,
        )
        for replica in self.replicas:
            replica.resolves = load is Load.RESOLVER
        exports = Exports(self._store, self._shared, server_directory="/models", kept=1)
        return AdapterWeights(declared, self._base, self._store, exports, self.transport, kept=kept)

    def routes(self) -> list[str]:
        """Return what was asked of the first replica, apart from questions."""
        return [route for route, _ in self.replicas[0].asked]


@pytest.fixture
def pool(store: ArtifactStore, model_ref: ArtifactRef, shared: Path) -> Iterator[Pool]:
    with ExitStack() as cleanup:
        yield Pool(store, model_ref, shared, cleanup)


@pytest.mark.parametrize("load", Load)
def test_an_adapter_is_served_by_every_replica_under_its_digest(
    pool: Pool, adapters: list[ArtifactRef], load: Load
) -> None:
    served = pool.weights(load).ensure(adapters[0], quiet)
    name = name_of(adapters[0])
    assert (served.model, served.verification) == (name, Verification.REPORTED)
    assert [replica.loaded for replica in pool.replicas] == [{name: f"/models/{name}"}] * 2
    assert [replica.resets for replica in pool.replicas] == [[1], [1]]


@pytest.mark.parametrize("load", Load)
def test_an_adapter_that_is_loaded_already_is_left_alone(pool: Pool, adapters: list[ArtifactRef], load: Load) -> None:
    pool.weights(load).ensure(adapters[0], quiet)
    before = pool.routes()
    again = pool.weights(load)  # another generator, or this one after a restart
    again.ensure(adapters[0], quiet)
    again.verify(adapters[0])
    assert pool.routes() == before
    assert pool.replicas[0].resets == [1], "nothing has changed, so nothing has to be forgotten"


@pytest.mark.parametrize("load", Load)
def test_a_replica_that_was_restarted_gets_the_adapter_again(
    pool: Pool, adapters: list[ArtifactRef], load: Load
) -> None:
    weights = pool.weights(load)
    weights.ensure(adapters[0], quiet)
    pool.replicas[1].restart()
    weights.verify(adapters[0])
    assert [set(replica.loaded) for replica in pool.replicas] == [{name_of(adapters[0])}] * 2
    assert [replica.resets for replica in pool.replicas] == [[1, 1], [1, 1]]


def test_a_resolver_finds_the_base_called_as_the_server_was_started(
    pool: Pool, adapters: list[ArtifactRef], shared: Path
) -> None:
    pool.weights(Load.RESOLVER).ensure(adapters[0], quiet)
    config = json.loads((shared / name_of(adapters[0]) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == pool.replicas[0].root


def test_adapters_are_served_side_by_side_and_the_oldest_is_let_go(
    pool: Pool, adapters: list[ArtifactRef], shared: Path
) -> None:
    weights = pool.weights(kept=2)
    first, second, third, _ = adapters
    for ref in (first, second):
        weights.ensure(ref, quiet)
    weights.verify(first)  # used again: it is not the oldest
    weights.ensure(third, quiet)
    assert [set(replica.loaded) for replica in pool.replicas] == [{name_of(first), name_of(third)}] * 2
    assert {path.name for path in shared.glob("ouro-*")} == {name_of(first), name_of(third)}
    with pytest.raises(PreconditionFailed, match="no longer loaded"):
        weights.verify(second)
    weights.ensure(second, quiet)
    weights.verify(second)


def test_generation_0_is_the_base_itself_by_the_operators_word(pool: Pool, model_ref: ArtifactRef) -> None:
    weights = pool.weights()
    served = weights.ensure(model_ref, quiet)
    weights.verify(model_ref)
    assert (served.model, served.verification) == ("llama", Verification.DECLARED)
    assert pool.routes() == []


def test_what_is_not_an_adapter_of_this_base_is_refused_and_both_are_named(
    pool: Pool,
    store: ArtifactStore,
    model_ref: ArtifactRef,
    model_directory: Path,
    tmp_path: Path,
) -> None:
    files = {path.name: path for path in model_directory.iterdir()} | {"ouroscope.json": b"{}"}
    other = store.publish(ArtifactKind.MODEL, None, files, {})
    adapter = publish_adapter(store, other, write_adapter(model_directory, tmp_path / "adapter", 9))
    for ref, what in ((adapter, f"an adapter of {other}"), (other, "a whole model")):
        with pytest.raises(PreconditionFailed) as caught:
            pool.weights().ensure(ref, quiet)
        assert str(model_ref) in caught.value.message
        assert what in caught.value.message
    assert pool.routes() == []


def test_a_replica_with_another_base_is_found_out(pool: Pool, adapters: list[ArtifactRef]) -> None:
    weights = pool.weights()
    weights.ensure(adapters[0], quiet)
    pool.replicas[1].restart()
    pool.replicas[1].base = pool.replicas[1].root = "mistral"
    with pytest.raises(PreconditionFailed, match="'mistral' and not 'llama'"):
        weights.verify(adapters[0])
    with pytest.raises(PreconditionFailed, match="'mistral' and not 'llama'"):
        weights.ensure(adapters[1], quiet)


def test_a_base_whose_path_carries_another_digest_is_found_out(pool: Pool, model_ref: ArtifactRef) -> None:
    weights = pool.weights()
    for replica in pool.replicas:
        replica.root = f"/models/{name_of(model_ref)}"
    assert weights.ensure(model_ref, quiet).verification is Verification.REPORTED
    pool.replicas[0].root = "/models/ouro-0123456789abcdef"
    with pytest.raises(PreconditionFailed, match="ouro-0123456789abcdef"):
        weights.ensure(model_ref, quiet)


def test_another_adapter_under_the_same_name_is_found_out(pool: Pool, adapters: list[ArtifactRef]) -> None:
    pool.replicas[1].loaded[name_of(adapters[0])] = "/models/evil"
    with pytest.raises(PreconditionFailed, match="'evil' and not 'ouro-"):
        pool.weights().ensure(adapters[0], quiet)


@pytest.mark.parametrize(
    ("load", "hint"),
    [(Load.REQUEST, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"), (Load.RESOLVER, "VLLM_LORA_RESOLVER_CACHE_DIR")],
)
def test_a_server_that_takes_no_adapters_is_told_which_settings_it_needs(
    pool: Pool, adapters: list[ArtifactRef], load: Load, hint: str
) -> None:
    weights = pool.weights(load)
    for replica in pool.replicas:
        replica.updates = replica.resolves = False
    with pytest.raises(PreconditionFailed, match=hint) as caught:
        weights.ensure(adapters[0], quiet)
    assert "No adapter found" not in caught.value.message


def test_a_server_that_does_not_see_the_directory_is_told_so(
    pool: Pool, adapters: list[ArtifactRef], tmp_path: Path
) -> None:
    pool.replicas[1].directory = tmp_path / "elsewhere"
    with pytest.raises(OuroscopeError, match="server_directory"):
        pool.weights().ensure(adapters[0], quiet)


def test_a_prefix_cache_that_cannot_be_reset_is_told_in_the_log(pool: Pool, adapters: list[ArtifactRef]) -> None:
    pool.replicas[0].resets = None
    with capture_logs() as logs:
        pool.weights().ensure(adapters[0], quiet)
    assert [each["backend"] for each in logs if each["event"] == "prefix_cache.not_reset"] == ["pool"]


def test_a_prefix_cache_that_is_still_in_use_is_reset_when_it_is_not(pool: Pool, adapters: list[ArtifactRef]) -> None:
    pool.replicas[0].held_blocks = 2
    with capture_logs() as logs:
        pool.weights().ensure(adapters[0], quiet)
    assert pool.replicas[0].resets == [1, 1, 1]
    assert not [each for each in logs if each["event"] == "prefix_cache.not_reset"]


def test_stopping_is_heard(pool: Pool, adapters: list[ArtifactRef]) -> None:
    def stop() -> None:
        raise Cancelled("the test asked for it")

    with pytest.raises(Cancelled):
        pool.weights().ensure(adapters[0], stop)
    assert all(not replica.loaded for replica in pool.replicas)
