"""The embedded corpus: real English prose that ships with every installation, gathered from docstrings.

Tens of thousands of paragraphs, written by the authors of the libraries this project needs anyway. No network, no
download, no copy in the repository: the text is read where it is installed, and a library that is missing is skipped
and reported. Which versions were read is part of the result, because the corpus changes when they do; which part a
paragraph belongs to never changes (see `parts`).

Gathering takes seconds; a caller that needs the corpus often should store the documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from types import MappingProxyType

from ouroscope.corpora.parts import Part, distinct, fingerprint, identity, part_of
from ouroscope.corpora.prose import passages
from ouroscope.corpora.sources import STANDARD_LIBRARY, TOPICS, Source, files_of, version_of
from ouroscope.records.documents import Document, Origin

__all__ = ["SOURCES", "EmbeddedCorpus", "Part", "Tally", "gather", "part_of", "tallies"]

_SAME_NAME = (
    "torch transformers sympy networkx numpy scipy sqlalchemy pyarrow peft accelerate spacy networkit mpmath "
    "huggingface_hub fsspec tokenizers safetensors dbos alembic pydantic thinc pygments click rich structlog psycopg "
    "setuptools urllib3 requests httpx anyio typer wrapt tqdm srsly weasel confection cloudpathlib psutil packaging "
    "regex"
)
SOURCES = (
    Source(name=STANDARD_LIBRARY),
    Source(name=TOPICS),
    *(Source(name=name) for name in _SAME_NAME.split()),
    Source(name="jinja2", distribution="Jinja2"),
    Source(name="grpc", distribution="grpcio"),
    Source(name="torchgen", distribution="torch"),
    Source(name="functorch", distribution="torch"),
    Source(name="dateutil", distribution="python-dateutil"),
    Source(name="mako", distribution="Mako"),
    Source(name="markdown_it", distribution="markdown-it-py"),
    Source(name="prometheus_client", distribution="prometheus-client"),
    Source(name="smart_open", distribution="smart-open"),
)
"""What is read, in this order: of two copies of a paragraph, the first library's stays.

Only what an installation with all extras brings; tools of developers would make a checkout differ from an installation.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedCorpus:
    """All paragraphs found, and where they came from."""

    documents: tuple[Document, ...]
    """In the order of `SOURCES`, then of files, then of appearance; `group` is the file and `domain` the library."""
    versions: Mapping[str, str]
    """Version of each library that was read."""
    skipped: tuple[str, ...]
    """Libraries that are not installed here."""

    def part(self, part: Part) -> tuple[Document, ...]:
        """Return the documents of one part, in corpus order."""
        return tuple(document for document in self.documents if part_of(document.text) is part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Size of a set of documents."""

    name: str
    paragraphs: int
    words: int
    """Runs of non-blank characters."""


def gather(sources: Sequence[Source] = SOURCES) -> EmbeddedCorpus:
    """Read the docstrings of the installed libraries and return their paragraphs, without copies.

    The same installation gives the same corpus. No library is imported.
    """
    installed = {source.name: version for source in sources if (version := version_of(source)) is not None}
    found = [source for source in sources if source.name in installed]
    return EmbeddedCorpus(
        documents=tuple(_without_copies([document for source in found for document in _documents_of(source)])),
        versions=MappingProxyType(installed),
        skipped=tuple(source.name for source in sources if source.name not in installed),
    )


def tallies(documents: Sequence[Document]) -> tuple[Tally, ...]:
    """Count paragraphs and words per library, in order of appearance."""
    by_domain: dict[str, list[int]] = {}
    for document in documents:
        by_domain.setdefault(document.domain or "unknown", []).append(len(document.text.split()))
    return tuple(Tally(name=name, paragraphs=len(words), words=sum(words)) for name, words in by_domain.items())


def _documents_of(source: Source) -> Iterator[Document]:
    for file in files_of(source):
        for docstring in file.docstrings():
            for text in passages(docstring):
                yield Document(id=identity(text), text=text, origin=Origin.HUMAN, group=file.module, domain=source.name)


def _without_copies(documents: list[Document]) -> Iterator[Document]:
    """Drop copies over the whole corpus: one in another part would let the small model have seen a prompt."""
    yield from compress(documents, distinct(fingerprint(document.text) for document in documents))
