"""The domain of a text through the real generator and the real analyzer: cut, continued, scored, measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ouroscope.corpora.stored import read_corpus
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.generation import Generate, PreparePrompts, SamplingSpec, Score, WindowSpec
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.records.runs import DatasetSpec
from ouroscope.store import ArtifactStore
from services.analyzer.analysis import Options, analyze_side
from services.coordinator.dataset.preparing import joined, prepare
from services.coordinator.dataset.texts import Dataset
from services.generator.generation import generate
from services.generator.in_process.backend import HfBackend
from services.generator.plan import Plan
from services.generator.scoring import score
from services.generator.windows import prepare_prompts
from tests.unit.generator.conftest import NotingTask, write_tiny_model

from .domains import quiet, texts_of, write_domain
from .fakes import small_spec

NAMES = ("news", "wiki")
EACH = 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def dataset(store: ArtifactStore, folder: Path) -> Dataset:
    domains = tuple(write_domain(folder, name, texts_of(seed, 500)) for seed, name in enumerate(NAMES))
    return prepare(store, small_spec(dataset=DatasetSpec(domains=domains)), quiet)


@pytest.fixture(scope="module")
def model(store: ArtifactStore, folder: Path) -> ArtifactRef:
    files = {path.name: path for path in write_tiny_model(folder / "tiny").iterdir()}
    return store.publish(ArtifactKind.MODEL, None, files, {"source": "tiny"})


@pytest.fixture(scope="module")
def backend(store: ArtifactStore) -> HfBackend:
    return HfBackend(store, device="cpu", threads=1)


@pytest.fixture(scope="module")
def windows(store: ArtifactStore, dataset: Dataset, model: ArtifactRef, backend: HfBackend) -> ArtifactRef:
    """Return held-out windows, equally many of each domain."""
    spec = WindowSpec(document_tokens=24, prefix_tokens=6, count=EACH)
    tokens = backend.open(model).tokens
    requests = [PreparePrompts(model=model, corpus=dataset.of((name,)).heldout, window=spec) for name in NAMES]
    return joined(store, [prepare_prompts(store, request, tokens, NotingTask()).corpus for request in requests])


@pytest.fixture(scope="module")
def written(store: ArtifactStore, model: ArtifactRef, backend: HfBackend, windows: ArtifactRef) -> ArtifactRef:
    sampling = SamplingSpec(min_new_tokens=18, max_new_tokens=18, batch_size=16)
    request = Generate(model=model, prompts=windows, sampling=sampling, generation=1)
    return generate(store, backend, request, Plan(batch_size=16, shard_documents=16), "a" * 64, NotingTask()).corpus


@pytest.fixture(scope="module")
def predictions(
    store: ArtifactStore, dataset: Dataset, model: ArtifactRef, backend: HfBackend, written: ArtifactRef
) -> ArtifactRef:
    asked = Score(
        model=model,
        prompts=dataset.questions,
        prompt_length=4,
        heldout=dataset.heldout,
        documents=written,
        max_tokens=32,
        batch_size=16,
    )
    return score(store, backend, asked, NotingTask()).predictions


def counted(items: list[Document] | list[NextToken] | list[ScoredText]) -> dict[str | None, int]:
    """Return how many are of each domain."""
    return dict(Counter(item.domain for item in items))


def test_windows_continuations_and_what_a_model_expects_name_the_domain_of_their_text(
    store: ArtifactStore, windows: ArtifactRef, written: ArtifactRef, predictions: ArtifactRef
) -> None:
    each = dict.fromkeys(NAMES, EACH)
    assert counted(list(read_corpus(store, windows))) == each
    assert counted(list(read_corpus(store, written))) == each
    assert counted(list(read_next_tokens(store, predictions))) == each
    scored = list(read_scored_texts(store, predictions))
    assert counted(scored) == dict.fromkeys(NAMES, 2 * EACH), "held-out texts, and what was written"
    # Where an id tells of a domain, it tells of the same one.
    assert all(text.document_id.startswith(f"{text.domain}/") for text in scored)


def test_the_report_on_a_domain_is_that_of_its_own_text_alone(
    store: ArtifactStore, written: ArtifactRef, predictions: ArtifactRef
) -> None:
    for name in NAMES:
        documents = [one for one in read_corpus(store, written) if one.domain == name]
        tokens = [one for one in read_next_tokens(store, predictions) if one.domain == name]
        texts = [one for one in read_scored_texts(store, predictions) if one.domain == name]
        options = Options(view=View.CONTINUATION, metrics=("types", "top1_probability", "heldout_perplexity"))
        alone = analyze_side(documents, tokens, texts, options=options).report
        among = analyze_side(
            read_corpus(store, written),
            read_next_tokens(store, predictions),
            read_scored_texts(store, predictions),
            options=options,
            domain=name,
        ).report
        assert among == alone
        assert (among.documents, among.clusters) == (EACH, len({one.cluster for one in documents}))
