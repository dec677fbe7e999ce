"""Training in two real processes: the same training, whatever happens to them, and none of them outlives its trainer.

Two processes add the same float32 numbers in another order than one. Per step and over this short training the losses
agree to 1e-5 of their size, and the weights to 1e-4; between two runs of two processes every bit is the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ouroscope.client import TrainerClient
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import Cancelled, CapabilityMissing, TrainingDiverged
from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, FineTuned, LoraSpec, Method, Recipe
from ouroscope.store import ArtifactStore
from services.trainer.environment import Environment, prepare
from services.trainer.group.hosts import Hosts
from services.trainer.group.launch import Launcher
from services.trainer.group.node import Node
from services.trainer.group.shards import LATEST
from services.trainer.job import Job
from services.trainer.requests import METHOD
from services.trainer.service import start

TEXTS = [f"The serpent swallowed its tail {number} times before it noticed the taste." for number in range(20)]
ALONE = Recipe(steps=120, batch_size=4, block_tokens=16, learning_rate=1e-3, checkpoint_steps=10, heldout_steps=40)
TWO = replace(ALONE, processes=2)
LORA = replace(
    ALONE,
    steps=8,
    heldout_steps=0,
    method=Method.LORA,
    lora=LoraSpec(rank=4, alpha=8.0, keep_adapter=True),
    gradient_accumulation=2,
    truncation=0.9,
)
AGENT = "services.trainer.group.agent"

# Eight groups of processes that each import torch and transformers: seconds of work each, far more on a busy machine.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Control:
    """Notes progress; does `then` once `at` steps are made."""

    at: int = -1
    then: Callable[[], None] = lambda: None
    steps: list[int] = field(default_factory=list)

    def check(self) -> None: ...

    def report(self, progress: Progress) -> None:
        if progress.stage == "train":
            self.steps.append(progress.done)
            if progress.done >= self.at > 0:
                self.at = -1
                self.then()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("group")


@pytest.fixture(scope="module")
def store(place: Path) -> ArtifactStore:
    return ArtifactStore(place / "store")


@pytest.fixture(scope="module")
def environment() -> Environment:
    return prepare(threads=1, device="cpu")


@pytest.fixture(scope="module")
def model_directory(place: Path) -> Path:
    folder = place / "tiny"
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=300, show_progress=False, special_tokens=["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner._tokenizer, eos_token="<|end|>")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, tie_word_embeddings=True, **size)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ask(store: ArtifactStore, model_directory: Path) -> Callable[..., FineTune]:
    model = store.publish(ArtifactKind.MODEL, None, {path.name: path for path in model_directory.iterdir()})
    corpus = write_corpus(store, [Document(id=str(n), text=text) for n, text in enumerate(TEXTS)])

    def ask(recipe: Recipe, model: ArtifactRef = model) -> FineTune:
        return FineTune(model=model, corpora=(corpus,), recipe=recipe, heldout=corpus)

    return ask


@pytest.fixture(scope="module")
def tune(store: ArtifactStore, environment: Environment) -> Callable[..., FineTuned]:
    def tune(request: FineTune, control: Control | None = None) -> FineTuned:
        exact = replace(environment, precision="float32")
        helpers = Launcher(store=store, hosts=Hosts(processes=2))
        return Job(store=store, request=request, environment=exact, control=control or Control(), helpers=helpers).run()

    return tune


@pytest.fixture(scope="module")
def undisturbed(store: ArtifactStore, environment: Environment, ask: Callable[..., FineTune]) -> FineTuned:
    """The training of two machines with a process each, which nothing disturbs."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{found.getsockname()[1]}"
    hosts = Hosts(processes=2, nodes=2, meeting=meeting)
    exact = replace(environment, precision="float32")
    other = Node(hosts, 1, threads=1)
    try:
        helpers = Launcher(store=store, hosts=hosts)
        return Job(store=store, request=ask(TWO), environment=exact, control=Control(), helpers=helpers).run()
    finally:
        asyncio.run(other.stop())


@pytest.fixture(autouse=True)
def nobody_left(store: ArtifactStore) -> Iterator[None]:
    yield
    assert not workers(store)


