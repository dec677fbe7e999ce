"""The generator as callers meet it: on the wire, with the embedded model, and as a process that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
import yaml
from google.longrunning import operations_pb2_grpc
from prometheus_client import generate_latest

from ouroscope.client import GeneratorClient
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import CapabilityMissing, InvalidRequest, NotFound, OuroscopeError, PreconditionFailed
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import (
    Capability,
    EvaluateTasks,
    Generate,
    Generated,
    PreparePrompts,
    SamplingSpec,
    Score,
    WindowSpec,
)
from ouroscope.records.progress import Progress
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import generator_pb2_grpc
from ouroscope.wire import to_proto
from services.generator.declared import DeclaredBackend, ServerKind, Weights
from services.generator.service import start

TEXTS = [
    f"Return the {what} of the {which} array, or raise an error if the given axis does not exist in it."
    for what in ("mean", "largest element", "shape", "sorted copy")
    for which in ("first", "second", "input")
]
WINDOW = WindowSpec(document_tokens=12, prefix_tokens=4, count=10, seed=1)
SAMPLING = SamplingSpec(min_new_tokens=8, max_new_tokens=8, seed=2)


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


@pytest.fixture
async def address(store: ArtifactStore, metrics: ServiceMetrics) -> AsyncIterator[str]:
    server = await start(store, threads=1, device="cpu", metrics=metrics)
    yield server.address
    await server.stop(grace=0.0)


@pytest.fixture
def generator(address: str, connect: Callable[[str], grpc.aio.Channel]) -> GeneratorClient:
    return GeneratorClient(connect(address))


@pytest.fixture
def human(store: ArtifactStore) -> ArtifactRef:
    return write_corpus(store, [Document(id=str(number), text=text) for number, text in enumerate(TEXTS)])


async def test_one_turn_of_the_loop_from_a_name_to_probabilities(generator, store, human, metrics):
    model = await generator.import_model("ouro-tiny")
    assert model.source == "ouro-tiny"
    assert set(model.capabilities) == set(Capability)
    assert await generator.get_model(model.model) == model

    windows = await generator.prepare_prompts(PreparePrompts(model=model.model, corpus=human, window=WINDOW))
    told: list[Progress] = []
    written = await generator.generate(
        Generate(model=model.model, prompts=windows.corpus, sampling=SAMPLING, generation=3), told.append
    )
    assert (windows.documents, written.documents, written.tokens) == (10, 10, 80)
    assert told[-1].done == told[-1].total == 10
    assert written.served is not None
    assert (written.served.backend, written.served.model) == ("transformers", model.model.digest)
    for prompt, document in zip(read_corpus(store, windows.corpus), read_corpus(store, written.corpus), strict=True):
        assert document.text.startswith(prompt.text[: prompt.prefix_length])
        assert (document.prompt_id, document.origin, document.generation) == (prompt.id, Origin.SYNTHETIC, 3)

    scored = await generator.score(
        Score(
            model=model.model,
            prompts=human,
            heldout=human,
            documents=written.corpus,
            unigram_corpus=human,
            prompt_length=6,
        )
    )
    assert (scored.prompts, scored.texts) == (12, 22)
    assert len(list(read_next_tokens(store, scored.predictions))) == 12
    assert len(list(read_scored_texts(store, scored.predictions))) == 22
    assert scored.uniform_perplexity == model.vocabulary
    assert b"ouroscope_tokens_generated_total 80.0" in generate_latest(metrics.registry)


async def test_equal_requests_are_answered_once(generator, address, connect, human):
    model = await generator.import_model("ouro-tiny")
    request = Generate(model=model.model, prompts=human, sampling=SAMPLING)
    first = await generator.generate(request)
    assert await generator.generate(request) == first
    channel = connect(address)
    stub = generator_pb2_grpc.GeneratorServiceStub(channel)
    again, chosen, other = [
        await stub.Generate(to_proto(replace(request, sampling=sampling)))
        for sampling in (SAMPLING, replace(SAMPLING, batch_size=first.batch_size), replace(SAMPLING, seed=9))
    ]
    assert again.done
    assert chosen.name == again.name, "a batch size that is chosen is digested as if it had been asked for"
    assert other.name != again.name
    await operations_pb2_grpc.OperationsStub(channel).GetOperation(again)


async def test_errors_come_back_as_what_they_were(generator, store, human):
    model = (await generator.import_model("ouro-tiny")).model
    absent = ArtifactRef(ArtifactKind.CORPUS, "0" * 64)
    wrong: list[tuple[object, type[OuroscopeError], str]] = [
        (generator.import_model("no-such-model"), NotFound, "ouro-tiny"),
        (generator.import_model("not a name"), InvalidRequest, "names no model"),
        (generator.get_model(ArtifactRef(ArtifactKind.MODEL, "0" * 64)), NotFound, "not in the artifact store"),
        (generator.get_model(human), InvalidRequest, "model"),
        (generator.generate(Generate(model=model, prompts=absent, sampling=SAMPLING)), NotFound, "store"),
        (generator.generate(Generate(model=human, prompts=human, sampling=SAMPLING)), InvalidRequest, "model"),
        (generator.score(Score(model=model, heldout=model)), InvalidRequest, "heldout"),
        (
            generator.generate(Generate(model=model, prompts=human, sampling=SamplingSpec(max_new_tokens=512))),
            InvalidRequest,
            "context",
        ),
        (
            generator.prepare_prompts(PreparePrompts(model=model, corpus=human, window=replace(WINDOW, count=10_000))),
            PreconditionFailed,
            "10000 are needed",
        ),
    ]
    for call, kind, told in wrong:
        with pytest.raises(kind, match=told):
            await call
    assert list(store.list(ArtifactKind.CORPUS)) == [human]


async def test_backends_are_listed_and_a_name_that_is_none_is_told_with_those_that_are(generator, human):
    (own,) = await generator.list_backends()
    assert (own.name, own.kind, own.problem, own.weights) == ("transformers", "transformers", "", "")
    assert set(own.capabilities) == set(Capability)
    model = (await generator.import_model("ouro-tiny")).model
    with pytest.raises(NotFound, match="no backend 'pool'; there are transformers"):
        await generator.generate(Generate(model=model, prompts=human, sampling=SAMPLING, backend="pool"))


async def test_a_declared_server_that_is_not_there_is_listed_with_its_problem(store, connect):
    gone = DeclaredBackend(
        name="gone",
        kind=ServerKind.VLLM,
        urls=("http://127.0.0.1:9",),
        weights=Weights.FIXED,
        base=ArtifactRef(ArtifactKind.MODEL, "0" * 64),
        served_name="x",
    )
    server = await start(store, threads=1, device="cpu", declared=[gone])
    _, listed = await GeneratorClient(connect(server.address)).list_backends()
    assert (listed.name, listed.kind, listed.capabilities, listed.weights) == ("gone", "vllm", (), "fixed")
    assert "cannot be reached" in listed.problem
    await server.stop(grace=0.0)


async def test_tasks_are_done_by_the_model_that_the_process_holds(store, connect, tmp_path):
    items = [{"query": "Return the mean of the", "choices": ["array", "zebra"], "label": n % 2} for n in range(6)]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    task = {
        "task": "two_choices",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "items.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
    }
    (tmp_path / "two_choices.yaml").write_text(yaml.safe_dump(task))
    server = await start(store, threads=1, device="cpu", tasks=tmp_path)
    client = GeneratorClient(connect(server.address))
    model = (await client.import_model("ouro-tiny")).model
    done = await client.evaluate_tasks(EvaluateTasks(model=model, tasks=("two_choices",)))
    (score,) = [score for score in done.scores if score.metric == "acc"]
    # The same question six times, and half of the answers say the other choice.
    assert (score.value, score.examples) == (0.5, 6)
    assert done.served is not None
    assert done.served.model == model.digest
    await server.stop(grace=0.0)


async def test_a_backend_that_cannot_score_refuses_before_it_queues(store, connect, human):
    class Writer:
        name = kind = "writer"
        problem = ""
        capabilities = frozenset({Capability.GENERATE})

        def fingerprint(self):
            return {}

    server = await start(store, backend=Writer())
    request = Score(model=ArtifactRef(ArtifactKind.MODEL, "0" * 64), heldout=human)
    with pytest.raises(CapabilityMissing, match="cannot score"):
        await GeneratorClient(connect(server.address)).score(request)
    await server.stop(grace=0.0)


@pytest.mark.e2e
async def test_a_generator_that_is_killed_and_asked_again_writes_the_corpus_of_an_undisturbed_one(
    connect, store, generator, processes, tmp_path
):
    texts = [Document(id=str(number), text=TEXTS[number % 12], prefix_length=12) for number in range(400)]
    sampling = replace(SAMPLING, min_new_tokens=16, max_new_tokens=16, batch_size=16)

    async def ask(generator: GeneratorClient, store: ArtifactStore) -> Generated:
        model = (await generator.import_model("ouro-tiny")).model
        prompts = write_corpus(store, texts)
        return await generator.generate(Generate(model=model, prompts=prompts, sampling=sampling))

    disturbed = ArtifactStore(tmp_path / "disturbed")
    process, address = await processes(disturbed)
    call = asyncio.create_task(ask(GeneratorClient(connect(address)), disturbed))
    await a_shard_is_there(disturbed)
    process.kill()
    call.cancel()
    assert await process.wait() == -signal.SIGKILL
    assert len(list(disturbed.list(ArtifactKind.CORPUS))) == 1, "nothing is half published"

    process, address = await processes(disturbed)
    assert await ask(GeneratorClient(connect(address)), disturbed) == await ask(generator, store)
    process.terminate()
    assert await process.wait() == 0


async def a_shard_is_there(store: ArtifactStore) -> None:
    async with asyncio.timeout(60):
        while not list((Path(store.url) / "drafts").glob("*/documents-00000.parquet")):
            await asyncio.sleep(0.01)


@pytest.fixture
async def processes(root: Path) -> AsyncIterator[Callable[[ArtifactStore], Awaitable[tuple[Process, str]]]]:
    """Start generators as processes, each with its address; none outlives the test."""
    started: list[Process] = []

    async def start_process(store: ArtifactStore) -> tuple[Process, str]:
        settings = {"STORE": store.url, "ADDRESS": "127.0.0.1:0", "METRICS_PORT": "0", "THREADS": "1", "DEVICE": "cpu"}
        environment = {**os.environ, **{f"OURO_GENERATOR_{key}": value for key, value in settings.items()}}
        command = (sys.executable, "-m", "services.generator")
        env = {**environment, "PYTHONPATH": str(root)}
        process = await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)
        started.append(process)
        assert process.stderr is not None
        async for line in process.stderr:
            if b"rpc.serving" in line:
                # Read on, or a full pipe would stop the process.
                asyncio.get_running_loop().create_task(process.stderr.read())
                return process, json.loads(line)["address"]
        raise AssertionError("the generator did not start")

    yield start_process
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_a_process_with_a_wrong_setting_says_which_and_does_not_start(root):
    environment = {**os.environ, "OURO_GENERATOR_TREADS": "2", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "services.generator"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "did you mean OURO_GENERATOR_THREADS?" in ended.stderr
    assert ended.stdout == ""
