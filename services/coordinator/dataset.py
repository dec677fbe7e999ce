"""Human text of a run: read once, dealt into prompts and held-out text, kept as corpora. Knows no model and no loop.

Two parts, by a hash of the text alone (`corpora.parts`), so that nothing a model is trained on is ever held out:

- prompts: windows of it are prompts, real continuations and the training text of the human arm. The embedded corpus
  gives its PROMPT part (its TRAIN part taught ouro-tiny); another source gives everything that is not held out.
- held out: examines the models; never prompted with, never trained on.

All calls block for seconds, the embedded corpus longer: call from a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ouroscope.canonical import digest_of
from ouroscope.corpora.docstrings import SOURCES, Part, gather, part_of
from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.sources import version_of
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import InvalidRequest, NotFound, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.progress import Progress
from ouroscope.records.runs import DatasetSpec, RunSpec
from ouroscope.seeds import derive_seed
from ouroscope.store import ArtifactStore

EMBEDDED = "embedded"
UNIGRAM_DOCUMENTS = 2000
"""Human documents on which the unigram model is fitted that the base model is measured beside."""

Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The two parts of a source."""

    prompts: ArtifactRef
    heldout: ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The corpora that one run works with."""

    prompts: ArtifactRef
    """Pool of which windows are cut."""
    heldout: ArtifactRef
    """For held-out perplexity."""
    questions: ArtifactRef
    """Held-out documents whose beginnings are prompts for next-token records."""
    unigram: ArtifactRef
    """Sample of the pool for the unigram model."""


def check_source(dataset: DatasetSpec) -> None:
    """Raise NotFound if the source is a path and nothing is there; cheap enough for every request."""
    if dataset.source != EMBEDDED and not Path(dataset.source).expanduser().exists():
        raise NotFound(f"there is no file or folder {dataset.source!r}; give a path that exists, or `{EMBEDDED}`")


def prepare(store: ArtifactStore, spec: RunSpec, report: Report) -> Dataset:
    """Return the corpora of a run; the same specification and the same text give the same ones.

    Raises:
        NotFound: the source is not there.
        InvalidRequest: it cannot be read, or is empty.
        PreconditionFailed: it has too little held-out text for what is asked.
    """
    parts = parts_of(store, spec.dataset, report)
    examined = _held_out_order(store, spec, parts.heldout)
    wanted = spec.evaluation
    report(Progress(stage="dataset", done=2, total=3, unit="steps"))
    return Dataset(
        prompts=parts.prompts,
        heldout=_write_first(store, examined, wanted.heldout_documents, "evaluation.heldout_documents", spec),
        questions=_write_first(store, examined, wanted.prompts, "evaluation.prompts", spec),
        unigram=write_corpus(store, _unigram_sample(store, spec, parts.prompts)),
    )


def parts_of(store: ArtifactStore, dataset: DatasetSpec, report: Report) -> Parts:
    """Return the two parts of a source. The embedded one is remembered, since gathering it takes long."""
    if dataset.source != EMBEDDED:
        documents = _human(read_documents(Path(dataset.source).expanduser(), text_field=dataset.text_field))
        return _keep(store, [(part_of(document.text), document) for document in documents], {Part.TRAIN, Part.PROMPT})
    versions = {source.name: version_of(source) or "" for source in SOURCES}
    key = digest_of("services.coordinator.dataset/1", versions)
    if known := store.get_result(key, Parts):
        return known
    report(Progress(stage="dataset", done=0, total=3, unit="steps"))
    dealt = [(part_of(document.text), document) for document in gather().documents]
    report(Progress(stage="dataset", done=1, total=3, unit="steps"))
    parts = _keep(store, dealt, {Part.PROMPT})
    store.put_result(key, parts)
    return parts


def _keep(store: ArtifactStore, dealt: Sequence[tuple[Part, Document]], pool: set[Part]) -> Parts:
    prompts = [document for part, document in dealt if part in pool]
    heldout = [document for part, document in dealt if part is Part.HELD_OUT]
    if not prompts or not heldout:
        raise PreconditionFailed(
            f"of the {len(dealt)} documents of the source none could be held out, or all were (8 % are, by a hash of "
            "their words); give more text, as one document per line rather than one per file"
        )
    return Parts(prompts=write_corpus(store, prompts), heldout=write_corpus(store, heldout))


def _human(documents: Iterable[Document]) -> Iterator[Document]:
    """Files seldom say who wrote them; a source of human text is taken at its word, and a contradiction is refused."""
    for document in documents:
        if document.origin is Origin.SYNTHETIC:
            told = f"document {document.id[:80]!r} of the source says that it is synthetic; give human text"
            raise InvalidRequest(told)
        yield replace(document, origin=Origin.HUMAN)


def _held_out_order(store: ArtifactStore, spec: RunSpec, heldout: ArtifactRef) -> list[Document]:
    """Return held-out documents long enough to be asked about, in the order of a hash keyed by the seed of the run.

    A word has at least one token, so more words than `prompt_length` leave a token to predict in either unit.
    """
    words = spec.evaluation.prompt_length
    long_enough = (document for document in read_corpus(store, heldout) if len(document.text.split()) > words)
    return sorted(long_enough, key=_order(spec, "heldout"))


def _order(spec: RunSpec, purpose: str) -> Callable[[Document], tuple[bytes, str]]:
    key = derive_seed(spec.seed, purpose).to_bytes(8)

    def place(document: Document) -> tuple[bytes, str]:
        return hashlib.blake2b(document.text.encode(), key=key, digest_size=16).digest(), document.id

    return place


def _write_first(store: ArtifactStore, documents: list[Document], count: int, field: str, spec: RunSpec) -> ArtifactRef:
    if len(documents) < count:
        raise PreconditionFailed(
            f"{field} asks for {count} held-out documents of more than {spec.evaluation.prompt_length} words, the "
            f"source has {len(documents)}; ask for fewer, shorten evaluation.prompt_length, or give more text"
        )
    return write_corpus(store, documents[:count])


def _unigram_sample(store: ArtifactStore, spec: RunSpec, prompts: ArtifactRef) -> list[Document]:
    ordered = sorted(read_corpus(store, prompts), key=_order(spec, "unigram"))
    return list(islice(ordered, UNIGRAM_DOCUMENTS))
