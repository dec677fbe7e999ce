"""`ouroscope corpus`: look at human text, and bring it into the store."""

from __future__ import annotations

import os

import typer
from rich.table import Table

from ouroscope.corpora.docstrings import Part, gather, tallies
from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope_app.home import Home
from ouroscope_app.output import answers, command, notes, print_json

app = typer.Typer(help="Look at human text, and bring it into the store.", no_args_is_help=True)


@app.command("build")
@command
def build(
    source: str = typer.Argument("embedded", help="`embedded`, a file, a directory, or - for standard input."),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Write a corpus into the store and print its reference, which other commands take in place of a file."""
    store = Home.find(os.environ).prepare().store()
    documents = gather().documents if source == "embedded" else read_documents(source, text_field=text_field)
    with notes.status(f"reading {source}"):
        reference = write_corpus(store, documents)
    summary = dict(store.manifest(reference).summary)
    if json_:
        print_json({"corpus": str(reference), **summary})
    else:
        answers.print(str(reference), soft_wrap=True)


@app.command("show")
@command
def show(
    reference: str = typer.Argument("embedded", help="`embedded`, or a reference such as corpus/DIGEST."),
    documents: int = typer.Option(3, min=0, max=1000, help="Documents to print."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Say what is in a corpus."""
    if reference == "embedded":
        _show_embedded(json_)
    else:
        _show_stored(ArtifactRef.parse(reference).expect(ArtifactKind.CORPUS, "reference"), documents, json_)


def _show_embedded(json_: bool) -> None:
    with notes.status("reading the docstrings of the installed libraries"):
        corpus = gather()
    parts = {part.value.lower(): len(corpus.part(part)) for part in Part}
    counted = tallies(corpus.documents)
    if json_:
        libraries = [{"name": t.name, "paragraphs": t.paragraphs, "words": t.words} for t in counted]
        versions = dict(corpus.versions)
        print_json({"libraries": libraries, "parts": parts, "versions": versions, "skipped": list(corpus.skipped)})
        return
    table = Table("library", "version", box=None, pad_edge=False)
    table.add_column("paragraphs", justify="right")
    table.add_column("words", justify="right")
    for tally in counted:
        table.add_row(tally.name, corpus.versions.get(tally.name, ""), f"{tally.paragraphs:,}", f"{tally.words:,}")
    table.add_section()
    table.add_row("all", "", f"{sum(t.paragraphs for t in counted):,}", f"{sum(t.words for t in counted):,}")
    answers.print(table)
    answers.print("parts: " + ", ".join(f"{name} {count:,}" for name, count in parts.items()))
    if corpus.skipped:
        notes.print(f"not installed, so not read: {', '.join(corpus.skipped)}")


def _show_stored(reference: ArtifactRef, documents: int, json_: bool) -> None:
    store = Home.find(os.environ).store()
    summary = dict(store.manifest(reference).summary)
    shown = [document for _, document in zip(range(documents), read_corpus(store, reference), strict=False)]
    if json_:
        texts = [{"id": d.id, "origin": d.origin.value, "text": d.text} for d in shown]
        print_json({"corpus": str(reference), **summary, "first": texts})
        return
    answers.print(f"{reference}\n" + ", ".join(f"{key} {value}" for key, value in summary.items()), soft_wrap=True)
    for document in shown:
        answers.print(f"\n[dim]{document.id}, {document.origin.value.lower()}[/]")
        answers.print(document.text, markup=False)
