"""Measures what a person names on the command line: files, stored corpora, reports, baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import InvalidRequest, PreconditionFailed
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.progress import Progress
from ouroscope_app.home import Home
from ouroscope_app.kept import find
from ouroscope_app.output import progress
from services.analyzer import baselines, reports
from services.analyzer.analysis import analyze
from services.analyzer.parsing.sources import SHIPPED
from services.analyzer.side import Side, side_of
from services.analyzer.tools import Tools, open_tools

STORED = {f"{kind.value.lower()}/" for kind in ArtifactKind}


def tools_of(parser: str, encoder: str, processes: int) -> Tools:
    """Return the tools for measuring here, with the parser and the encoder that were named.

    Raises:
        InvalidRequest: there is no such parser.
        NotFound: there is no such encoder.
        PreconditionFailed: the parser that nobody had to name cannot be used here.
    """
    try:
        return open_tools(parser, processes, encoder)
    except PreconditionFailed as error:
        if parser == SHIPPED:
            raise
        raise InvalidRequest(error.message) from error


def side_named(home: Home, name: str, text_field: str, view: View, tools: Tools) -> Side:
    """Return the report on what `name` names: a file, `-`, a stored corpus, a report, or a baseline.

    Raises:
        NotFound: there is no such thing.
        InvalidRequest: it holds no documents.
    """
    if not Path(name).exists():
        if name.startswith(f"{baselines.SPACE}/"):
            return reports.read(home.store(), find(home.store(), name).baseline)
        if any(name.startswith(kind) for kind in STORED):
            reference = ArtifactRef.parse(name)
            if reference.kind is not ArtifactKind.CORPUS:
                return reports.read(home.store(), reference)
    return measure(documents_of(home, [name], text_field), (), view, name, tools)


def documents_of(home: Home, names: Sequence[str], text_field: str) -> Iterator[Document]:
    """Yield the documents of files, directories, `-` and stored corpora, in the order given."""
    return chain.from_iterable(_documents(home, name, text_field) for name in names)


def _documents(home: Home, name: str, text_field: str) -> Iterator[Document]:
    if name.startswith("corpus/") and not Path(name).exists():
        return read_corpus(home.store(), ArtifactRef.parse(name))
    return read_documents(name, text_field=text_field)


def measure(documents: Iterator[Document], metrics: Sequence[str], view: View, label: str, tools: Tools) -> Side:
    """Measure documents in this process, with progress on stderr."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with progress(*columns, transient=True) as bar:
        task = bar.add_task(label)

        def show(now: Progress) -> None:
            total = f" of {now.total:,}" if now.total else ""
            bar.update(task, description=f"{label}: {now.stage}, {now.done:,}{total} {now.unit}")

        report, prints = analyze(documents, view=view, metrics=metrics, tools=tools, on_progress=show)
    return side_of(report, prints)
