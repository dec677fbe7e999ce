"""Where the text of a domain comes from: the embedded corpus, files, data sets of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, islice

from ouroscope.corpora.docstrings import SOURCES
from ouroscope.corpora.hub import HubText, check_hub, hub_documents, is_hub
from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.sources import version_of
from ouroscope.errors import FieldProblem, InvalidRequest, NotFound, OuroscopeError, PreconditionFailed
from ouroscope.paths import is_there
from ouroscope.records.documents import Document, Origin
from ouroscope.records.runs import DatasetSpec, DomainSpec
from ouroscope.security.allowed import EVERYTHING, AllowedSources

EMBEDDED = "embedded"


def check_source(dataset: DatasetSpec, allowed: AllowedSources = EVERYTHING) -> None:
    """Check that every source can be there, without reading any; cheap enough for every request.

    Raises:
        NotFound: there is no such file.
        NotPermitted: it is none of the allowed ones.
        InvalidRequest: a source is described wrongly, or two domains share their text; with every problem.
        CapabilityMissing: a data set of the Hub is named and the library that reads it is not installed.
    """
    domains = dataset.sources()
    found = [(_field(dataset, position), _problem(domain, allowed)) for position, domain in enumerate(domains)]
    errors = [(field, error) for field, error in found if error is not None]
    errors += [("dataset.domains", error) for pair in combinations(domains, 2) for error in _overlap(*pair)]
    raise_all(errors)


def raise_all(errors: Sequence[tuple[str, OuroscopeError]]) -> None:
    """Raise what was found: a single error as it is, several as one InvalidRequest that tells them all."""
    if len(errors) == 1:
        raise errors[0][1]
    if errors:
        told = "; ".join(f"{field}: {error.message}" for field, error in errors)
        raise InvalidRequest(f"the data set is not valid: {told}", [FieldProblem(f, e.message) for f, e in errors])


def documents_of(domain: DomainSpec, allowed: AllowedSources = EVERYTHING) -> Iterator[Document]:
    """Yield the documents of a domain that is not embedded, at most as many as it asks for.

    Raises:
        NotFound: the source is not there.
        NotPermitted: it, or a file that a link in it leads to, is none of the allowed ones.
        InvalidRequest: it cannot be read, has no text in `text_field` or no summary in `summary_field`, or says that
            it is synthetic.
        Unavailable: the Hub does not answer.
    """
    text, summary = domain.text_field, domain.summary_field
    if is_hub(domain.source):
        allowed.check_hub(hub_text(domain).repository)
        return hub_documents(hub_text(domain), text_field=text, summary_field=summary, documents=domain.documents)
    path = allowed.path(domain.source)
    found = read_documents(path, text_field=text, summary_field=summary, opens=allowed.open)
    return _human(islice(found, domain.documents or None))


def hub_text(domain: DomainSpec) -> HubText:
    """Return which text of the Hub a domain names."""
    return HubText(
        source=domain.source, configuration=domain.configuration, split=domain.split, revision=domain.revision
    )


def _field(dataset: DatasetSpec, position: int) -> str:
    return f"dataset.domains[{position}]" if dataset.domains else "dataset"


def _problem(domain: DomainSpec, allowed: AllowedSources) -> OuroscopeError | None:
    try:
        _check(domain, allowed)
    except OuroscopeError as error:
        return error
    return None


def _check(domain: DomainSpec, allowed: AllowedSources) -> None:
    if domain.libraries and domain.source != EMBEDDED:
        raise InvalidRequest(f"libraries are parts of the source {EMBEDDED!r}; leave them out for other sources")
    if domain.source == EMBEDDED:
        _check_libraries(domain.libraries)
    elif is_hub(domain.source):
        check_hub(hub_text(domain))
        allowed.check_hub(hub_text(domain).repository)
    elif not is_there(allowed.path(domain.source)):
        raise NotFound(
            f"there is no file or folder {domain.source[:200]!r}; give a path that exists, `{EMBEDDED}` or "
            "hf://OWNER/NAME"
        )


def _check_libraries(libraries: Sequence[str]) -> None:
    known = {source.name: source for source in SOURCES}
    if unknown := [name for name in libraries if name not in known]:
        told = ", ".join(repr(name[:40]) for name in unknown[:10])
        raise InvalidRequest(f"the embedded corpus has no library {told}; it has {', '.join(sorted(known))}")
    if absent := [name for name in libraries if version_of(known[name]) is None]:
        raise PreconditionFailed(f"not installed here: {', '.join(absent)}; name libraries that are installed")


def _overlap(one: DomainSpec, other: DomainSpec) -> list[OuroscopeError]:
    """Return why two domains have the same text, as far as their sources tell."""
    same = (one.source, one.configuration, one.split) == (other.source, other.configuration, other.split)
    if not same or (one.source == EMBEDDED and not _shared_libraries(one, other)):
        return []
    what = f"libraries {_shared_libraries(one, other)}" if one.source == EMBEDDED else "the same source"
    told = f"domains {one.name!r} and {other.name!r} both take {what}; every text belongs to one domain"
    return [InvalidRequest(told)]


def _shared_libraries(one: DomainSpec, other: DomainSpec) -> str:
    every = {source.name for source in SOURCES}
    return ", ".join(sorted((set(one.libraries) or every) & (set(other.libraries) or every)))


def _human(documents: Iterable[Document]) -> Iterator[Document]:
    """Files seldom say who wrote them; a source of human text is taken at its word, and a contradiction is refused."""
    for document in documents:
        if document.origin is Origin.SYNTHETIC:
            told = f"document {document.id[:80]!r} of the source says that it is synthetic; give human text"
            raise InvalidRequest(told)
        yield replace(document, origin=Origin.HUMAN)
