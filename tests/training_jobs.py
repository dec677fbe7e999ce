"""Trainings as Jobs, as tests need them: the template of the chart, a tiny model, programs that do as they are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import OuroscopeError
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.documents import Document
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, FineTuned, LoraSpec, Method, Recipe
from ouroscope.store import ArtifactStore
from services.trainer.environment import prepare
from services.trainer.job import Job
from services.trainer.jobs.following import Jobs
from tests.chart import training_job

TEXTS = [f"The serpent swallowed its tail {number} times before it noticed the taste." for number in range(20)]
QUICK = Recipe(steps=6, batch_size=2, block_tokens=16)
LONG = replace(QUICK, steps=4000, checkpoint_steps=500, method=Method.LORA, lora=LoraSpec(rank=2, dropout=0.1))

STAND_IN = """
import os, signal, sys, time
from ouroscope.errors import FieldProblem, InvalidRequest, Unavailable
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTuned
from ouroscope.store import ArtifactStore
from services.trainer.jobs.lines import error_line, progress_line, published_line

def published():
    store = ArtifactStore(os.environ["OURO_TRAINER_STORE"])
    model = store.publish(ArtifactKind.MODEL, None, {"weights": b"made by a program"})
    store.put_result(os.environ["OURO_TRAINER_ANSWER"], FineTuned(model=model, steps=3, tokens=9))
    say(published_line(str(model)))

def say(line):
    print(line, flush=True)

def told_to_end(number, frame):
    say("SIGTERM was heard")
    sys.exit(75)

signal.signal(signal.SIGTERM, told_to_end)
say(progress_line(Progress(stage="train", done=1, total=3, unit="steps", loss=2.5)))
"""
WAIT = STAND_IN + "time.sleep(600)"
PUBLISH = STAND_IN + "published()"
REFUSE = STAND_IN + (
    "say(error_line(InvalidRequest('the recipe is odd', [FieldProblem('recipe.chat', 'is odd')], hint='none')))"
)
FAIL = STAND_IN + "say(error_line(Unavailable('the store cannot be reached')))\nsys.exit(75)"
SAY_NOTHING = "pass"


def request_for(store: ArtifactStore, folder: Path, recipe: Recipe) -> FineTune:
    """Return a request whose model and corpus are in the store."""
    model = store.publish(ArtifactKind.MODEL, None, {path.name: path for path in folder.iterdir()})
    corpus = write_corpus(store, [Document(id=str(n), text=text) for n, text in enumerate(TEXTS)])
    return FineTune(model=model, corpora=(corpus,), recipe=recipe)


def tiny_model(folder: Path) -> Path:
    """Write a model that trains in a blink."""
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=300, show_progress=False, special_tokens=["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner._tokenizer, eos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **size)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def template(store: str, program: str = "", **settings: str) -> dict[str, Any]:
    """Return the template of the chart for a machine without a GPU; `program` takes the place of the real one."""
    job: dict[str, Any] = json.loads(json.dumps(training_job("kueue")))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    told = {"STORE": store, "DEVICE": "cpu", "THREADS": "1", "GRACE": "30", **settings}
    container["env"] = [{"name": f"OURO_TRAINER_{name}", "value": value} for name, value in told.items()]
    for amounts in container["resources"].values():
        amounts.pop("nvidia.com/gpu")
    if program:
        container["command"] = ["python", "-c", program]
    return job


def written(path: Path, job: Mapping[str, Any]) -> Path:
    """Write a template as a file."""
    path.write_text(yaml.safe_dump(dict(job)))
    return path


@dataclass
class Asked:
    """Who waits for the work, and what is heard of it."""

    stop_with: OuroscopeError | None = None
    told: list[Progress] = field(default_factory=list)

    def check(self) -> None:
        if self.stop_with:
            raise self.stop_with

    def report(self, progress: Progress, /) -> None:
        self.told.append(progress)

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(progress.stage for progress in self.told))

    @property
    def steps(self) -> list[int]:
        return [progress.done for progress in self.told if progress.stage == "train"]


@dataclass
class Following:
    """A training that is followed in a thread."""

    asked: Asked
    thread: threading.Thread
    outcome: list[Any]

    def end(self, seconds: float = 60) -> Any:
        """Return what came of it, or raise it."""
        self.thread.join(seconds)
        assert not self.thread.is_alive()
        (outcome,) = self.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def following(jobs: Jobs, request: FineTune) -> Following:
    """Have a request carried out, and go on meanwhile."""
    asked, outcome = Asked(), []

    def work() -> None:
        try:
            outcome.append(jobs.train(request, asked))
        except OuroscopeError as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return Following(asked, thread, outcome)


def train_here(store: ArtifactStore, request: FineTune) -> FineTuned:
    """Train in this process, undisturbed."""
    environment = prepare(threads=1, device="cpu")
    return Job(store=store, request=request, environment=environment, control=Asked()).run()
