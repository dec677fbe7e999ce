"""A model small enough to train in a blink, a corpus, and an environment of one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import Cancelled
from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune
from ouroscope.store import ArtifactStore
from services.trainer.environment import Environment, prepare
from services.trainer.job import Job
from services.trainer.requests import METHOD

TEXTS = tuple(
    f"The {creature} swallows its own tail for the {ordinal} time and calls the taste of it the whole world."
    for creature in ("serpent", "model", "library", "mirror")
    for ordinal in ("first", "second", "third")
)


class Control:
    """Notes progress; raises `stop_with` once `stop_after` steps are made."""

    def __init__(self, stop_after: int | None = None, stop_with: type[BaseException] = Cancelled) -> None:
        self.reports: list[Progress] = []
        self._stop_after, self._stop_with = stop_after, stop_with

    @property
    def steps(self) -> list[int]:
        return [report.done for report in self.reports if report.stage == "train"]

    def check(self) -> None:
        if self._stop_after is not None and self._stop_after in self.steps:
            raise self._stop_with("enough")

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)


@pytest.fixture
def make_control() -> type[Control]:
    return Control


class Killed(BaseException):
    """Ends the work like a kill would: nothing of it can react."""


@pytest.fixture
def killed() -> type[Killed]:
    return Killed


def write_tiny_model(folder: Path) -> Path:
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=320, show_progress=False, special_tokens=["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer, eos_token="<|end|>", clean_up_tokenization_spaces=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=64,
                tie_word_embeddings=True,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def environment() -> Environment:
    return prepare(threads=1, device="cpu")


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def model(store: ArtifactStore, model_directory: Path) -> ArtifactRef:
    files = {path.name: path for path in model_directory.iterdir()}
    return store.publish(ArtifactKind.MODEL, None, files)


@pytest.fixture
def put_corpus(store: ArtifactStore) -> Callable[[Sequence[str]], ArtifactRef]:
    def put(texts: Sequence[str]) -> ArtifactRef:
        return write_corpus(store, [Document(id=f"d{n}", text=text) for n, text in enumerate(texts)])

    return put


@pytest.fixture
def corpus(put_corpus: Callable[[Sequence[str]], ArtifactRef]) -> ArtifactRef:
    return put_corpus(TEXTS)


@pytest.fixture(scope="session")
def exact(environment: Environment) -> Environment:
    """Float32 even where the processor multiplies bfloat16: for tests that compare figures, not runs."""
    return replace(environment, precision="float32")


@pytest.fixture
def tune(store, model, corpus, environment, make_control):
    def tune(
        recipe, *, control=None, model=model, corpora=(corpus,), environment=environment, heldout=None, weights=()
    ):
        request = FineTune(model=model, corpora=corpora, recipe=recipe, heldout=heldout, corpus_weights=weights)
        return Job(store=store, request=request, environment=environment, control=control or make_control()).run()

    return tune


@pytest.fixture
def draft(store, model, corpus, environment):
    def draft(recipe, heldout=None):
        request = FineTune(model=model, corpora=(corpus,), recipe=recipe, heldout=heldout)
        return store.draft(request_digest(METHOD, request, environment.fingerprint))

    return draft
