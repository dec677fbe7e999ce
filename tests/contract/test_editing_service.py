"""Editing and classifying as callers meet them: on the wire, with the embedded model and a classifier of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from ouroscope.client import GeneratorClient
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import CapabilityMissing, InvalidRequest, NotFound, OuroscopeError, UntrustedArtifact
from ouroscope.predictions import read_detections
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Capability, Classify, Edit
from ouroscope.records.progress import Progress
from ouroscope.store import ArtifactStore
from services.generator.service import start
from tests.unit.generator.classifiers_setup import LABELS, write_distilbert

TEXTS = [
    f"Return the {what} of the {which} array, or raise an error if the given axis does not exist in it."
    for what in ("mean", "largest element", "shape", "sorted copy")
    for which in ("first", "second", "input")
]
NOWHERE = ArtifactRef(ArtifactKind.CORPUS, "0" * 64)


@pytest.fixture
async def generator(store: ArtifactStore, connect: Callable[[str], grpc.aio.Channel]) -> AsyncIterator[GeneratorClient]:
    server = await start(store, threads=1, device="cpu")
    yield GeneratorClient(connect(server.address))
    await server.stop(grace=0.0)


@pytest.fixture
def human(store: ArtifactStore) -> ArtifactRef:
    texts = (Document(id=str(n), text=text, origin=Origin.HUMAN, prefix_length=11) for n, text in enumerate(TEXTS))
    return write_corpus(store, texts)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    (tmp_path / "classifier").mkdir()
    return write_distilbert(tmp_path / "classifier", id2label=LABELS, label2id={})


async def test_human_text_is_edited_by_a_model_of_the_store(generator, store, human):
    model = (await generator.import_model("ouro-tiny")).model
    request = Edit(model=model, corpus=human, threshold=0.5, generation=2, seed=1)
    told: list[Progress] = []
    edited = await generator.edit(request, told.append)
    assert (edited.documents, told[-1].done, told[-1].total) == (12, 12, 12)
    assert edited.served is not None
    assert edited.served.model == model.digest
    pairs = list(zip(read_corpus(store, human), read_corpus(store, edited.corpus), strict=True))
    assert any(old.text != new.text for old, new in pairs)
    for old, new in pairs:
        changed = old.text != new.text
        assert (new.id, new.text[:11], new.prefix_length) == (old.id, old.text[:11], 11)
        assert new.origin is (Origin.SYNTHETIC if changed else Origin.HUMAN)
        assert (new.generation, new.model_digest) == ((2, model.digest) if changed else (None, None))
    # A batch size that is chosen is digested as if it had been asked for.
    assert await generator.edit(replace(request, batch_size=edited.batch_size)) == edited
    assert (await generator.edit(replace(request, threshold=1.0))).corpus == human


async def test_a_classifier_says_of_every_document_how_probable_it_is_a_machines(generator, store, human, classifier):
    request = Classify(classifier=str(classifier), corpus=human)
    found = await generator.classify(request)
    detections = list(read_detections(store, found.detections))
    assert [one.document_id for one in detections] == [str(number) for number in range(12)]
    assert found.documents == 12
    assert await generator.classify(request) == found
    assert await generator.classify(replace(request, label="human")) != found


async def test_errors_come_back_as_what_they_were(generator, human, classifier):
    model = (await generator.import_model("ouro-tiny")).model
    poisoned = classifier.with_name("poisoned")
    poisoned.mkdir()
    (poisoned / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    wrong: list[tuple[object, type[OuroscopeError], str]] = [
        (generator.edit(Edit(model=model, corpus=NOWHERE)), NotFound, "store"),
        (generator.edit(Edit(model=human, corpus=human)), InvalidRequest, "model"),
        (generator.classify(Classify(classifier="not a name", corpus=human)), InvalidRequest, "names no model"),
        (generator.classify(Classify(classifier=str(classifier), corpus=NOWHERE)), NotFound, "store"),
        (generator.classify(Classify(classifier=str(poisoned), corpus=human)), UntrustedArtifact, "is refused"),
        (
            generator.classify(Classify(classifier=str(classifier), corpus=human, label="robot")),
            InvalidRequest,
            "it has 'human', 'machine'",
        ),
    ]
    for call, kind, said in wrong:
        with pytest.raises(kind, match=said):
            await call


async def test_a_generator_whose_models_run_elsewhere_says_who_edits_and_classifies(store, connect, human):
    class Writer:
        name = kind = "writer"
        capabilities = frozenset({Capability.GENERATE})

        def fingerprint(self):
            return {}

    server = await start(store, backend=Writer())
    client = GeneratorClient(connect(server.address))
    with pytest.raises(CapabilityMissing, match="by 'transformers'"):
        await client.edit(Edit(model=ArtifactRef(ArtifactKind.MODEL, "0" * 64), corpus=human))
    with pytest.raises(CapabilityMissing, match="by 'transformers'"):
        await client.classify(Classify(classifier="owner/name", corpus=human))
    await server.stop(grace=0.0)