def workers(store: ArtifactStore) -> list[psutil.Process]:
    """Return the processes that train for this store, and those that started them, whose forks they are."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        ours = AGENT in command and any(store.url in part for part in command)
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def weights(store: ArtifactStore, ref: ArtifactRef) -> dict[str, torch.Tensor]:
    (path,) = store.directory(ref).glob("*.safetensors")
    return load_file(path)


def assert_same_training(store: ArtifactStore, one: FineTuned, two: FineTuned) -> None:
    for curve in ("losses", "heldout_losses"):
        alone, together = getattr(one, curve), getattr(two, curve)
        assert [point.step for point in together] == [point.step for point in alone]
        assert [point.loss for point in together] == pytest.approx([point.loss for point in alone], rel=1e-5)
    expected, found = weights(store, one.model), weights(store, two.model)
    assert set(found) == set(expected)
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, atol=1e-4), name


def test_two_machines_with_a_process_each_train_the_model_that_one_process_trains(store, tune, ask, undisturbed):
    alone = tune(ask(ALONE))
    assert (undisturbed.steps, undisturbed.tokens) == (alone.steps, alone.tokens)
    assert_same_training(store, alone, undisturbed)


def test_two_processes_train_the_adapter_that_one_trains_and_weigh_corpora_as_it_does(store, tune, ask):
    strange = write_corpus(store, [Document(id=str(n), text=f"{n} 0123456789") for n in range(20)])
    request = ask(LORA)
    weighed = replace(request, corpora=(*request.corpora, strange), corpus_weights=(3.0, 0.5))
    together = replace(weighed, recipe=replace(LORA, processes=2))
    alone = tune(weighed)
    assert_same_training(store, alone, tune(together))
    assert alone.losses != tune(replace(weighed, corpus_weights=())).losses, "weights are seen in the losses"


def test_one_machine_that_loses_a_rank_goes_on_from_its_checkpoint_to_the_bytes_of_two(store, tune, ask, undisturbed):
    store.delete(undisturbed.model)
    # Soon after the first checkpoint, so that a training that is hard to hear is not over before it is disturbed.
    control = Control(at=TWO.checkpoint_steps + 2, then=lambda: second_rank(store).kill())
    again = tune(ask(TWO), control)
    assert again == undisturbed
    assert set(control.steps) == set(range(1, TWO.steps + 1))
    # All of them where the kill came while the next checkpoint was written.
    assert len(control.steps) - TWO.steps <= TWO.checkpoint_steps
    assert control.at == -1


def second_rank(store: ArtifactStore) -> psutil.Process:
    (agent,) = (process for process in workers(store) if process.ppid() == os.getpid())
    return agent.children()[1]


def test_what_a_rank_finds_wrong_comes_back_as_what_it_is(store, tune, ask, model_directory, place):
    files = {path.name: path for path in model_directory.iterdir()}
    broken = {name: tensor.fill_(float("nan")) for name, tensor in load_file(files["model.safetensors"]).items()}
    save_file(broken, place / "model.safetensors", metadata={"format": "pt"})
    model = store.publish(ArtifactKind.MODEL, None, {**files, "model.safetensors": place / "model.safetensors"})
    with pytest.raises(TrainingDiverged, match="damaged"):
        tune(ask(replace(TWO, heldout_steps=0), model))


async def test_a_training_goes_on_after_a_cancel_a_killed_trainer_and_a_drained_one_and_leaves_no_process(
    store, environment, connect, ask, root
):
    request = ask(replace(TWO, steps=400))
    draft = store.draft(request_digest(METHOD, request, environment.fingerprint))
    models = set(store.list(ArtifactKind.MODEL))
    server = await start(store, threads=1, device="cpu", max_processes=2)
    trainer = TrainerClient(connect(server.address))
    with pytest.raises(CapabilityMissing, match="at most 2"):
        await trainer.fine_tune(ask(replace(TWO, processes=4)))
    reached = [await cancelled_at(trainer, request, 30)]
    await server.stop()
    # On a busy machine the group may need longer to end than a server that stops waits for it.
    await asyncio.to_thread(wait_until, lambda: not workers(store))
    assert draft.has(LATEST)
    for ending in (signal.SIGKILL, signal.SIGTERM):
        process, address = await started(store, root)
        reached.append(await ended_at(TrainerClient(connect(address)), request, reached[-1] + 30, process, ending))
        await asyncio.to_thread(wait_until, lambda: not workers(store))
    assert set(store.list(ArtifactKind.MODEL)) == models
    assert reached == sorted(reached)


async def cancelled_at(trainer: TrainerClient, request: FineTune, steps: int) -> int:
    """Cancel the training once it has made so many steps; return how many it had made."""
    made: list[int] = []
    call = asyncio.create_task(trainer.fine_tune(request, noting(made)))
    while not made or made[-1] < steps:
        await asyncio.sleep(0.02)
        assert not call.done(), call.exception()
    call.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await call
    return made[-1]


async def ended_at(
    trainer: TrainerClient, request: FineTune, steps: int, process: asyncio.subprocess.Process, ending: signal.Signals
) -> int:
    """Send a signal to the trainer once it has made so many steps; return how many it had made."""
    made: list[int] = []
    call = asyncio.create_task(trainer.fine_tune(request, noting(made)))
    while not made or made[-1] < steps:
        await asyncio.sleep(0.02)
        assert not call.done(), call.exception()
    # From where the one before had stopped, or from its last checkpoint.
    assert made[0] > steps - 30 - TWO.checkpoint_steps
    process.send_signal(ending)
    assert await process.wait() == (-signal.SIGKILL if ending is signal.SIGKILL else 0)
    call.cancel()
    await asyncio.wait({call})
    return made[-1]


def noting(made: list[int]) -> Callable[[Progress], None]:
    return lambda progress: made.append(progress.done) if progress.stage == "train" else None


async def started(store: ArtifactStore, root: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Start a trainer process and return it with its address."""
    settings = {"STORE": store.url, "ADDRESS": "127.0.0.1:0", "METRICS_PORT": "0", "THREADS": "1", "DEVICE": "cpu"}
    told = {f"OURO_TRAINER_{key}": value for key, value in {**settings, "MAX_PROCESSES": "2"}.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.trainer",
        env={**os.environ, **told, "PYTHONPATH": str(root)},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async for line in process.stderr:
        if b"rpc.serving" in line:
            # Read on, or a full pipe would stop the process.
            asyncio.get_running_loop().create_task(process.stderr.read())
            return process, json.loads(line)["address"]
    raise AssertionError("the trainer did not start")


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)
