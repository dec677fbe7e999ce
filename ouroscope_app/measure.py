"""Measures what a person names on the command line: files, stored corpora, reports, baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import read_corpus
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.progress import Progress
from ouroscope_app.home import Home
from ouroscope_app.output import notes
from services.analyzer import baselines, reports
from services.analyzer.analysis import analyze
from services.analyzer.side import Side, side_of
from services.analyzer.tools import Tools

STORED = {f"{kind.value.lower()}/" for kind in ArtifactKind}


def side_named(home: Home, name: str, text_field: str, view: View, tools: Tools) -> Side:
    """Return the report on what `name` names: a file, `-`, a stored corpus, a report, or a baseline.

    Raises:
        NotFound: there is no such thing.
        InvalidRequest: it holds no documents.
    """
    if not Path(name).exists():
        if name.startswith(f"{baselines.SPACE}/"):
            return reports.read(home.store(), baselines.get(home.store(), name).baseline)
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
    with Bar(*columns, console=notes, transient=True) as bar:
        task = bar.add_task(label)

        def show(progress: Progress) -> None:
            total = f" of {progress.total:,}" if progress.total else ""
            bar.update(task, description=f"{label}: {progress.stage}, {progress.done:,}{total} {progress.unit}")

        report, prints = analyze(documents, view=view, metrics=metrics, tools=tools, on_progress=show)
    return side_of(report, prints)
