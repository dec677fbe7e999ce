"""Sources that requests may name, over real servers: a caller is told the same whether a file is there or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouroscope.client import CoordinatorClient, GeneratorClient, open_channel
from ouroscope.errors import NotPermitted
from ouroscope.records.runs import DatasetSpec
from ouroscope.security.allowed import AllowedSources
from ouroscope.store import ArtifactStore
from services.coordinator import service as coordinator
from services.generator import service as generator
from services.generator.backends import Unusable
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

NOTHING = AllowedSources()


async def test_a_generator_imports_only_what_it_may(tmp_path: Path) -> None:
    store, backend = ArtifactStore(tmp_path), Unusable("none", "openai", "not here")
    running = await generator.start(store, backend=backend, sources=NOTHING)
    try:
        async with open_channel(running.address) as channel:
            for source in (str(tmp_path), "/nowhere", "owner/name"):
                with pytest.raises(NotPermitted) as caught:
                    await GeneratorClient(channel).import_model(source)
                assert caught.value.metadata["cause"] == "SOURCE_NOT_ALLOWED"
            assert (await GeneratorClient(channel).import_model("ouro-tiny")).parameters > 0
    finally:
        await running.stop(0)


async def test_a_coordinator_makes_runs_only_of_what_it_may_read(tmp_path: Path) -> None:
    source = write_dataset(tmp_path)
    store = ArtifactStore(str(tmp_path / "store"))
    team = Team(tmp_path / "team")
    running = await coordinator.start(tmp_path / "home", store, workers=team.workers, sources=NOTHING)
    try:
        async with open_channel(running.address) as channel:
            client = CoordinatorClient(channel)
            for dataset in (source, DatasetSpec(source="/nowhere"), DatasetSpec(source="/etc/passwd")):
                with pytest.raises(NotPermitted):
                    await client.create_run(small_spec(dataset=dataset))
            assert not [run async for run in client.list_runs()]
    finally:
        await running.stop(grace=0.0)
