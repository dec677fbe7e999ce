"""The loop with a server that runs the model: adapters go to it as files, and every text is known to come from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ouroscope.embedded import model_directory
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.store import ArtifactStore
from tests.e2e.conftest import here
from tests.e2e.specs import write_small_spec
from tests.servers.lora import LoraStandIn
from tests.servers.running import running

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Of peft, in the thread of the stand-in.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

BACKENDS = """
backends:
  - name: pool
    kind: vllm
    urls: [{url}]
    weights: adapters
    load: request
    base: {base}
    served_name: tiny
    directory: {directory}
    server_directory: {directory}
    concurrency: 2
"""
SETTINGS = (
    "backend=pool",
    "recipe.method=lora",
    "recipe.lora={rank: 4, keep_adapter: true}",
    "recipe.learning_rate=0.01",
    "documents=20",
    "generations=1",
    "evaluation.samples=0",
)


@dataclass
class Loop:
    """A run that is over, with what served it."""

    home: Path
    server: LoraStandIn
    generations: list[dict[str, Any]]
    base: str

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.home / "store")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("served")
    environment = {**os.environ, "OUROSCOPE_HOME": str(folder / "home"), "NO_COLOR": "1", "COLUMNS": "200"}
    directory = folder / "shared"
    directory.mkdir()
    base = here(environment, folder, "models", "import", "ouro-tiny").stdout.strip()
    server = LoraStandIn(model_directory("ouro-tiny"), "tiny")
    with running(server.application) as url:
        declared = folder / "backends.yaml"
        declared.write_text(BACKENDS.format(url=url, base=base, directory=directory))
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        asked = ["run", str(write_small_spec(folder)), "--name", "served", "--backends", str(declared), *settings]
        command = [sys.executable, "-m", "ouroscope_app", *asked, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        shown = json.loads(here(environment, folder, "runs", "show", "served", "--json").stdout)
        yield Loop(folder / "home", server, shown["generations"], base)


def adapters(loop: Loop) -> set[str]:
    return {one["model"] for one in loop.generations} - {loop.base}


def test_every_later_generation_is_an_adapter_of_the_one_base(loop: Loop) -> None:
    assert len(adapters(loop)) == 2
    for name in adapters(loop):
        manifest = loop.store.manifest(ArtifactRef.parse(name))
        assert manifest.summary["base"] == loop.base
        assert set(manifest.files) == {"adapter_config.json", "adapter_model.safetensors", "ouroscope.json"}


def test_every_text_says_which_weights_wrote_it_and_how_that_is_known(loop: Loop) -> None:
    for one in loop.generations:
        facts = loop.store.manifest(ArtifactRef.parse(one["corpus"])).summary
        digest = one["model"].removeprefix("model/")
        untrained = one["model"] == loop.base
        assert facts["backend"] == "pool"
        assert facts["served_model"] == ("tiny" if untrained else f"ouro-{digest[:16]}")
        assert facts["verification"] == ("DECLARED" if untrained else "REPORTED")


def test_each_adapter_was_loaded_once_and_asked_by_its_own_name(loop: Loop) -> None:
    names = {f"ouro-{name.removeprefix('model/')[:16]}" for name in adapters(loop)}
    assert sorted(loop.server.loads) == sorted(names)
    assert {body["model"] for body in loop.server.asked} == {"tiny", *names}
    assert loop.server.resets >= len(names)


def test_the_models_probabilities_are_measured_through_the_server(loop: Loop) -> None:
    from ouroscope.predictions import read_next_tokens

    for one in loop.generations:
        records = list(read_next_tokens(loop.store, ArtifactRef.parse(one["predictions"])))
        assert len(records) == 20
        assert all(len(record.top_probabilities) == 100 for record in records)
        assert all(record.entropy is None for record in records)
        assert all(record.true_rank is not None for record in records)
