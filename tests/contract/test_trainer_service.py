"""The trainer as callers meet it: on the wire, with its errors, and as a process that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ouroscope.client import TrainerClient
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import CapabilityMissing, InvalidRequest, NotFound, OuroscopeError, UntrustedArtifact
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.progress import Progress
from ouroscope.records.training import (
    BaseWeights,
    CheckRecipe,
    FineTune,
    FineTuned,
    LoraSpec,
    LossScope,
    Method,
    Optimizer,
    Recipe,
)
from ouroscope.store import ArtifactStore
from ouroscope.stored_models import base_of
from services.trainer.environment import prepare
from services.trainer.job import Job
from services.trainer.service import start

TEXTS = [f"The serpent swallowed its tail {number} times before it noticed the taste." for number in range(20)]
QUICK = Recipe(steps=6, batch_size=2, block_tokens=16, checkpoint_steps=2)
LONG = replace(QUICK, steps=600, checkpoint_steps=20, method=Method.LORA, lora=LoraSpec(rank=2, dropout=0.1))


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=300, show_progress=False, special_tokens=["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner._tokenizer, eos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **size)
        LlamaForCausalLM(config).save_pretrained(folder)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def asked(model_files: dict[str, Path]) -> Callable[[ArtifactStore, Recipe], FineTune]:
    def asked(store: ArtifactStore, recipe: Recipe) -> FineTune:
        model = store.publish(ArtifactKind.MODEL, None, model_files)
        corpus = write_corpus(store, [Document(id=str(n), text=text) for n, text in enumerate(TEXTS)])
        return FineTune(model=model, corpora=(corpus,), recipe=recipe)

    return asked


@pytest.fixture
async def trainer(store: ArtifactStore, connect) -> AsyncIterator[TrainerClient]:
    server = await start(store, threads=1, device="cpu")
    yield TrainerClient(connect(server.address))
    await server.stop(grace=0.0)


async def test_a_caller_gets_the_model_that_training_in_process_gives(trainer, store, asked, tmp_path):
    request = asked(store, QUICK)
    told: list[Progress] = []
    tuned = await trainer.fine_tune(request, told.append)
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    asked(elsewhere, QUICK)
    expected = await asyncio.to_thread(train_here, elsewhere, request, [])
    assert tuned == expected
    assert store.exists(tuned.model)


async def test_everything_that_a_recipe_can_say_goes_over_the_wire_and_its_result_comes_back(trainer, store, asked):
    lora = LoraSpec(rank=2, rank_stabilized=True, keep_adapter=True, base_weights=BaseWeights.BFLOAT16)
    recipe = replace(
        QUICK,
        method=Method.LORA,
        lora=lora,
        optimizer=Optimizer.ADAFACTOR,
        gradient_checkpointing=True,
        loss_scope=LossScope.CONTINUATION,
        truncation=0.9,
        heldout_steps=2,
        patience=9,
    )
    request = asked(store, replace(recipe, heldout_steps=0, patience=0))
    told: list[Progress] = []
    tuned = await trainer.fine_tune(replace(request, recipe=recipe, heldout=request.corpora[0]), told.append)
    assert [point.step for point in tuned.heldout_losses] == [2, 4, 6]
    assert base_of(store, tuned.model) == request.model
    with pytest.raises(CapabilityMissing, match="ADAMW_8BIT"):
        await trainer.fine_tune(replace(request, recipe=replace(QUICK, optimizer=Optimizer.ADAMW_8BIT)))


async def test_weights_of_corpora_reach_the_training(trainer, store, asked):
    request = asked(store, QUICK)
    other = write_corpus(store, [Document(id="0", text="0123456789 " * 9)])
    both = replace(request, corpora=(*request.corpora, other))
    weighted = [replace(both, corpus_weights=weights) for weights in ((), (2.0, 2.0), (1.0, 9.0))]
    plain, alike, unlike = [(await trainer.fine_tune(each)).losses for each in weighted]
    assert alike == plain
    assert unlike != plain
    with pytest.raises(InvalidRequest) as refused:
        await trainer.fine_tune(to_be_refused(both))
    assert [problem.field for problem in refused.value.problems] == ["corpus_weights"]


def to_be_refused(request: FineTune) -> FineTune:
    """Return the request with one weight for two corpora, which no record would let pass."""
    wrong = replace(request)
    object.__setattr__(wrong, "corpus_weights", (1.0,))
    return wrong


async def test_a_recipe_that_can_be_done_is_not_refused_and_nothing_is_made_of_it(trainer, store, asked):
    request = asked(store, QUICK)
    before = set(store.list(ArtifactKind.MODEL))
    assert await trainer.check_recipe(CheckRecipe(model=request.model, recipe=QUICK)) is None
    assert set(store.list(ArtifactKind.MODEL)) == before


async def test_a_caller_is_told_at_once_what_training_would_refuse(trainer, store, asked):
    request = asked(store, QUICK)
    four_bit = LoraSpec(targets=("q_prj",), base_weights=BaseWeights.FOUR_BIT)
    wrong = replace(QUICK, method=Method.LORA, lora=four_bit, block_tokens=1000, batch_size=4096, processes=4096)
    for call in (
        trainer.check_recipe(CheckRecipe(model=request.model, recipe=wrong)),
        trainer.fine_tune(replace(request, recipe=wrong)),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await call
        assert {problem.field for problem in refused.value.problems} == {
            "recipe.lora.base_weights",
            "recipe.processes",
            "recipe.block_tokens",
            "recipe.lora.targets",
        }


async def test_what_only_this_trainer_lacks_is_a_failed_precondition_that_names_the_field(trainer, store, asked):
    recipe = replace(QUICK, optimizer=Optimizer.ADAFACTOR, processes=2)
    with pytest.raises(CapabilityMissing, match="ADAFACTOR works in one process only") as refused:
        await trainer.check_recipe(CheckRecipe(model=asked(store, QUICK).model, recipe=recipe))
    assert "recipe.optimizer" in refused.value.metadata["field"]


async def test_a_question_about_no_model_is_refused(trainer, store, asked):
    request = asked(store, QUICK)
    with pytest.raises(NotFound):
        await trainer.check_recipe(CheckRecipe(model=ArtifactRef(ArtifactKind.MODEL, "0" * 64), recipe=QUICK))
    with pytest.raises(InvalidRequest, match="model"):
        await trainer.check_recipe(CheckRecipe(model=request.corpora[0], recipe=QUICK))


async def test_a_trainer_that_was_told_where_writes_curves(store, connect, asked, tmp_path):
    server = await start(store, threads=1, device="cpu", log_to=f"tensorboard:{tmp_path / 'curves'}")
    await TrainerClient(connect(server.address)).fine_tune(asked(store, QUICK))
    await server.stop(grace=0.0)
    (curve,) = (tmp_path / "curves").iterdir()
    assert EventAccumulator(str(curve)).Reload().Scalars("train/loss")[-1].step == QUICK.steps


async def test_asking_again_answers_from_what_was_published(trainer, store, asked):
    first = await trainer.fine_tune(asked(store, QUICK))
    told: list[Progress] = []
    assert await trainer.fine_tune(asked(store, QUICK), told.append) == first
    assert not any(progress.stage == "train" and progress.done < QUICK.steps for progress in told)


async def test_errors_come_back_as_what_they_were(trainer, store, asked, model_files):
    request = asked(store, QUICK)
    poisoned = store.publish(ArtifactKind.MODEL, None, {**model_files, "pytorch_model.bin": b"\x80\x04."})
    wrong: list[tuple[FineTune, type[OuroscopeError]]] = [
        (replace(request, model=ArtifactRef(ArtifactKind.MODEL, "0" * 64)), NotFound),
        (replace(request, corpora=(request.model,)), InvalidRequest),
        (replace(request, recipe=replace(QUICK, block_tokens=1000)), InvalidRequest),
        (replace(request, model=poisoned), UntrustedArtifact),
    ]
    for impossible, kind in wrong:
        with pytest.raises(kind):
            await trainer.fine_tune(impossible)
    assert len(list(store.list(ArtifactKind.MODEL))) == 2


async def test_a_caller_that_goes_away_stops_the_training_and_finds_it_again(trainer, store, asked):
    request = asked(store, replace(LONG, steps=300))
    before = set(store.list(ArtifactKind.MODEL))
    told: list[Progress] = []
    await let_run_until(trainer, request, 5, told)
    assert set(store.list(ArtifactKind.MODEL)) == before
    resumed: list[Progress] = []
    tuned = await trainer.fine_tune(request, resumed.append)
    assert tuned.steps == 300
    assert all(progress.done >= 5 for progress in resumed if progress.stage == "train")


@pytest.mark.e2e
async def test_a_trainer_killed_and_then_terminated_ends_with_the_model_of_an_undisturbed_one(
    connect, asked, tmp_path, root
):
    store, undisturbed = ArtifactStore(tmp_path / "disturbed"), ArtifactStore(tmp_path / "undisturbed")
    request = asked(store, LONG)
    asked(undisturbed, LONG)
    for ending, at_least in ((signal.SIGKILL, 50), (signal.SIGTERM, 200)):
        process, address = await started(store, root)
        end = partial(process.send_signal, ending)
        await let_run_until(TrainerClient(connect(address)), request, at_least, [], end)
        assert await process.wait() == (-signal.SIGKILL if ending is signal.SIGKILL else 0)
        assert list(store.list(ArtifactKind.MODEL)) == [request.model]
    resumed: list[Progress] = []
    tuned = await asyncio.to_thread(train_here, store, request, resumed)
    assert min(progress.done for progress in resumed if progress.stage == "train") > 200
    assert tuned == await asyncio.to_thread(train_here, undisturbed, request, [])


def test_a_process_with_a_wrong_setting_says_which_and_does_not_start(root):
    environment = {**os.environ, "OURO_TRAINER_TREADS": "2", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "services.trainer"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "did you mean OURO_TRAINER_THREADS?" in ended.stderr
    assert ended.stdout == ""


async def let_run_until(
    trainer: TrainerClient,
    request: FineTune,
    steps: int,
    told: list[Progress],
    end: Callable[[], None] = lambda: None,
) -> None:
    """Follow the training until it made so many steps, end it, and go away."""
    enough = asyncio.Event()

    def note(progress: Progress) -> None:
        told.append(progress)
        if progress.stage == "train" and progress.done >= steps:
            enough.set()

    call = asyncio.create_task(trainer.fine_tune(request, note))
    await asyncio.wait({call, asyncio.create_task(enough.wait())}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    assert enough.is_set()
    assert not call.done(), "the training was over before it could be disturbed"
    end()
    call.cancel()
    await asyncio.wait({call})


async def started(store: ArtifactStore, root: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Start a trainer process and return it with its address."""
    settings = {"STORE": store.url, "ADDRESS": "127.0.0.1:0", "METRICS_PORT": "0", "THREADS": "1", "DEVICE": "cpu"}
    environment = {**os.environ, **{f"OURO_TRAINER_{key}": value for key, value in settings.items()}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.trainer",
        env={**environment, "PYTHONPATH": str(root)},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async for line in process.stderr:
        if b"rpc.serving" in line:
            # Read on, or a full pipe would stop the process.
            asyncio.get_running_loop().create_task(process.stderr.read())
            return process, json.loads(line)["address"]
    raise AssertionError("the trainer did not start")


def train_here(store: ArtifactStore, request: FineTune, told: list[Progress]) -> FineTuned:
    class Uninterrupted:
        def check(self) -> None: ...

        def report(self, progress: Progress) -> None:
            told.append(progress)

    environment = prepare(threads=1, device="cpu")
    return Job(store=store, request=request, environment=environment, control=Uninterrupted()).run()
