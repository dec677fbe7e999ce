"""Deals the text of a domain into two parts, by a hash of the text alone (`corpora.parts`).

So nothing a model is trained on is ever held out, neither in one domain nor across several: the same words are in the
same part wherever they are found.

- prompts: windows of it are prompts, real continuations and the training text of the human arm. The embedded corpus
  gives its PROMPT part (its TRAIN part taught ouro-tiny); another source gives everything that is not held out.
- held out: examines the models; never prompted with, never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ouroscope.canonical import digest_of
from ouroscope.corpora.docstrings import SOURCES, Part, gather, part_of
from ouroscope.corpora.hub import is_hub
from ouroscope.corpora.sources import version_of
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.progress import Progress
from ouroscope.records.runs import DomainSpec
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.store import ArtifactStore
from services.coordinator.dataset.sources import EMBEDDED, documents_of, hub_text
from services.coordinator.dataset.texts import Parts

Report = Callable[[Progress], None]


def parts_of(store: ArtifactStore, domain: DomainSpec, report: Report, allowed: AllowedSources = EVERYTHING) -> Parts:
    """Return the two parts of a domain.

    The embedded corpus and what the Hub pins by a commit are remembered, since reading them takes long.

    Raises:
        NotFound: the source is not there.
        NotPermitted: it is none of the allowed ones.
        InvalidRequest: it cannot be read, or is empty.
        PreconditionFailed: one of the parts would be empty.
        Unavailable: the Hub does not answer.
    """
    if domain.source == EMBEDDED:
        return _of_libraries(store, domain, _embedded(store, report))
    if not is_hub(domain.source):
        return _read(store, domain, allowed)
    allowed.check_hub(hub_text(domain).repository)
    key = digest_of("services.coordinator.dataset.hub/1", domain)
    if (known := store.get_result(key, Parts)) is None:
        known = _read(store, domain, allowed)
        store.put_result(key, known)
    return known


def _embedded(store: ArtifactStore, report: Report) -> Parts:
    """Return the parts of the whole embedded corpus: it is gathered as a whole, so that no library has a copy."""
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


def _of_libraries(store: ArtifactStore, domain: DomainSpec, whole: Parts) -> Parts:
    """Return what a domain takes of the embedded corpus: all, or the first by their ids, which are hashes."""
    if not (domain.name or domain.libraries or domain.documents):
        return whole
    pools = ((Part.PROMPT, whole.prompts), (Part.HELD_OUT, whole.heldout))
    dealt = [(part, document) for part, ref in pools for document in _taken(store, ref, domain)]
    if domain.documents:
        dealt = sorted(dealt, key=lambda one: one[1].id)[: domain.documents]
    return _keep(store, [(part, _named(domain, document)) for part, document in dealt], {Part.PROMPT})


def _taken(store: ArtifactStore, ref: ArtifactRef, domain: DomainSpec) -> Iterator[Document]:
    for document in read_corpus(store, ref):
        if not domain.libraries or document.domain in domain.libraries:
            yield document


def _read(store: ArtifactStore, domain: DomainSpec, allowed: AllowedSources) -> Parts:
    documents = (_named(domain, document) for document in documents_of(domain, allowed))
    return _keep(store, [(part_of(document.text), document) for document in documents], {Part.TRAIN, Part.PROMPT})


def _named(domain: DomainSpec, document: Document) -> Document:
    """Return a document as its domain has it: two domains may well have files, and groups, of the same name."""
    if not domain.name:
        return document
    group = document.group and f"{domain.name}/{document.group}"
    return replace(document, id=f"{domain.name}/{document.id}", group=group, domain=domain.name)


def _keep(store: ArtifactStore, dealt: Sequence[tuple[Part, Document]], pool: set[Part]) -> Parts:
    prompts = [document for part, document in dealt if part in pool]
    heldout = [document for part, document in dealt if part is Part.HELD_OUT]
    if not prompts or not heldout:
        raise PreconditionFailed(
            f"of the {len(dealt)} documents of the source none could be held out, or all were (8 % are, by a hash of "
            "their words); give more text, as one document per line rather than one per file"
        )
    return Parts(prompts=write_corpus(store, prompts), heldout=write_corpus(store, heldout))
