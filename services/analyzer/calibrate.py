"""Command: measure human spread and write the calibration table, from the embedded corpus or from files.

    python -m services.analyzer.calibrate TABLE                        the libraries of the embedded corpus
    python -m services.analyzer.calibrate TABLE --files A.jsonl ...    a source for each domain in the files
    python -m services.analyzer.calibrate TABLE --parser NAME          with the pipeline that parses your reports
    python -m services.analyzer.calibrate TABLE --encoder NAME         with the model that embeds your documents

Every document of a file needs its source in the field `domain`. A table judges what needs a parser, or an encoder, only
in reports that were made with the same one. With --store and --predictions the model metrics are calibrated too, from
records of text whose `domain` is the source. `OURO_ANALYZER_HUMAN_SPREAD` makes an analyzer use the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from ouroscope.canonical import to_plain
from ouroscope.corpora.docstrings import gather
from ouroscope.corpora.readers import read_documents
from ouroscope.embedded import pipeline_directory
from ouroscope.errors import InvalidRequest, OuroscopeError
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.store import ArtifactStore
from services.analyzer.calibration import ModelRecords, Provenance, calibrate
from services.analyzer.parsing.parser import NONE
from services.analyzer.parsing.sources import SHIPPED
from services.analyzer.spread import HumanSpread
from services.analyzer.tools import open_tools


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        table = _measure(options)
        options.table.write_text(json.dumps(to_plain(table), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except (OuroscopeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.analyzer.calibrate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("table", type=Path, help="file to write")
    parser.add_argument("--files", nargs="+", metavar="FILE", help="text of your own instead of the embedded corpus")
    parser.add_argument("--store", help="artifact store that holds the predictions")
    parser.add_argument("--predictions", type=ArtifactRef.parse, help="predictions/<digest>")
    parser.add_argument("--model", default="", help="name of the model that made the predictions")
    parser.add_argument(
        "--parser", default=_default_parser(), help="spaCy pipeline by name or folder, or none (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=1, help="processes that parse (default: 1)")
    parser.add_argument("--encoder", default=NONE, help="model for embeddings by folder or id (default: %(default)s)")
    return parser


def _measure(options: argparse.Namespace) -> HumanSpread:
    versions: Mapping[str, str] = {}
    if options.files:
        documents: Iterable[Document] = (one for path in options.files for one in read_documents(path))
    else:
        corpus = gather()
        documents, versions = corpus.documents, corpus.versions
    provenance = Provenance(
        date=datetime.now(UTC).date().isoformat(), command=_told(options), versions=versions, model=options.model
    )
    with closing(open_tools(options.parser, options.processes, options.encoder)) as tools:
        return calibrate(_by_source(documents), provenance, records=_records(options), tools=tools)


def _default_parser() -> str:
    return SHIPPED if pipeline_directory(SHIPPED) else NONE


def _by_source(documents: Iterable[Document]) -> dict[str, list[Document]]:
    sources = defaultdict(list)
    for document in documents:
        if document.domain is None:
            raise InvalidRequest(f"document {document.id!r} does not say its source; add the field domain to every one")
        sources[document.domain].append(document)
    return sources


def _records(options: argparse.Namespace) -> dict[str, ModelRecords]:
    if options.predictions is None:
        return {}
    store = ArtifactStore(options.store)
    records: dict[str, ModelRecords] = defaultdict(ModelRecords)
    for token in read_next_tokens(store, options.predictions):
        records[token.domain or ""].next_tokens.append(token)
    for text in read_scored_texts(store, options.predictions):
        records[text.domain or ""].texts.append(text)
    return records


def _told(options: argparse.Namespace) -> str:
    """Return the command without the folders of this machine."""
    words = ["python -m services.analyzer.calibrate", options.table.name]
    if options.files:
        words += ["--files", *(Path(path).name for path in options.files)]
    words += ["--parser", Path(options.parser).name]
    if options.encoder != NONE:
        words += ["--encoder", Path(options.encoder).name]
    if options.predictions:
        words += ["--store STORE --predictions", str(options.predictions), "--model", options.model]
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
