"""A model small enough to answer in a blink, human documents, and a task that notes what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import Cancelled
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from tests.servers.language import Language
from tests.servers.stand_in import StandIn, serving
from tests.unit.generator.servers_setup import NAME

TEXTS = tuple(
    f"The {creature} swallows its own tail for the {ordinal} time, and calls the taste of it the whole wide world."
    for creature in ("serpent", "model", "library", "mirror", "café")
    for ordinal in ("first", "second", "third", "naïve 🐍")
)
END = "<|end|>"


class NotingTask:
    """A task that remembers what it is told and stops after so many checks."""

    def __init__(self, checks: int | None = None) -> None:
        self.checks = checks
        self.told: list[Progress] = []

    def check(self) -> None:
        if self.checks is not None:
            if self.checks <= 0:
                raise Cancelled("the test asked for it")
            self.checks -= 1

    def report(self, progress: Progress) -> None:
        self.told.append(progress)


def write_tiny_model(folder: Path) -> Path:
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=320, show_progress=False, special_tokens=[END])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer, bos_token=END, eos_token=END, clean_up_tokenization_spaces=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=96,
            # Wide enough that the model has clear favourites.
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=0,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def model_ref(store: ArtifactStore, model_directory: Path) -> ArtifactRef:
    files = {path.name: path for path in model_directory.iterdir()}
    return store.publish(ArtifactKind.MODEL, None, files, {"source": "tiny"})


@pytest.fixture(scope="session")
def backend(store: ArtifactStore) -> HfBackend:
    return HfBackend(store, device="cpu", threads=1)


@pytest.fixture(scope="session")
def model(backend: HfBackend, model_ref: ArtifactRef) -> HfModel:
    return backend.open(model_ref)


@pytest.fixture(scope="session")
def human(store: ArtifactStore) -> ArtifactRef:
    """Documents of several windows each."""
    documents = (
        Document(id=f"d{number}", text=" ".join(TEXTS[number : number + 4]), group=f"g{number // 2}", domain="fables")
        for number in range(12)
    )
    return write_corpus(store, documents)


@pytest.fixture(scope="session")
def prompts(store: ArtifactStore) -> ArtifactRef:
    """Documents whose beginnings, of different lengths, are prompts."""
    documents = (
        Document(id=f"p{number}", text=text, origin=Origin.HUMAN, prefix_length=4 + 3 * number % 17, group=f"g{number}")
        for number, text in enumerate(TEXTS)
    )
    return write_corpus(store, documents)


@pytest.fixture(scope="module")
def language(model_directory: Path) -> Language:
    """The tiny model as stand-in servers speak it."""
    return Language(model_directory)


@pytest.fixture
def stand_in(language: Language) -> StandIn:
    return StandIn({NAME: language})


@pytest.fixture
def url(stand_in: StandIn) -> Iterator[str]:
    with serving(stand_in) as address:
        yield address


@pytest.fixture
def noting_task() -> Callable[..., NotingTask]:
    return NotingTask
