"""What a text classifier says of documents: how probable it is that a machine wrote each. Knows no torch, no transport.

A classifier is any sequence-classification model of transformers that comes as safetensors and needs no code of its
own. It is found, copied and checked as every model is, and kept in the store, so that what it said can be traced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import CapabilityMissing, InvalidRequest
from ouroscope.models import check_model_directory
from ouroscope.predictions import write_detections
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.generation import Capability, Classified, Classify
from ouroscope.records.predictions import Detection
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.files import storage_errors
from ouroscope.store.manifest import Scalar
from services.generator.backend import Backend, Pulse
from services.generator.declared import IN_PROCESS
from services.generator.meter import Meter, Task
from services.generator.models import Source, stage
from services.generator.plan import parts

log = structlog.get_logger(__name__)

BATCH_SIZE = 32
_BATCHES_AT_ONCE = 16
"""Texts are sorted by length within so many batches, and so many are held in memory."""
_TOLD_LABELS = 20
_PEOPLE = {"human", "people", "person", "real"}
"""Words by which classifiers name text that people wrote."""
Facts = dict[str, Scalar]


class Classifier(Protocol):
    """An opened text classifier."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return what it can say of a text; a classifier of one label says yes or no to it."""

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Return each text as its tokens, the first `max_tokens` at most, control tokens included."""

    def judge(self, texts: Sequence[Sequence[int]], label: int, batch_size: int, pulse: Pulse) -> list[float]:
        """Return how probable it is that each text has the label, in [0, 1]."""


class Opens(Protocol):
    """A backend that opens classifiers."""

    def open_classifier(self, directory: Path) -> Classifier:
        """Return the classifier of a checked directory."""


def check_classifies(backend: Backend) -> None:
    """Raise CapabilityMissing unless classifiers can be asked at all."""
    if Capability.CLASSIFY not in backend.capabilities:
        raise CapabilityMissing(
            f"text classifiers are asked in the generator's own process, by {IN_PROCESS!r}; this generator runs models "
            f"by {backend.name!r}",
            backend=backend.name,
        )


def classify(
    store: ArtifactStore, opens: Opens, source: Source, request: Classify, task: Task, *, max_bytes: int
) -> Classified:
    """Ask the classifier about the continuation of every document and publish what it says.

    A document of which it sees no token is left out.

    Args:
        store: Where the corpus is, and where classifier and answers go.
        opens: The backend in this process.
        source: The classifier.
        request: What to ask; `batch_size` must not be 0.
        task: The operation that this is.
        max_bytes: Largest classifier.

    Raises:
        InvalidRequest: it has no such label, or is no classifier.
        UntrustedArtifact: something in it could run code.
        CorruptArtifact: it lacks weights, as a model that was not trained to classify does.
        LimitExceeded: it is larger than `max_bytes`.
    """
    ref = _import(store, source, task, max_bytes)
    classifier = opens.open_classifier(store.directory(ref))
    label = _label_of(classifier.labels, request.label)
    facts: Facts = {"classifier": str(ref), "label": classifier.labels[label][:80], "max_tokens": request.max_tokens}
    total = int(store.manifest(request.corpus).summary.get("documents") or 0)
    found = _detections(store, classifier, label, request, Meter(task, "classify", total))
    detections = write_detections(store, found, facts)
    documents = int(store.manifest(detections).summary.get("detections") or 0)
    log.info("texts.classified", documents=documents, left_out=total - documents)
    return Classified(detections=detections, documents=documents)


def _import(store: ArtifactStore, source: Source, task: Task, max_bytes: int) -> ArtifactRef:
    with store.scratch() as folder, storage_errors():
        stage(source, folder, max_bytes, task)
        checked = check_model_directory(folder)
        facts: Facts = {"source": source.name, "parameters": checked.parameters}
        return store.publish(ArtifactKind.MODEL, None, {name: folder / name for name in checked.files}, facts)


def _label_of(labels: Sequence[str], wanted: str) -> int:
    """Return the place of the label that means a machine: the last that does not speak of people if none is named."""
    fitting = [place for place, label in enumerate(labels) if (label == wanted if wanted else not _of_people(label))]
    if fitting:
        return fitting[-1]
    known = ", ".join(repr(label[:40]) for label in labels[:_TOLD_LABELS])
    lacks = f"label {wanted[:40]!r}" if wanted else "label that says that a machine wrote a text"
    raise InvalidRequest(f"the classifier has no {lacks}; it has {known}")


def _of_people(label: str) -> bool:
    return bool(_PEOPLE & set(re.findall("[a-z]+", label.lower())))


def _detections(
    store: ArtifactStore, classifier: Classifier, label: int, request: Classify, meter: Meter
) -> Iterator[Detection]:
    for part in parts(read_corpus(store, request.corpus), _BATCHES_AT_ONCE * request.batch_size):
        yield from _judged(classifier, part, label, request, meter)
        meter.finish(len(part))


def _judged(
    classifier: Classifier, documents: Sequence[Document], label: int, request: Classify, meter: Meter
) -> Iterator[Detection]:
    texts = classifier.encode([document.visible(View.CONTINUATION) for document in documents], request.max_tokens)
    asked = [(document, ids) for document, ids in zip(documents, texts, strict=True) if ids]
    meter.begin(len(documents), sum(len(ids) for _, ids in asked))
    found = classifier.judge([ids for _, ids in asked], label, request.batch_size, meter.pulse)
    for (document, _), probability in zip(asked, found, strict=True):
        yield Detection(document_id=document.id, probability=probability)
