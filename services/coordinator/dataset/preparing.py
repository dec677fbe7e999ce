"""The corpora of a run: those of all its domains, and of the fewer that its arms keep to.

Of every domain as many held-out documents are taken as the evaluation asks for, so that each cell of a cross-dataset
table stands on as much text as the others. Knows no model and no loop; blocks for seconds, the embedded corpus and the
Hub longer, so call it from a thread.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import structlog

from ouroscope.corpora.parts import identity
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import (
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotPermitted,
    OuroscopeError,
    PreconditionFailed,
    UntrustedArtifact,
)
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.progress import Progress
from ouroscope.records.runs import DomainSpec, RunSpec
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.seeds import derive_seed
from ouroscope.store import ArtifactStore
from services.coordinator.dataset.dealing import Report, parts_of
from services.coordinator.dataset.texts import Dataset, Dealt, Parts, Texts

log = structlog.get_logger(__name__)

Unreadable = list[tuple[str, OuroscopeError]]
"""Domains that cannot be read, and why."""
AT_FAULT = (NotFound, NotPermitted, InvalidRequest, PreconditionFailed, LimitExceeded, UntrustedArtifact)
"""Errors of a text; what waiting may mend is raised at once."""
UNIGRAM_DOCUMENTS = 2000
"""Human documents on which the unigram model is fitted that the base model is measured beside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One domain, read and dealt."""

    spec: DomainSpec
    parts: Parts
    examined: tuple[Document, ...]
    """Held-out documents long enough to be asked about, in the order in which they are taken."""
    known: frozenset[str] = frozenset()
    """Names of its texts; empty where it is the only domain."""

    @property
    def name(self) -> str:
        """Return its name; empty where the run has one source."""
        return self.spec.name


def prepare(store: ArtifactStore, spec: RunSpec, report: Report, allowed: AllowedSources = EVERYTHING) -> Dataset:
    """Return the corpora of a run; the same specification and the same text give the same ones.

    Raises:
        NotFound: a source is not there.
        NotPermitted: it is none of the allowed ones.
        InvalidRequest: it cannot be read, or is empty.
        PreconditionFailed: a domain has too little text for what is asked; told of all domains at once.
        Unavailable: the Hub does not answer.
    """
    domains, unreadable = _dealt(store, spec, report, allowed)
    _check_all(spec, domains, unreadable)
    report(Progress(stage="dataset", done=2, total=3, unit="steps"))
    every = _texts(store, spec, domains)
    sets = {(domain.name,) for domain in domains} | {tuple(sorted(set(arm.domains))) for arm in spec.arms}
    narrower = [tuple(d for d in domains if d.name in names) for names in sorted(sets) if any(names)]
    return Dataset(
        prompts=every.prompts,
        heldout=every.heldout,
        questions=every.questions,
        unigram=write_corpus(store, _unigram_sample(store, spec, every.prompts)),
        narrower=tuple(_texts(store, spec, some) for some in narrower if len(some) < len(domains)),
        dealt=_counts(store, domains),
    )


def joined(store: ArtifactStore, corpora: Sequence[ArtifactRef]) -> ArtifactRef:
    """Return one corpus of all documents; that of a single one is that one itself."""
    if len(corpora) == 1:
        return corpora[0]
    return write_corpus(store, chain.from_iterable(read_corpus(store, corpus) for corpus in corpora))


def _dealt(
    store: ArtifactStore, spec: RunSpec, report: Report, allowed: AllowedSources
) -> tuple[tuple[Domain, ...], Unreadable]:
    """Read every domain, in alphabetical order, so that the order in which they are named changes nothing."""
    found, unreadable = list[Domain](), list[tuple[str, OuroscopeError]]()
    sources = sorted(spec.dataset.sources(), key=lambda domain: domain.name)
    for domain in sources:
        try:
            parts = parts_of(store, domain, report, allowed)
        except AT_FAULT as error:
            unreadable.append((domain.name, error))
        else:
            known = _names_of(store, parts) if len(sources) > 1 else frozenset[str]()
            examined = tuple(_held_out_order(store, spec, parts.heldout))
            found.append(Domain(spec=domain, parts=parts, examined=examined, known=known))
    return tuple(found), unreadable


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


def _check_all(spec: RunSpec, domains: Iterable[Domain], unreadable: Unreadable) -> None:
    """Raise a single error as it is, with its domain; several as one that tells them all."""
    short = list(_too_short(spec, domains))
    if len(unreadable) == 1 and not short:
        ((name, error),) = unreadable
        if name:
            error.add_note(f"domain {name}")
        raise error
    told = [f"domain {name}: {error.message}" for name, error in unreadable] + short
    if short:
        told.append("ask for fewer, shorten evaluation.prompt_length, or give more text")
    if told:
        raise PreconditionFailed("; ".join(told))


def _too_short(spec: RunSpec, domains: Iterable[Domain]) -> Iterator[str]:
    words = spec.evaluation.prompt_length
    asked = {
        "evaluation.heldout_documents": spec.evaluation.heldout_documents,
        "evaluation.prompts": spec.evaluation.prompts,
    }
    for domain in domains:
        for field, count in asked.items():
            if (there := len(domain.examined)) < count:
                wanted = f"{field} asks for {count} held-out documents of more than {words} words"
                yield f"{wanted}, {_spoken(domain)} has {there}"


def _spoken(domain: Domain) -> str:
    return f"the domain {domain.name!r}" if domain.name else "the source"


def _texts(store: ArtifactStore, spec: RunSpec, domains: Sequence[Domain]) -> Texts:
    """Return the corpora of some domains."""
    evaluation = spec.evaluation
    return Texts(
        domains=tuple(domain.name for domain in domains),
        prompts=joined(store, [domain.parts.prompts for domain in domains]),
        heldout=_write_first(store, spec, domains, evaluation.heldout_documents),
        questions=_write_first(store, spec, domains, evaluation.prompts),
    )


def _write_first(store: ArtifactStore, spec: RunSpec, domains: Iterable[Domain], count: int) -> ArtifactRef:
    """Store the first `count` held-out documents of every domain, mixed: whoever reads only some reads of all."""
    first = chain.from_iterable(domain.examined[:count] for domain in domains)
    return write_corpus(store, sorted(first, key=_order(spec, "heldout")))


def _unigram_sample(store: ArtifactStore, spec: RunSpec, prompts: ArtifactRef) -> list[Document]:
    return heapq.nsmallest(UNIGRAM_DOCUMENTS, read_corpus(store, prompts), key=_order(spec, "unigram"))


def _counts(store: ArtifactStore, domains: Sequence[Domain]) -> tuple[Dealt, ...]:
    found = Counter(chain.from_iterable(domain.known for domain in domains))
    counts = tuple(_count(store, domain, found) for domain in domains)
    if shared := {one.domain: one.shared for one in counts if one.shared}:
        log.warning("dataset.texts_shared", documents=shared)
    return counts


def _count(store: ArtifactStore, domain: Domain, found: Counter[str]) -> Dealt:
    prompts, heldout = (_documents_in(store, ref) for ref in (domain.parts.prompts, domain.parts.heldout))
    return Dealt(
        domain=domain.name,
        source=domain.spec.source,
        revision=domain.spec.revision,
        prompts=prompts,
        heldout=heldout,
        shared=sum(found[name] > 1 for name in domain.known),
    )


def _documents_in(store: ArtifactStore, ref: ArtifactRef) -> int:
    return int(store.manifest(ref).summary["documents"] or 0)


def _names_of(store: ArtifactStore, parts: Parts) -> frozenset[str]:
    return frozenset(identity(document.text) for document in _all_of(store, parts))


def _all_of(store: ArtifactStore, parts: Parts) -> Iterator[Document]:
    for ref in (parts.prompts, parts.heldout):
        yield from read_corpus(store, ref)
