"""What everybody on a machine sees of our processes, their command lines, has no secret: also of those that they start.

The coordinator is in `test_secrets.py`, the analyzer in `test_security.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ouroscope.client import GeneratorClient, TrainerClient, open_channel
from ouroscope.corpora.stored import write_corpus
from ouroscope.embedded import model_directory
from ouroscope.models import check_model_directory
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Generate, SamplingSpec
from ouroscope.records.training import FineTune, Recipe
from ouroscope.store import ArtifactStore
from tests.contract.test_secrets import SECRET, read_until

AGENT = "services.trainer.group.agent"
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "POOL_TOKEN", "RAY_AUTH_TOKEN")
BACKENDS = """
backends:
  - {name: pool, kind: vllm, urls: ["http://127.0.0.1:1"], weights: fixed, base: %s, served_name: one,
     token_variable: POOL_TOKEN, attempts: 1}
"""
Begin = Callable[..., tuple[subprocess.Popen[str], str]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def model(store: ArtifactStore) -> ArtifactRef:
    folder = model_directory("ouro-tiny")
    return store.publish(
        ArtifactKind.MODEL, None, {name: folder / name for name in check_model_directory(folder).files}
    )


@pytest.fixture
def corpus(store: ArtifactStore) -> ArtifactRef:
    texts = (f"The serpent swallowed its tail {number} times before it noticed." for number in range(20))
    return write_corpus(store, [Document(id=text, text=text, prefix_length=11) for text in texts])


@pytest.fixture
def begin(store: ArtifactStore, root: Path) -> Iterator[Begin]:
    """Start a service with secrets in its environment; return its process and its address."""
    started = []

    def begin(name: str, **settings: str) -> tuple[subprocess.Popen[str], str]:
        told = {"ADDRESS": "127.0.0.1:0", "METRICS_PORT": "0", "STORE": store.url, "GRACE": "0", **settings}
        own = {f"OURO_{name.upper()}_{key}": value for key, value in told.items()}
        environ = {**os.environ, **dict.fromkeys(SECRETS, SECRET), **own}
        command = [sys.executable, "-m", f"services.{name}"]
        started.append(subprocess.Popen(command, cwd=root, env=environ, stderr=subprocess.PIPE, text=True))
        return started[-1], json.loads(read_until(started[-1], "rpc.serving").splitlines()[-1])["address"]

    yield begin
    for process in started:
        process.terminate()
        process.communicate()


def command_lines(process: subprocess.Popen[str]) -> set[str]:
    """Return those of a process and of all that it has started, as they are now."""
    found = set()
    own = psutil.Process(process.pid)
    for each in (own, *own.children(recursive=True)):
        try:
            found.add(" ".join(each.cmdline()))
        except psutil.Error:
            continue
    return found


async def test_a_trainer_and_the_processes_that_train_together_show_no_secret(
    begin: Begin, model: ArtifactRef, corpus: ArtifactRef
) -> None:
    process, address = await asyncio.to_thread(begin, "trainer", THREADS="1", MAX_PROCESSES="2")
    seen = command_lines(process)
    recipe = Recipe(steps=2, batch_size=2, block_tokens=16, processes=2)
    async with open_channel(address) as channel:
        training = asyncio.create_task(
            TrainerClient(channel).fine_tune(FineTune(model=model, corpora=(corpus,), recipe=recipe))
        )
        while not training.done():
            seen |= command_lines(process)
            await asyncio.sleep(0.02)
        assert (await training).steps == 2
    assert any(AGENT in line for line in seen), "the group was looked at"
    assert not [line for line in seen if SECRET in line]


async def test_a_generator_shows_no_token_of_servers_and_of_the_hub(
    begin: Begin, model: ArtifactRef, corpus: ArtifactRef, tmp_path: Path
) -> None:
    (tmp_path / "backends.yaml").write_text(BACKENDS % model)
    process, address = await asyncio.to_thread(begin, "generator", BACKENDS=str(tmp_path / "backends.yaml"))
    seen = command_lines(process)
    sampling = SamplingSpec(min_new_tokens=2, max_new_tokens=2)
    async with open_channel(address) as channel:
        client = GeneratorClient(channel)
        assert {backend.name for backend in await client.list_backends()} >= {"pool"}
        await client.generate(Generate(model=model, prompts=corpus, sampling=sampling))
    seen |= command_lines(process)
    assert any("services.generator" in line for line in seen)
    assert not [line for line in seen if SECRET in line]
