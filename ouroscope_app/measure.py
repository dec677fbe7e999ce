"""Measures what a person names on the command line: files, stored corpora, reports, baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from ouroscope.canonical import digest_of
from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import InvalidRequest, PreconditionFailed
from ouroscope.records.analysis import CountingSpec
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from ouroscope_app.expectations import NOTHING, Expectations
from ouroscope_app.home import Home, is_reference
from ouroscope_app.kept import find
from ouroscope_app.output import progress
from services.analyzer import baselines, reports
from services.analyzer.analysis import Options, analyze_side
from services.analyzer.parsing.sources import SHIPPED
from services.analyzer.side import Side
from services.analyzer.spreading.corpus import SpreadCorpus
from services.analyzer.spreading.shards import Shard, file_shards, stored_shards
from services.analyzer.tools import Tools, open_tools
from services.analyzer.watch import Watch


def tools_of(parser: str, encoder: str, processes: int, executor: str = "local", ray_address: str = "") -> Tools:
    """Return the tools for measuring, with the parser and the encoder that were named, here or on a cluster.

    Raises:
        InvalidRequest: there is no such parser.
        NotFound: there is no such encoder.
        PreconditionFailed: the parser that nobody had to name cannot be used here.
    """
    try:
        return open_tools(parser, processes, encoder, executor, ray_address)
    except PreconditionFailed as error:
        if parser == SHIPPED:
            raise
        raise InvalidRequest(error.message) from error


DRAWN_CONCEPTS, REPEATED_TEXTS = 40, 20
"""What an explanation needs of a candidate: its central concepts, and what its texts repeat."""


def side_named(
    home: Home,
    name: str,
    text_field: str,
    view: View,
    tools: Tools,
    expected: Expectations = NOTHING,
    *,
    explained: bool = False,
) -> Side:
    """Return the report on what `name` names: a file, `-`, a stored corpus, a report, or a baseline.

    What the model of a text is `expected` to say is measured with it, and what has to be known of a candidate that is
    to be `explained`; a report and a baseline are finished.

    Raises:
        NotFound: there is no such thing.
        InvalidRequest: it holds no documents.
    """
    if name.startswith(f"{baselines.SPACE}/") and not Path(name).exists():
        return reports.read(home.store(), find(home.store(), name).baseline)
    if is_reference(name):
        reference = ArtifactRef.parse(name)
        if reference.kind is not ArtifactKind.CORPUS:
            return reports.read(home.store(), reference)
    documents = documents_of(home, [name], text_field)
    return measure(documents, (), view, name, tools, expected, explained=explained)


def texts_of(
    home: Home, names: Sequence[str], text_field: str, metrics: Sequence[str], tools: Tools
) -> Iterator[Document] | SpreadCorpus:
    """Return the documents of files and stored corpora, or their shards where the tools read on a cluster."""
    if tools.readers is None:
        return documents_of(home, names, text_field)
    store = home.prepare().store()
    shards = chain.from_iterable(_shards(store, name, text_field) for name in names)
    # A command that is given again goes on where it was.
    asked = digest_of("analyze", list(names), text_field, list(metrics))
    return SpreadCorpus(store, list(shards), tools.readers, asked)


def _shards(store: ArtifactStore, name: str, text_field: str) -> Sequence[Shard]:
    return stored_shards(store, ArtifactRef.parse(name)) if is_reference(name) else file_shards(name, text_field)


def documents_of(home: Home, names: Sequence[str], text_field: str) -> Iterator[Document]:
    """Yield the documents of files, directories, `-` and stored corpora, in the order given."""
    return chain.from_iterable(_documents(home, name, text_field) for name in names)


def _documents(home: Home, name: str, text_field: str) -> Iterator[Document]:
    if is_reference(name):
        return read_corpus(home.store(), ArtifactRef.parse(name))
    return read_documents(name, text_field=text_field)


def measure(
    documents: Iterator[Document] | SpreadCorpus,
    metrics: Sequence[str],
    view: View,
    label: str,
    tools: Tools,
    expected: Expectations = NOTHING,
    *,
    explained: bool = False,
    counting: CountingSpec | None = None,
) -> Side:
    """Measure documents in this process, with progress on stderr."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with progress(*columns, transient=True) as bar:
        task = bar.add_task(label)

        def show(now: Progress) -> None:
            total = f" of {now.total:,}" if now.total else ""
            bar.update(task, description=f"{label}: {now.stage}, {now.done:,}{total} {now.unit}")

        options = Options(
            view=view,
            metrics=tuple(metrics),
            drawn_concepts=DRAWN_CONCEPTS if explained else 0,
            repeated_texts=REPEATED_TEXTS if explained else 0,
            whole_corpus=counting,
        )
        watch = Watch(on_progress=show)
        return analyze_side(documents, expected.next_tokens, expected.texts, options=options, tools=tools, watch=watch)
